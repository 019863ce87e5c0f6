//! Many pairs at one moment: written to tables of their own, which then join the tree.
//!
//! The stream is written without a lock. Joining takes the writer's lock: what is in the memtable
//! is written to a table first, so that a crash leaves a prefix here too, then the new tables are
//! listed under the next sequence number. Tables and lists are synced before they are used. An
//! ingestion that is given up leaves files which the next opening removes.

use super::{DiskEngine, error};
use crate::sorted::Checked;
use crate::tree::snapshot::stored_key;
use crate::{EngineError, SortedItems};

pub(super) fn ingest(engine: &DiskEngine, items: &mut dyn SortedItems) -> Result<(), EngineError> {
    let failed = |error| error::of(&engine.path, "ingest into", error);
    let mut items = Checked::new(items);
    let mut tables = engine.tree.start_ingestion().map_err(failed)?;
    while let Some(item) = items.next()? {
        let key = stored_key(item.cf, &item.key);
        match item.value {
            Some(value) => tables.write(key, value),
            None => tables.write_tombstone(key),
        }
        .map_err(failed)?;
    }
    let _writer = engine.lock_writer();
    engine.alive()?;
    tables.finish().map_err(|error| engine.fail(failed(error)))
}
