//! The runner of the scripts, and how it prints what it sees.

pub(crate) mod print;
pub(crate) mod runner;
