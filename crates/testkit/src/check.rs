//! Judges of what was observed.
//!
//! | module | judges |
//! |---|---|
//! | [`history`] | nothing: it records who asked what when, and what they were told |
//! | [`mod@linearizable`] | whether keys behaved like registers that everybody shares |
//!
//! A judge must be able to condemn. Each has tests that show it histories that are wrong in every
//! way we know.

pub mod history;
pub mod linearizable;

pub use history::{Action, Answer, History, Operation, Outcome, Ticket, Value};
pub use linearizable::{Checked, Violation, linearizable};
