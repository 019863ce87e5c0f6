//! The sync, and the seam between memtable and tables.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use fjall::{AbstractTree, PersistMode};

use super::inspect::{self, io_error};
use super::journal::Reader;
use super::synced::{Marker, Synced};
use super::{DiskEngine, error, runtime};
use crate::EngineError;
use crate::limits::{L0_RUNS_FULL, SEALED_MEMTABLES_FULL};

/// What the next sync goes on from.
pub(super) struct Syncer {
    /// The journal that was synced last, and up to where its batches are whole. One handle for
    /// many syncs, because the system reports an error of the disk to each handle once.
    journal: Option<(PathBuf, File)>,
    synced: Synced,
    marker: Marker,
}

impl Syncer {
    /// Goes on from what inspection has read.
    pub(super) fn new(directory: &Path, synced: Synced) -> Result<Self, EngineError> {
        let marker = Marker::open(directory)
            .map_err(|error| io_error("open", &directory.join(inspect::SYNCED), error))?;
        Ok(Self { journal: None, synced, marker })
    }

    /// Syncs this journal: everything the system has of it.
    fn sync(&mut self, number: u64, path: &Path) -> io::Result<()> {
        let file = match self.journal.take() {
            Some((known, file)) if known == path => file,
            _ => File::open(path)?,
        };
        if self.synced.journal != number {
            self.synced = Synced { journal: number, position: 0 };
        }
        // Found before the sync, so that the mark claims nothing that came during it.
        let mut reader = Reader::new(&file, self.synced.position);
        reader.skip_batches()?;
        let position = reader.position();
        file.sync_data()?;
        self.synced.position = position;
        self.journal = Some((path.to_owned(), file));
        Ok(())
    }
}

impl DiskEngine {
    /// Makes durable what was written before the call.
    ///
    /// The library would sync under the lock that writers need, for milliseconds. So its buffer
    /// goes to the system first, then the file is synced through a handle of our own. When a new
    /// journal has begun meanwhile, the library has synced the old one before, and the new one is
    /// synced too.
    pub(super) fn sync(&self) -> Result<(), EngineError> {
        let mut syncer = self.syncer.lock().unwrap_or_else(PoisonError::into_inner);
        self.database
            .persist(PersistMode::Buffer)
            .map_err(|error| error::of(&self.path, "write to", error))?;
        let mut active = self.active_journal()?;
        loop {
            let (number, path) = &active;
            syncer.sync(*number, path).map_err(|error| io_error("sync", path, error))?;
            let now = self.active_journal()?;
            if now == active {
                break;
            }
            active = now;
        }
        let synced = syncer.synced;
        syncer
            .marker
            .write(synced)
            .map_err(|error| io_error("write", &self.path.join(inspect::SYNCED), error))
    }

    fn active_journal(&self) -> Result<(u64, PathBuf), EngineError> {
        match inspect::journals(&self.path)?.pop() {
            Some(last) => Ok(last),
            None => Err(inspect::damaged(
                &self.path,
                "the journal has been removed while it was in use",
            )),
        }
    }

    /// Waits until a write will not have to. The library would wait without end when its threads
    /// have died in the meantime, on a full disk for one; here that is an error.
    pub(super) fn wait_for_room(&self) -> Result<(), EngineError> {
        while self.tree.tree.l0_run_count() >= L0_RUNS_FULL
            || self.tree.sealed_memtable_count() >= SEALED_MEMTABLES_FULL
        {
            self.database
                .persist(PersistMode::Buffer)
                .map_err(|error| self.fail(error::of(&self.path, "write to", error)))?;
            runtime::pause();
        }
        Ok(())
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
