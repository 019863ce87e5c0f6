//! Many pairs at one moment: written to tables of their own, which then join the tree.
//!
//! The stream is written without a lock. Joining takes the writer's lock: what is in the memtable
//! is written to a table first, so that a crash leaves a prefix here too, then the new tables are
//! listed under the next sequence number. Nearly all of the memtable is written before the lock is
//! taken, so writers are held for a few syncs. Tables and lists are synced before they are used. An
//! ingestion that is given up leaves files which the next opening removes.

use lsm_tree::AnyTree;

use super::snapshot::stored_key;
use super::{Shared, Writer, error};
use crate::sorted::Checked;
use crate::{EngineError, SortedItems};

pub(super) fn ingest(shared: &Shared, items: &mut dyn SortedItems) -> Result<(), EngineError> {
    let failed = |error| error::of(&shared.path, "ingest into", error);
    let mut items = Checked::new(items);
    let tree = AnyTree::Standard(shared.tree.clone());
    let mut tables = tree.ingestion().map_err(failed)?;
    while let Some(item) = items.next()? {
        let key = stored_key(item.cf, &item.key);
        match item.value {
            Some(value) => tables.write(key, value),
            None => tables.write_tombstone(key),
        }
        .map_err(failed)?;
    }
    shared.flush()?;
    shared.work.wait_for_room();
    let mut writer = shared.lock_writer()?;
    tables.finish().map_err(|error| shared.fail(failed(error)))?;
    // The library has sealed the memtable that we were writing to, and written what was sealed.
    *writer = Writer::new(&shared.tree);
    shared.renew(&writer);
    drop(writer);
    shared.settle();
    shared.work.ask_merges(shared.mergers);
    Ok(())
}
