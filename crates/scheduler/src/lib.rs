//! Timestamps, ids, and who has which keys: the one place in a cluster that everybody asks.
//!
//! The scheduler hands out timestamps ([`tso`]) and ids ([`id`]), knows every store ([`store`]) and
//! region ([`regions`]), says up to where old versions may be collected ([`gc`]), and keeps what
//! must agree in the cluster ([`settings`]).
//!
//! It also sees to it that every region has the peers it should have. [`check`] says what is wrong
//! with a region, given the stores as they are ([`cluster`]); [`operator`] is how it is put right,
//! a step at a time; the [`coordinator`] tells leaders their steps. Stores that have lost some of
//! their log are found out by [`amnesia`].
//!
//! Decisions are pure: each of these modules holds a value that is told the time and told what was
//! saved. [`state`] puts them together and lists, as plain commands, the changes that have to
//! survive; [`Scheduler`] is the handle that decides, saves and applies, in this order.
//!
//! ```text
//!   a request ──▶ decide (memory) ──▶ Command ──▶ engine: write, flush ──▶ State::apply ──▶ answer
//!   a heartbeat ──▶ State (memory) ┄┄▶ the keeper saves it within a second
//!               ──▶ Coordinator (memory) ──▶ the next step of its region
//!   timestamps ──▶ Oracle (memory), below a window that was saved before
//! ```
//!
//! What is always true:
//!
//! - Timestamps rise over every restart, and no id is given twice.
//! - What a request changed is durable before the request is answered. Only reports of leaders are
//!   saved later, because leaders report again.
//! - The scheduler never changes a region. It believes leaders.
//!
//! What is not here yet: there is one member. Commands will go through a log of several members
//! without changing what they are, and what could be better, not only what is wrong, will be
//! answered with steps.

pub mod amnesia;
pub mod check;
pub mod cluster;
pub mod coordinator;
pub mod error;
pub mod gc;
mod handle;
pub mod id;
pub mod limits;
pub mod operator;
pub mod regions;
pub mod runtime;
pub mod settings;
pub mod state;
pub mod store;
pub mod tso;
pub mod wire;

pub use cluster::Policy;
pub use error::{Error, OpenError, Refusal};
pub use handle::{Options, Scheduler, StoreDescription};
pub use operator::Instruction;
pub use regions::RegionReport;
pub use settings::{ApiVersion, Settings, WantedSettings};
pub use store::{Store, StoreState, StoreStats, StoreView};
