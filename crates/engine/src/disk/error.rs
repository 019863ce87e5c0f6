//! The library's errors in our words. It names no file, so we name what we know.

use std::ops::Bound;
use std::path::Path;

use fjall::{AbstractTree, Keyspace};

use crate::EngineError;
use crate::tree::archive;

/// While the directory is opened, in which nothing of ours is running yet.
pub(super) fn of_open(path: &Path, error: fjall::Error) -> EngineError {
    match error {
        fjall::Error::Locked => EngineError::InUse { path: path.to_owned() },
        error => of(path, "open", error),
    }
}

/// While `action` was going on.
pub(super) fn of(path: &Path, action: &'static str, error: fjall::Error) -> EngineError {
    match error {
        fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => {
            EngineError::Io { action, path: path.to_owned(), source }
        }
        fjall::Error::Poisoned => EngineError::Poisoned {
            reason: "a thread that writes or merges tables has failed".to_owned(),
        },
        error => {
            EngineError::Damaged { path: path.to_owned(), reason: format!("{action}: {error:?}") }
        }
    }
}

/// While keys from `start` to `end` were read. A damaged block is found here first, so the tables
/// that may hold these keys are read whole, and the one that is bad is named.
pub(super) fn of_read(
    path: &Path,
    tree: &Keyspace,
    (start, end): (Bound<&[u8]>, Bound<&[u8]>),
    error: fjall::Error,
) -> EngineError {
    let plain = of(path, "read", error);
    if !matches!(plain, EngineError::Damaged { .. }) {
        return plain;
    }
    tree.tree
        .current_version()
        .iter_tables()
        .filter(|table| {
            let keys = &table.metadata.key_range;
            keys.overlaps_with_bounds(&(start, end))
        })
        .find_map(|table| archive::check_whole(&table.path, table.checksum().into_u128()).err())
        .unwrap_or(plain)
}
