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

use std::sync::Arc;

use lsm_tree::AbstractTree;
use lsm_tree::compaction::Leveled;

use super::{Shared, Writer, error};
use crate::EngineError;
use crate::limits::{L0_BYTES_SMALL, L0_TABLES_MERGED, L0_TABLES_MERGED_SMALL, TABLE_BYTES_TARGET};

impl Shared {
    /// Begins a new memtable if the active one holds anything. Call between batches.
    pub(super) fn seal(&self, writer: &mut Writer) {
        if self.tree.rotate_memtable().is_some() {
            writer.active = self.tree.active_memtable();
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
        // A seal needs the lock under which the library syncs a manifest. So that is waited for
        // before writers are held, and is free now but for the rarest case.
        drop(self.tree.get_version_history_lock());
        let mut writer = self.lock_writer()?;
        if writer.active.size() >= bytes {
            self.seal(&mut writer);
        }
        Ok(())
    }

    /// Writes what is sealed, and waits for whoever is writing it already.
    pub(super) fn flush_sealed(&self) -> Result<(), EngineError> {
        let lock = self.tree.get_flush_lock();
        // Whoever held the lock may have failed with the very memtables that we wait for.
        self.alive()?;
        let written = self
            .tree
            .flush(&lock, self.pins.horizon())
            .map_err(|error| self.fail(error::of(&self.path, "write a table to", error)))?;
        drop(lock);
        if written.is_some() {
            self.settle();
            self.work.ask_merges(self.mergers);
        }
        Ok(())
    }

    /// Merges tables once, and asks for more when there was something to do.
    pub(super) fn merge(&self) -> Result<(), EngineError> {
        let before = self.tree.current_version().id();
        match self.tree.compact(Arc::new(self.strategy()), self.pins.horizon()) {
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

    /// After a switch of versions: new readers see the new one, and what only older readers could
    /// need goes when there are none. Without this a flushed memtable would stay in memory, and
    /// merged tables on the disk, until the next switch but one.
    pub(super) fn settle(&self) {
        if let Ok(writer) = self.lock_writer() {
            self.pins.publish(self.numbers.get());
            drop(writer);
        }
        let horizon = self.pins.horizon();
        let mut versions = self.tree.get_version_history_lock();
        if let Err(error) = versions.maintenance(&self.tree.tree_config().path, horizon) {
            // It costs space until the next opening, nothing else.
            let path = self.path.display();
            tracing::warn!(%path, %error, "an old manifest could not be removed");
        }
        drop(versions);
        self.recount();
    }

    fn recount(&self) {
        self.work.recount(|| (self.tree.sealed_memtable_count(), self.tree.l0_run_count()));
    }
}

/// How many tables of the topmost level, with so many bytes, call for a merge.
fn tables_merged(bytes: u64) -> u8 {
    if bytes <= L0_BYTES_SMALL { L0_TABLES_MERGED_SMALL } else { L0_TABLES_MERGED }
}
