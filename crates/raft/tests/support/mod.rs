//! What the tests of this crate drive nodes with, and how they print what they see.

#![allow(dead_code, reason = "each test binary uses another part")]

pub(crate) mod checker;
pub(crate) mod group;
pub(crate) mod peer;
pub(crate) mod print;
pub(crate) mod runner;
pub(crate) mod slow;
mod table;
mod trouble;
pub(crate) mod world;
