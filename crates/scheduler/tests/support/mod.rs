//! What the scripts of placement are made of.

pub(crate) mod model;
pub(crate) mod print;
pub(crate) mod runner;
