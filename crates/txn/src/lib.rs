//! The rules of transactions as pure functions, from a snapshot to an outcome.

pub mod lock;
mod record;
pub mod write;

mod cursor;
pub mod read_rules;
pub mod reader;
pub mod writer;

pub mod limits;
pub mod outcome;

pub mod batch_get;
pub mod check_status;
pub mod cleanup;
pub mod commit;
pub mod get;
pub mod heartbeat;
pub mod prewrite;
pub mod resolve;
pub mod rollback;
pub mod scan;
pub mod scan_lock;

pub mod gc;

use kiva_base::Timestamp;

pub use batch_get::{BatchGet, Pair, batch_get};
pub use check_status::{CheckStatus, StatusAction, TxnStatus, check_status};
pub use cleanup::{Cleanup, cleanup};
pub use commit::{Commit, commit};
pub use get::{Get, get};
pub use heartbeat::{Heartbeat, heartbeat};
pub use outcome::{Answer, Outcome, TxnError};
pub use prewrite::{
    AssertionLevel, Mutation, Op, PessimisticAction, Prewrite, PrewriteReply, prewrite,
};
pub use read_rules::{Isolation, ReadRules};
pub use resolve::{Fate, FindLocks, FoundLocks, KnownLock, Resolve, find_locks, resolve};
pub use rollback::{Rollback, rollback};
pub use scan::{Scan, scan};
pub use scan_lock::{ScanLock, scan_lock};

/// `ts`, unless it is the one that never raises max-ts.
fn raises_max_ts(ts: Timestamp) -> Option<Timestamp> {
    (ts != Timestamp::MAX).then_some(ts)
}
