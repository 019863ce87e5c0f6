//! What all handles share.
pub(crate) struct Core {}
