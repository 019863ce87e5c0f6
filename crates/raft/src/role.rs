//! The rules of each role (Raft figure 2, "Rules for Servers").
//!
//! ```text
//!                 timeout                grants              votes
//!   Follower ─────────────▶ PreCandidate ─────▶ Candidate ─────────▶ Leader
//!      ▲                         │                  │                  │
//!      └─────────────────────────┴──────────────────┴──────────────────┘
//!             a leader of this term, a later term, a majority refuses, no quorum
//! ```
//!
//! A role changes its own fields and the [`State`](crate::state::State), and says in what it
//! returns when it is over. [`Node`](crate::Node) takes the step to the next one.

pub(crate) mod candidate;
pub(crate) mod follower;
pub(crate) mod leader;

use crate::status::RoleName;
use candidate::{Candidate, Election};
use follower::Follower;
use leader::Leader;

/// What a node is.
pub(crate) enum Role {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

impl Role {
    pub(crate) fn name(&self) -> RoleName {
        match self {
            Self::Follower(_) => RoleName::Follower,
            Self::Candidate(candidate) => match candidate.election() {
                Election::PreVote => RoleName::PreCandidate,
                Election::Vote(_) => RoleName::Candidate,
            },
            Self::Leader(_) => RoleName::Leader,
        }
    }
}
