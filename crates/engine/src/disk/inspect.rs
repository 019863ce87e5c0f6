//! What is looked at before the library opens a directory.
use crate::EngineError;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of trees.
pub(super) const TREES: &str = "keyspaces";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Nothing,
    Engine,
}

pub(super) fn inspect(path: &Path) -> Result<Found, EngineError> {
    if path.join("KIVA").exists() {
        Ok(Found::Engine)
    } else {
        Ok(Found::Nothing)
    }
}

pub(super) fn finish(path: &Path, found: Found) -> Result<(), EngineError> {
    if found == Found::Nothing {
        fs::write(path.join("KIVA"), "kiva engine 1\n").map_err(|source| EngineError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// Every journal, in order.
pub(super) fn journals(path: &Path) -> Result<Vec<(u64, PathBuf)>, EngineError> {
    let mut found = Vec::new();
    let failed = |source| EngineError::Io {
        action: "list",
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".jnl")?.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
