//! What the tests of this crate share.

pub(crate) mod brute;
pub(crate) mod register;
