//! The sync, and the seam between memtable and tables.

use std::fs::File;
use std::path::PathBuf;

use fjall::{AbstractTree, PersistMode};

use super::{DiskEngine, error, inspect};
use crate::EngineError;

impl DiskEngine {
    /// Makes durable what was written before the call.
    ///
    /// The library would sync under the lock that writers need, for milliseconds. So its buffer
    /// goes to the system first, then the file is synced through a handle of our own. When the
    /// journal changed meanwhile, the library has synced the old one before it turned to the new
    /// one, and the new one is tried again.
    pub(super) fn sync(&self) -> Result<(), EngineError> {
        let mut handle = self
            .syncer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        self.database
            .persist(PersistMode::Buffer)
            .map_err(|error| error::of(&self.path, "write to", error))?;
        loop {
            let path = self.active_journal()?;
            let file = match handle.take() {
                Some((known, file)) if known == path => Ok(file),
                _ => File::open(&path),
            };
            let synced = file.and_then(|file| {
                file.sync_data()?;
                Ok(file)
            });
            match synced {
                Ok(file) => *handle = Some((path.clone(), file)),
                Err(source) => {
                    let action = "sync";
                    return Err(EngineError::Io {
                        action,
                        path,
                        source,
                    });
                }
            }
            if self.active_journal()? == path {
                return Ok(());
            }
        }
    }

    fn active_journal(&self) -> Result<PathBuf, EngineError> {
        let journals = inspect::journals(&self.path)?;
        match journals.last() {
            Some((_, path)) => Ok(path.clone()),
            None => Err(EngineError::Damaged {
                path: self.path.to_path_buf(),
                reason: "the journal has been removed".to_owned(),
            }),
        }
    }

    /// The library forgets the size it was told when it opens a tree again, so we look ourselves.
    pub(super) fn rotate_when_full(&self) -> Result<(), EngineError> {
        if self.tree.tree.active_memtable().size() < self.memtable_bytes {
            return Ok(());
        }
        match self.tree.rotate_memtable() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fail(error::of(&self.path, "write to", error))),
        }
    }
}
