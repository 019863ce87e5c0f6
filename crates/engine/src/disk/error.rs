//! The library's errors in our words. It names no file, so we name what we know.

use std::path::Path;

use crate::EngineError;

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
