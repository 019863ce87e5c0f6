//! One member of a group: everything that can happen to it, and what it wants done.

use bytes::Bytes;

use crate::config::Config;
use crate::error::{
    CampaignError, OpenError, ProposeError, Proposed, QuiesceError, ReadError, StepError,
    TransferError,
};
use crate::id::{Index, NodeId, Term};
use crate::membership::{Membership, MembershipChange, MembershipError};
use crate::message::Message;
use crate::ready::{Ready, Receipt};
use crate::rng::Rng;
use crate::status::{RoleName, Status};
use crate::storage::LogStore;

/// How sending a snapshot ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotOutcome {
    /// All of it arrived. Whether it was installed is told by the follower's acknowledgement.
    Sent,
    /// It did not arrive; another one is to be sent.
    Failed,
}

/// One member of one group, without clock, disk, thread or random source.
///
/// Events go in through methods that return at once; what they lead to comes out of
/// [`Node::ready`] and [`Node::on_synced`].
pub struct Node {
    config: Config,
    rng: Rng,
    store: Box<dyn LogStore + Send>,
}

impl Node {
    /// A node that goes on where its log left off; that of a new group when the log is empty.
    pub fn open(
        config: Config,
        rng: Rng,
        store: Box<dyn LogStore + Send>,
    ) -> Result<Self, OpenError> {
        config.check()?;
        Ok(Self { config, rng, store })
    }

    /// Takes a message from another node. A refusal is for the driver's log; nothing is to be
    /// done about it.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        unimplemented!("{message:?}")
    }

    /// Lets one tick pass.
    pub fn tick(&mut self) {
        unimplemented!()
    }

    /// Asks for a command to be appended.
    pub fn propose(&mut self, command: Bytes) -> Result<Proposed, ProposeError> {
        unimplemented!("{command:?}")
    }

    /// Asks for other members. The change takes effect with [`Node::apply_membership`].
    pub fn propose_membership(
        &mut self,
        change: MembershipChange,
    ) -> Result<Proposed, ProposeError> {
        unimplemented!("{change:?}")
    }

    /// Asks from which applied index on a read that arrives now may be served here. The answer
    /// comes in [`Ready::reads`](crate::Ready::reads) with the same context; that of a follower
    /// may be lost on the way.
    pub fn read_index(&mut self, context: Bytes) -> Result<(), ReadError> {
        unimplemented!("{context:?}")
    }

    /// What a leader inside its lease may read at, without asking anybody: once this index is
    /// applied, a read that arrived before this call may be served. `None` outside a lease.
    ///
    /// Take the view of the state machine first, and call this after: a lease that is valid now
    /// was valid when the view was taken.
    pub fn lease_read(&self) -> Option<Index> {
        unimplemented!()
    }

    /// How many more ticks [`Node::lease_read`] will answer unless something happens; `None`
    /// outside a lease, and `u32::MAX` when this node decides alone.
    pub fn lease_ticks(&self) -> Option<u32> {
        unimplemented!()
    }

    /// Hands leadership to a voter, or, on the leader with its own id, abandons a transfer that
    /// is under way. A follower passes the request on.
    pub fn transfer_leadership(&mut self, target: NodeId) -> Result<(), TransferError> {
        unimplemented!("{target}")
    }

    /// Holds an election now, with a pre-vote if that is on.
    pub fn campaign(&mut self) -> Result<(), CampaignError> {
        unimplemented!()
    }

    /// Makes a follower forget who leads, so that it grants votes at once. Returns whether it
    /// did: others, and followers in lease mode, whose leader rests on their memory, do not.
    pub fn forget_leader(&mut self) -> bool {
        unimplemented!()
    }

    /// Messages to this node were lost: it is to be probed before more is sent.
    pub fn report_unreachable(&mut self, id: NodeId) {
        unimplemented!("{id}")
    }

    /// Sending a snapshot to this node ended.
    pub fn report_snapshot(&mut self, id: NodeId, outcome: SnapshotOutcome) {
        unimplemented!("{id} {outcome:?}")
    }

    /// Something that the log store answered with [`LogError::Pending`](crate::LogError::Pending)
    /// is there now.
    pub fn on_log_fetched(&mut self) {
        unimplemented!()
    }

    /// Tells followers the commit index with the next round, without waiting for a message or a
    /// heartbeat. For commands whose effect others wait for.
    pub fn announce_commit(&mut self) {
        unimplemented!()
    }

    /// What is to be done now; `None` when there is nothing. Several may be under way.
    pub fn ready(&mut self) -> Option<Ready> {
        unimplemented!()
    }

    /// Whether [`Node::ready`] would return something.
    pub fn has_ready(&self) -> bool {
        unimplemented!()
    }

    /// Opens what waited for this write and those before it: votes, acknowledgements, our own
    /// copy in the quorum. Entries that may be applied because of it come with the next
    /// [`Ready`]. The messages are free to leave.
    pub fn on_synced(&mut self, receipt: Receipt) -> Vec<Message> {
        unimplemented!("{receipt:?}")
    }

    /// Everything up to `applied` has been applied. Membership entries among them must have been
    /// decided by [`Node::apply_membership`] or [`Node::refuse_membership`].
    pub fn on_applied(&mut self, applied: Index) {
        unimplemented!("{applied}")
    }

    /// Applies the membership entry at `index`, which [`Ready::committed`](crate::Ready) held.
    /// Returns the members from now on, to be stored with the applied index. An error is the same
    /// on every replica: the entry has no effect.
    pub fn apply_membership(&mut self, index: Index) -> Result<&Membership, MembershipError> {
        unimplemented!("{index}")
    }

    /// Decides that the membership entry at `index` has no effect. To be decided alike on every
    /// replica.
    pub fn refuse_membership(&mut self, index: Index) {
        unimplemented!("{index}")
    }

    /// Stops the timers of an idle node, until [`Node::wake`], a message, or a call that asks for
    /// something. All members of the group must do this together: a follower that goes on ticking
    /// takes the silence for a death.
    pub fn quiesce(&mut self) -> Result<(), QuiesceError> {
        unimplemented!()
    }

    /// Starts the timers again. A leader counts its quorum from now on; its lease is gone.
    pub fn wake(&mut self) {
        unimplemented!()
    }

    /// Whether the timers stand still.
    pub fn is_quiescent(&self) -> bool {
        unimplemented!()
    }

    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// What this node is.
    pub fn role(&self) -> RoleName {
        unimplemented!()
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        unimplemented!()
    }

    /// The leader of this term, when known.
    pub fn leader(&self) -> Option<NodeId> {
        unimplemented!()
    }

    /// The term.
    pub fn term(&self) -> Term {
        unimplemented!()
    }

    /// The last entry known to be committed.
    pub fn commit(&self) -> Index {
        unimplemented!()
    }

    /// The last entry that was reported as applied.
    pub fn applied(&self) -> Index {
        unimplemented!()
    }

    /// The newest entry's index.
    pub fn last_index(&self) -> Index {
        unimplemented!()
    }

    /// The term of the entry at `index`, while it is known.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        unimplemented!("{index}")
    }

    /// The members, as of the last applied change.
    pub fn membership(&self) -> &Membership {
        unimplemented!()
    }

    /// Everything that can be seen from outside.
    pub fn status(&self) -> Status {
        unimplemented!()
    }
}
