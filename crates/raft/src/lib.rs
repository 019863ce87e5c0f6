//! One Raft consensus group as a pure state machine: no clock, disk, thread or random source
//! inside that was not handed in.
//!
//! # What it is for
//!
//! A few nodes keep one log of commands, the same on each, and apply it to their state machines.
//! As long as a majority lives and can talk, the log grows; whatever was committed survives any
//! minority. This crate decides *what* to append, send, write and apply. A *driver* of yours does
//! it: it owns the disk, the network and the clock, and calls a [`Node`].
//!
//! # The protocol in two pages
//!
//! **Terms and elections** (Raft §5.2). Time is divided into *terms*, each with at most one leader.
//! A follower that hears of no leader for an election timeout, drawn at random from
//! `election_ticks..2 * election_ticks`, becomes a candidate: it raises its term, votes for itself
//! and asks the others. A node votes once per term, and only for a candidate whose log is at least
//! as new as its own (§5.4.1): a later last term wins, then the longer log. Whoever has a majority
//! leads. Two things keep a node that was cut off from disturbing a group that works (Ongaro's
//! thesis §4.2.3, §9.6): a *pre-vote* asks whether an election would be won before the term is
//! raised, and voters that have heard of a leader within an election timeout ignore candidates.
//! The same promise makes a leader without a majority step down (*check-quorum*, §6.2).
//!
//! **Replication** (Raft §5.3). The leader appends proposals to its log and sends them. An
//! [`Append`](Body::Append) names the entry before its first one; a follower that holds that entry
//! appends, one that does not refuses, and by induction two logs that share an entry share all
//! before it:
//!
//! ```text
//!   index      1   2   3   4   5   6
//!   leader     1   1   4   4   6   6      a number is the term of the entry there
//!   follower   1   1   4   4              accepts 5.. after (4, 4)
//!   follower   1   1   2   2   2          refuses after (4, 4): "agree up to (2, 1)?"
//! ```
//!
//! A refusal carries a hint that skips a whole term, so that the leader finds the last common
//! entry in as many round trips as there are terms in which the logs differ. What it knows of each
//! follower is a small machine: it *probes* until one append is accepted, then *replicates*
//! without waiting, within a window of messages and bytes, and sends a *snapshot* when the log no
//! longer goes back far enough.
//!
//! **Commit** (Raft §5.3, §5.4.2). An entry is committed when a majority holds it durably *and* it
//! is of the leader's term, or precedes such an entry. Counting copies of older terms is not
//! enough (figure 8 of the paper), so a new leader appends an empty entry at once.
//!
//! **Durability.** A vote or an acknowledgement that leaves before its write is on the disk breaks
//! everything above. Here it cannot: a [`Ready`] carries the messages that may leave and a
//! [`LogWrite`], and what waits for that write comes out of [`Node::on_synced`] in exchange for the
//! [`Receipt`] that only [`LogWrite::synced`] gives.
//!
//! | free to leave at once | sealed until the receipt |
//! |---|---|
//! | a leader's appends, snapshots and heartbeats | requests for votes, and votes granted |
//! | refusals; answers to heartbeats, once the term is durable | acknowledgements of appends |
//! | pre-votes and their answers | a candidate's own vote |
//! | read indexes | acknowledgements of snapshots |
//! | | a leader's own copy in the majority |
//! | | committed entries that are not durable here |
//!
//! So the leader's disk works while its followers do (thesis §10.2.1), several writes may be on
//! their way, and an entry may commit before the leader's own disk has it; it is *applied* on a
//! node only when it is durable there. Writes are numbered and receipts cover all earlier writes,
//! and a receipt never counts for an entry that was replaced since, whatever replaced it.
//!
//! **Members** (Raft §6, thesis §4). [`MembershipChange`]s are entries and take effect when they
//! are applied, one at a time. One voter changes in a simple step; more go through a joint
//! configuration that needs both majorities and that the leader ends by itself. Learners receive
//! the log and do not count. A leader that applied its own removal steps down.
//!
//! **Reads** (thesis §6.4). [`Node::read_index`] confirms that this node, or the leader it asks,
//! still leads, with one round of heartbeats for all reads that wait, and answers with the index
//! that must be applied before the read is served. With [`ReadMode::Lease`] a leader that heard
//! from a majority a moment ago answers at once ([`Node::lease_read`]). A lease counts from when
//! the question was sent, is shorter than the shortest election timeout, and ends before a
//! transfer begins.
//!
//! **Transfer** (thesis §3.10). The target is brought up to date and told to campaign at once;
//! nothing is proposed meanwhile, and after an election timeout the attempt is given up.
//!
//! # A complete driver
//!
//! One node, and what to do with each thing it asks for. A group of three differs in that somebody
//! else steps the messages.
//!
//! ```
//! use bytes::Bytes;
//! use kiva_raft::{Config, MemoryLogStore, Membership, Message, Node, NodeId, Payload, Rng};
//!
//! let id = NodeId::new(1).expect("not zero");
//! let log = MemoryLogStore::new(Membership::new([id], []));
//! let mut node = Node::open(Config::new(id), Rng::seeded(42), Box::new(log.clone()))?;
//! let mut state_machine: Vec<Bytes> = Vec::new();
//! let send = |_: Message| { /* to the node that `Message::to` names, which steps it */ };
//!
//! let mut proposed = false;
//! while state_machine.is_empty() {
//!     // 1. Events: messages (`Node::step`), ticks, proposals.
//!     node.tick();
//!     if node.is_leader() && !proposed {
//!         node.propose(Bytes::from_static(b"hello"))?;
//!         proposed = true;
//!     }
//!     // 2. What they lead to.
//!     while let Some(ready) = node.ready() {
//!         ready.messages.into_iter().for_each(send);
//!         if let Some(write) = ready.write {
//!             log.write(&write); // And sync it; a thread of its own may do both.
//!             node.on_synced(write.synced()).into_iter().for_each(send);
//!         }
//!         for entry in &ready.committed {
//!             match &entry.payload {
//!                 Payload::Command(command) => state_machine.push(command.clone()),
//!                 Payload::Membership(_) => {
//!                     let members = node.apply_membership(entry.index)?.clone();
//!                     log.set_applied(entry.index, members);
//!                 }
//!                 Payload::Empty => {}
//!             }
//!         }
//!         if let Some(last) = ready.committed.last() {
//!             node.on_applied(last.index);
//!         }
//!     }
//! }
//! assert_eq!(state_machine, ["hello"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Starting and joining
//!
//! The nodes of a new group start from log stores with the same [`Membership`]. A node that joins
//! later replays the log on what its own store says: either it starts with the members the group
//! was born with, or the group's log begins above index zero, as with
//! [`MemoryLogStore::starting_at`], so that the joining node is sent a snapshot.
//!
//! # What it costs
//!
//! Instructions per committed proposal of 256 bytes, on all nodes together, with logs in memory
//! and messages that arrive at once:
//!
//! | voters | alone | in bursts of 64 | messages alone | in bursts |
//! |---:|---:|---:|---:|---:|
//! | 1 | 2,200 | 270 | 0 | 0 |
//! | 3 | 8,900 | 500 | 4 | 0.06 |
//! | 5 | 15,000 | 720 | 8 | 0.12 |
//!
//! A tick of an idle node takes about 40, and a node at rest owns about a kilobyte beside its log.
//! `cargo bench -p kiva-raft --bench versus` counts that, and does the same work on two other
//! libraries.
//!
//! # What is not here
//!
//! - *Encodings.* Messages are values; whoever sends them encodes them. [`LogSlice::new`] and
//!   [`Membership::from_parts`] check what comes back.
//! - *Applying before the own disk has an entry.* Would hide one slow disk, at the price of a
//!   state machine that is ahead of its log after a crash.
//! - *Priorities, witnesses, flexible quorums.* Who is to lead is the caller's business, through
//!   [`Node::transfer_leadership`].
//! - *Sessions.* A proposal takes effect at most once, but whoever proposes it again after an
//!   unknown outcome has to recognise it in the state machine (thesis §6.3).
//!
//! Papers: D. Ongaro and J. Ousterhout, "In Search of an Understandable Consensus Algorithm
//! (Extended Version)", 2014, cited as *Raft*; D. Ongaro, "Consensus: Bridging Theory and
//! Practice", 2014, cited as *thesis*.

pub mod config;
mod entry;
mod error;
mod flaw;
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
pub use flaw::{Flaw, Flaws};
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
