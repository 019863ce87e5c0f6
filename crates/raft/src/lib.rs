//! One Raft consensus group as a pure state machine.

pub mod config;
mod entry;
mod error;
mod id;
pub mod limits;
mod log;
mod membership;
mod message;
mod node;
mod progress;
mod quorum;
mod ready;
mod rng;
mod role;
mod state;
mod status;
pub mod storage;

pub use config::{ChangeCheck, Config, ConfigError, ReadMode};
pub use entry::{Entries, Entry, Payload};
pub use error::{
    CampaignError, OpenError, ProposeError, Proposed, QuiesceError, ReadError, StepError,
    TransferError,
};
pub use id::{EntryId, Index, NodeId, Term};
pub use log::{LogSlice, SliceError};
pub use membership::{Change, Leave, Membership, MembershipChange, MembershipError};
pub use message::{Body, Message, Round, VoteReason};
pub use node::{Node, SnapshotOutcome};
pub use progress::ProgressState;
pub use ready::{LogWrite, ReadOutcome, Ready, Receipt, RoleChange};
pub use rng::Rng;
pub use status::{Counters, ProgressStatus, RoleName, Status};
pub use storage::{HardState, InitialState, LogError, LogStore, MemoryLogStore, Snapshot};
