//! The library's errors in our words. It names no file, so we name what we know.

use std::io;
use std::ops::Bound;
use std::path::Path;

use lsm_tree::{AbstractTree, Tree};

use super::archive;
use crate::EngineError;

/// While `action` was going on.
pub(super) fn of(path: &Path, action: &'static str, error: lsm_tree::Error) -> EngineError {
    match error {
        lsm_tree::Error::Io(source) => io_error(action, path, source),
        error => damaged(path, &format!("{action}: {error:?}")),
    }
}

/// While keys from `start` to `end` were read. A damaged block is found here first, so the tables
/// that may hold these keys are read whole, and the one that is bad is named.
pub(super) fn of_read(
    path: &Path,
    tree: &Tree,
    (start, end): (Bound<&[u8]>, Bound<&[u8]>),
    error: lsm_tree::Error,
) -> EngineError {
    let plain = of(path, "read", error);
    if !matches!(plain, EngineError::Damaged { .. }) {
        return plain;
    }
    tree.current_version()
        .iter_tables()
        .filter(|table| {
            let keys = &table.metadata.key_range;
            keys.overlaps_with_bounds(&(start, end))
        })
        .find_map(|table| archive::check_whole(&table.path, table.checksum().into_u128()).err())
        .unwrap_or(plain)
}

pub(super) fn damaged(path: &Path, reason: &str) -> EngineError {
    EngineError::Damaged { path: path.to_owned(), reason: reason.to_owned() }
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> EngineError {
    EngineError::Io { action, path: path.to_owned(), source }
}
