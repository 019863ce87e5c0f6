//! From a batch to what the tree takes: one put or delete per key.
//!
//! All items of a batch get one sequence number below, and two with the same key and number would
//! be in no order. So the last operation on a key is decided here, and range deletes, which the
//! tree does not have, become deletes of the keys that are there.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use fjall::{OwnedWriteBatch, Readable};

use super::{DiskEngine, error};
use crate::tree::snapshot::{bounds, stored_key};
use crate::{EngineError, Op, WriteBatch};
use kiva_base::KeyRange;

/// Call under the writer's lock: what a range delete covers must not change before the commit.
pub(super) fn resolve(
    engine: &DiskEngine,
    batch: &WriteBatch,
) -> Result<OwnedWriteBatch, EngineError> {
    let mut items: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
    for op in batch.ops() {
        match op {
            Op::Put { cf, key, value } => {
                items.insert(stored_key(cf, key), Some(Bytes::copy_from_slice(value)));
            }
            Op::Delete { cf, key } => {
                items.insert(stored_key(cf, key), None);
            }
            Op::DeleteRange { cf, start, end } => {
                // One that runs backward, which only bytes from outside can hold, covers nothing.
                let range = KeyRange::new(start.to_vec(), end.to_vec());
                if let Some(range) = range.filter(|range| !range.is_empty()) {
                    delete_range(engine, &mut items, bounds(cf, &range))?;
                }
            }
        }
    }
    let mut resolved = OwnedWriteBatch::with_capacity(engine.database.clone(), items.len());
    for (key, value) in items {
        match value {
            Some(value) => resolved.insert(&engine.tree, key, value),
            None => resolved.remove(&engine.tree, key),
        }
    }
    Ok(resolved)
}

fn delete_range(
    engine: &DiskEngine,
    items: &mut BTreeMap<Bytes, Option<Bytes>>,
    (start, end): (Bytes, Bytes),
) -> Result<(), EngineError> {
    let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    for (_, value) in items.range_mut::<[u8], _>(range) {
        *value = None;
    }
    let view = engine.database.snapshot();
    for pair in view.range::<&[u8], _>(&engine.tree, range) {
        let key = pair.key().map_err(|error| error::of(&engine.path, "read", error))?;
        items.insert(key.into(), None);
    }
    Ok(())
}
