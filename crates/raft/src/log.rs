//! The log as consensus sees it.

mod slice;

pub use slice::{LogSlice, SliceError};
