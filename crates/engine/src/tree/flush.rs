//! From memory to tables, and from tables to fewer tables.
//!
//! ```text
//! active memtable ──seal──▶ sealed ──flush_sealed──▶ run in the topmost level ──merge──▶ below
//!    a full one, or flush       a thread, or flush           a thread
//! ```
//!
//! A flush writes all sealed memtables to one run of tables, syncs it, and then switches to a
//! manifest that lists it; so what is durable is a prefix of the batches at any time. Writers are
//! held for the seal only, which swaps two pointers.

use std::sync::{Arc, MutexGuard};

use lsm_tree::AbstractTree;
use lsm_tree::compaction::Leveled;

use super::{Shared, Writer, error};
use crate::EngineError;
use crate::limits::{L0_BYTES_SMALL, L0_TABLES_MERGED, L0_TABLES_MERGED_SMALL, TABLE_BYTES_TARGET};

impl Shared {
    /// Begins a new memtable if the active one holds anything. Call between batches.
    pub(super) fn seal(&self, writer: &mut Writer) {
        if let Some(sealed) = self.tree.rotate_memtable() {
            writer.sealed.insert(0, sealed);
            writer.active = self.tree.active_memtable();
            self.renew(writer);
            self.work.count_sealed();
        }
    }

    /// Makes durable what was written before the call.
    pub(super) fn flush(&self) -> Result<(), EngineError> {
        self.work.wait_for_room();
        self.seal_apart(0)?;
        self.flush_sealed()
    }

    /// Writes the active memtable, which is full, and what is sealed already.
    pub(super) fn flush_full(&self) -> Result<(), EngineError> {
        self.seal_apart(self.memtable_bytes)?;
        self.flush_sealed()
    }

    /// Seals the active memtable if it has so many bytes, and does not keep writers waiting.
    fn seal_apart(&self, bytes: u64) -> Result<(), EngineError> {
        let mut writer = self.lock_writer_apart()?;
        if writer.active.size() >= bytes {
            self.seal(&mut writer);
        }
        Ok(())
    }

    /// Writes what is sealed, and waits for whoever is writing it already.
    pub(super) fn flush_sealed(&self) -> Result<(), EngineError> {
        let sealed = self.lock_writer()?.sealed.clone();
        let lock = self.tree.get_flush_lock();
        // Whoever held the lock may have failed with the very memtables that we wait for.
        self.alive()?;
        let written = self
            .tree
            .flush(&lock, self.current.moment())
            .map_err(|error| self.fail(error::of(&self.path, "write a table to", error)))?;
        drop(lock);
        // All that was sealed before the call is in tables now, whoever wrote it.
        self.lock_writer()?.sealed.retain(|one| sealed.iter().all(|gone| gone.id() != one.id()));
        if written.is_some() || !sealed.is_empty() {
            self.settle();
            self.work.ask_merges(self.mergers);
        }
        Ok(())
    }

    /// Merges tables once, and asks for more when there was something to do.
    pub(super) fn merge(&self) -> Result<(), EngineError> {
        let before = self.tree.current_version().id();
        match self.tree.compact(Arc::new(self.strategy()), self.current.moment()) {
            Ok(()) => {}
            Err(_) if self.is_closing() => return Ok(()),
            Err(error) => return Err(self.fail(error::of(&self.path, "merge tables of", error))),
        }
        if self.tree.current_version().id() != before {
            self.settle();
            self.work.ask_merges(1);
        }
        Ok(())
    }

    /// What is merged with what. The topmost level may have more tables as long as they are small;
    /// the sizes of the levels below follow from the product, so that stays the same.
    fn strategy(&self) -> Leveled {
        let version = self.tree.current_version();
        let tables = tables_merged(version.l0().size());
        let shape = TABLE_BYTES_TARGET * u64::from(L0_TABLES_MERGED);
        Leveled::default()
            .with_l0_threshold(tables)
            .with_table_target_size(shape / u64::from(tables))
    }

    /// After a switch of versions: new readers get the new one, and the library lets go of those
    /// before it. Readers hold what they read.
    pub(super) fn settle(&self) {
        if let Ok(writer) = self.lock_writer_apart() {
            self.renew(&writer);
        }
        let mut versions = self.tree.get_version_history_lock();
        let gone = versions.maintenance(&self.tree.tree_config().path, self.numbers.get());
        drop(versions);
        if let Err(error) = gone {
            // It costs space until the next opening, nothing else.
            let path = self.path.display();
            tracing::warn!(%path, %error, "an old manifest could not be removed");
        }
        self.recount();
    }

    /// Gives new readers the tree as it is now. Call between batches.
    pub(super) fn renew(&self, writer: &Writer) {
        self.current.renew(&self.tree, writer.memtables(), self.numbers.get());
    }

    /// The writer's lock, for what needs the library's lock too. That one is held while a manifest
    /// is synced, so it is waited for before writers are held, and is free now but for the rarest
    /// case.
    fn lock_writer_apart(&self) -> Result<MutexGuard<'_, Writer>, EngineError> {
        drop(self.tree.get_version_history_lock());
        self.lock_writer()
    }

    fn recount(&self) {
        self.work.recount(|| (self.tree.sealed_memtable_count(), self.tree.l0_run_count()));
    }
}

/// How many tables of the topmost level, with so many bytes, call for a merge.
fn tables_merged(bytes: u64) -> u8 {
    if bytes <= L0_BYTES_SMALL { L0_TABLES_MERGED_SMALL } else { L0_TABLES_MERGED }
}
