//! Looking at a node without changing it.

use super::Node;
use crate::id::{Index, NodeId, Term};
use crate::membership::Membership;
use crate::progress::Progress;
use crate::role::Role;
use crate::role::leader::Leader;
use crate::status::{ProgressStatus, RoleName, Status};

impl Node {
    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.state.id()
    }

    /// What this node is.
    pub fn role(&self) -> RoleName {
        self.role.name()
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The leader of this term, when known.
    pub fn leader(&self) -> Option<NodeId> {
        self.state.leader
    }

    /// The term.
    pub fn term(&self) -> Term {
        self.state.term
    }

    /// The last entry known to be committed.
    pub fn commit(&self) -> Index {
        self.state.log.commit()
    }

    /// The last entry that was reported as applied.
    pub fn applied(&self) -> Index {
        self.state.log.applied()
    }

    /// The newest entry's index.
    pub fn last_index(&self) -> Index {
        self.state.log.last().index
    }

    /// The term of the entry at `index`, while it is known.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.state.log.term(index).ok()
    }

    /// The members, as of the last applied change.
    pub fn membership(&self) -> &Membership {
        &self.state.membership
    }

    /// Whether the timers stand still.
    pub fn is_quiescent(&self) -> bool {
        self.is_quiescent
    }

    /// Everything that can be seen from outside.
    pub fn status(&self) -> Status {
        let state = &self.state;
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        };
        Status {
            id: state.id(),
            role: self.role.name(),
            leader: state.leader,
            hard_state: state.hard_state(),
            applied: state.log.applied(),
            handed_out: state.log.handed(),
            durable: state.log.durable(),
            first: state.log.first(),
            last: state.log.last().index,
            membership: state.membership.clone(),
            progress: leader.map(|leader| self.progress_of(leader)).unwrap_or_default(),
            transfer: leader.and_then(|leader| leader.transfer_target()),
            uncommitted_bytes: leader.map_or(0, |leader| leader.uncommitted_bytes()),
            reads_waiting: leader.map_or(0, |leader| leader.reads_waiting()),
            is_quiescent: self.is_quiescent,
            log_fault: state.log.fault,
            counters: state.counters,
        }
    }

    fn progress_of(&self, leader: &Leader) -> Vec<ProgressStatus> {
        let show = |progress: &Progress| {
            let is_self = progress.id == self.state.id();
            let (matched, next) = if is_self {
                (self.state.log.durable(), self.state.log.last().index.next())
            } else {
                (progress.matched, progress.next)
            };
            ProgressStatus {
                id: progress.id,
                matched,
                next,
                state: progress.state,
                is_learner: !progress.halves.any(),
                is_active: progress.is_active || is_self,
                inflight: progress.window.count(),
            }
        };
        leader.progress().iter().map(show).collect()
    }
}
