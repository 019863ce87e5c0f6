//! Transactions over versioned keys, as pure functions: a snapshot and a request go in, a batch to
//! replicate and a reply come out. Nothing here waits, writes, or knows of regions and Raft.
//!
//! # The protocol
//!
//! A transaction reads at one timestamp and writes at another, and the two decide everything. The
//! client fetches `start_ts`, reads the snapshot of that moment and buffers its writes; to commit,
//! it locks all keys, fetches `commit_ts`, and turns one lock into a record. There is no
//! coordinator to ask or to lose: what has happened is written beside the data (Percolator §2.2).
//!
//! ```text
//! family    key                  holds
//! lock      key                  who is about to write, what kind of write, who is its primary
//! write     key !commit_ts       what was committed at that time, and by which start_ts
//! default   key !start_ts        a value too long to ride in the lock or the record
//! ```
//!
//! Bob has 10 and Joe has 2. A transaction that starts at 7 moves 7 from Bob to Joe and commits at
//! 8; Bob's key is its primary. (The example of Percolator §2.2, figure 4, with short values.)
//!
//! ```text
//!                    lock                  write
//! before         Bob                       @6 ← 5 "10"
//!                Joe                       @6 ← 5 "2"
//!
//! prewrite       Bob  put @7 "3"           @6 ← 5 "10"
//!                     primary Bob
//!                Joe  put @7 "9"           @6 ← 5 "2"
//!                     primary Bob
//!
//! commit         Bob                       @8 ← 7 "3", @6 ← 5 "10"
//! the primary    Joe  put @7 "9"           @6 ← 5 "2"               here it has happened
//!                     primary Bob
//!
//! commit         Bob                       @8 ← 7 "3", @6 ← 5 "10"
//! the others     Joe                       @8 ← 7 "9", @6 ← 5 "2"   this is tidying up
//! ```
//!
//! **[Prewrite](mod@prewrite)** locks every key, or none of a request. It is refused where another
//! transaction holds a lock, and where anything was recorded since `start_ts`: first writer wins,
//! which is all that snapshot isolation asks.
//!
//! **[Commit](mod@commit)** of the primary is the one moment that counts. Its lock becomes a record
//! in one atomic batch; before it nobody sees any of the writes, after it they are all there,
//! whatever becomes of the client. The other keys follow when somebody gets to them.
//!
//! **[Reads](read_rules)** at `ts` take the newest record at or below `ts`. A lock that began at or
//! below `ts` stops them, because its transaction may be committed below `ts` without this key
//! knowing yet: the answer names the lock, and the client goes to find out.
//!
//! **[Check status](mod@check_status)** asks the primary what became of the transaction. A commit
//! record: committed. A lock that is alive: wait. A lock whose time is over, or nothing at all: it
//! is rolled back on the spot, and the record of that keeps out whatever of it still comes.
//!
//! **[Resolve](mod@resolve)** applies that fate to the locks left behind. So anybody can finish
//! anybody's work, and whoever dies between two steps is cleaned up after by the next reader.
//!
//! **[Rollback](mod@rollback)**, **[heartbeat](mod@heartbeat)**, **[scan lock](mod@scan_lock)** and
//! **[cleanup](mod@cleanup)** are the smaller tools around these, and **[gc]** says which
//! versions nobody needs any more.
//!
//! # The records
//!
//! | kind | in a lock it means | in a write record it means |
//! |---|---|---|
//! | put | will get this value | got this value |
//! | delete | will lose its value | lost its value |
//! | lock | nothing will change, others are kept away | nothing changed, others conflicted |
//! | pessimistic | not said yet | (leaves none) |
//! | rollback | | the transaction of this timestamp is dead on this key |
//!
//! Their bytes are in [`mod@lock`] and [`mod@write`]. A rollback record lies at its own `start_ts`.
//! It may share that place with somebody's commit (the commit carries a flag then), and it may be
//! collapsed into a newer one; [`mod@rollback`] tells when that is safe.
//!
//! # What is always true
//!
//! - A transaction that is committed on its primary is never rolled back there, and the reverse.
//! - A key has at most one lock, and a lock goes only by commit, rollback or resolve.
//! - A refusal comes with an empty batch: a request happens whole or not at all.
//! - The same request again gives the same answer and changes nothing more. Answers get lost, and
//!   clients repeat.
//! - A batch touches only keys that [`Prewrite::keys`] and its like named. The caller holds their
//!   latches from before the snapshot until the batch is applied.
//! - The caller has raised max-ts to the request's `max_ts()` before it took the snapshot.
//! - Bytes that nobody here wrote are a [`TxnError`], never a panic.
//!
//! # What is not here
//!
//! Pessimistic transactions (locking before writing), async commit (committed once all locks are
//! there, a round trip less) and commit in one phase are refused with a sentence. Their fields have
//! a place in the records, and reads already obey them. Percolator asks a lock service whether the
//! owner of a lock is alive (§2.2); here only the time to live on the primary decides. It keeps
//! locks in a column beside the data; here they are a family of their own, so that a scan with no
//! lock in its way reads none. Notifications (§2.4) have no counterpart.
//!
//! Peng and Dabek, "Large-scale Incremental Processing Using Distributed Transactions and
//! Notifications", OSDI 2010.

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
