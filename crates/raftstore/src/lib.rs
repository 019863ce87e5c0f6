//! The replicas that live on one store: many Raft groups over one log, one engine and few threads.
//!
//! Consensus decides what is to be appended, sent and applied; this crate does it, for thousands of
//! groups at once, on a handful of threads and with one sync for all of them.
//!
//! ```text
//!   command ─▶ router ─▶ store loop ─▶ log writer ── one sync ──┐
//!                ▲         │  ▲  ▲                              │ receipts
//!                │         │  │  └──────────────────────────────┘
//!     read view, lease     │  └── envelopes ◀── other stores
//!                          ├───── envelopes ──▶ other stores      one frame each
//!                          └── committed ──▶ apply ──▶ data       one batch for all regions
//! ```
//!
//! **A round.** A loop takes everything that waits in its mailbox, steps the regions concerned, and
//! asks each once what is to be done. The outcome of a round is a value: one write for the log, one
//! frame per store, one batch to apply. While the log writer syncs it, the next round gathers, so
//! nothing ever waits for a timer to be batched ([`store`]).
//!
//! **Two kinds of storage.** The log is synced once per round and is the only thing a write waits
//! for ([`log`]). `data` has no journal and may lose its tail in a crash; each of its batches
//! carries the region's applied index, so the log knows what to replay ([`apply`]). An entry leaves
//! the log when a flush has made its effect durable ([`durable`]).
//!
//! **What leaves when.** A vote or an acknowledgement leaves when the write that backs it is
//! durable; a leader's appends leave at once. Consensus seals the former until it is shown a
//! receipt, and receipts come from the log writer alone.
//!
//! **Reads** skip the log. A leader inside its lease reads on the thread that asks ([`read`]);
//! outside of it, and on followers, one question to the group serves all reads that wait.
//!
//! | module | answers |
//! |---|---|
//! | [`router`] | how do others reach a region? The only public entrance |
//! | [`store`], [`peer`] | what does a loop do in a round, and one replica in it? |
//! | [`command`], [`proposal`] | what is in an entry, and who waits for it? |
//! | [`apply`], `change` | what does an entry do? |
//! | [`read`] | who may read what without asking? |
//! | [`log`], [`durable`], [`disk`] | what survives, and what may go? |
//! | [`snapshot`], [`task`] | how does a replica that lacks too much catch up? |
//! | [`meta`], [`codec`], [`wire`] | which bytes are that? |
//! | [`digest`] | do replicas hold the same? |
//! | [`transport`], [`placement`] | who else is there? Ports |
//! | [`open`], [`runtime`] | how is it put together, and on which threads? |
//!
//! # What is always true
//!
//! - A loop never syncs, and never touches a peer of another loop.
//! - `applied` never passes what the log holds durably.
//! - A waiter is told exactly once: applied, refused, or that nobody knows.
//! - A write happens only in the term whose view it was decided on, and only while the region's
//!   range is what it was then. The epoch is checked when it is proposed, to answer early, and when
//!   it is applied, to be right.
//! - What a proposal holds (latches) belongs to the proposal. A caller that goes away releases
//!   nothing.
//! - A peer that was destroyed does not come back: its tombstone is in the log before its data
//!   goes.
//! - Every core is a value with methods; only `runtime` has threads, so a simulator can drive all.
//!
//! # What is not here
//!
//! Splitting and merging of regions, idle regions that stop ticking, and comparing replicas in the
//! background. Keys have no meaning here, and neither have transactions.

pub mod apply;
mod change;
pub mod codec;
pub mod command;
pub mod digest;
pub mod disk;
pub mod durable;
pub mod flaw;
pub mod limits;
pub mod log;
pub mod meta;
pub mod open;
pub mod options;
pub mod peer;
pub mod placement;
pub mod proposal;
pub mod read;
pub mod router;
pub mod runtime;
pub mod snapshot;
pub mod store;
pub mod task;
pub mod transport;
pub mod wire;
