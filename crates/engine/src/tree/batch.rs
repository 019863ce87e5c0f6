//! From a batch to the memtable: an operation, a sequence number.
//!
//! Operations are numbered in their order, so the last one on a key decides by itself. Nobody reads
//! at a number inside a batch, so all of them appear at once. Range deletes, which the tree does
//! not have, become deletes of the keys that are there.

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};
use kiva_base::KeyRange;
use lsm_tree::{InternalValue, Memtable, ValueType};

use super::snapshot::{bounds, stored_key};
use super::{Shared, error};
use crate::{EngineError, Op, WriteBatch};

/// Inserts the batch. Call under the writer's lock: what a range delete covers must not change.
///
/// Whatever can fail comes first, so after an error nothing is inserted.
pub(super) fn insert(
    shared: &Shared,
    memtable: &Memtable,
    batch: &WriteBatch,
) -> Result<(), EngineError> {
    let mut covered = covered(shared, batch)?.into_iter();
    // One allocation for all keys and values: they live and go together, as long as the memtable.
    let mut buffer = BytesMut::with_capacity(batch.size());
    for op in batch.ops() {
        let number = shared.numbers.next();
        match op {
            Op::Put { cf, key, value } => {
                buffer.put_u8(cf.byte());
                buffer.put_slice(key);
                let key = buffer.split().freeze();
                buffer.put_slice(value);
                let value = buffer.split().freeze();
                memtable.insert(InternalValue::from_components(
                    key,
                    value,
                    number,
                    ValueType::Value,
                ));
            }
            Op::Delete { cf, key } => {
                buffer.put_u8(cf.byte());
                buffer.put_slice(key);
                let key = buffer.split().freeze();
                memtable.insert(InternalValue::new_tombstone(key, number));
            }
            Op::DeleteRange { .. } => {
                for key in covered.next().expect("there is one list per range delete") {
                    memtable.insert(InternalValue::new_tombstone(key, number));
                }
            }
        }
    }
    Ok(())
}

/// The keys that each range delete of the batch covers: those of the tree, and those that come
/// before it in the batch.
fn covered(shared: &Shared, batch: &WriteBatch) -> Result<Vec<Vec<Bytes>>, EngineError> {
    let mut lists = Vec::new();
    for (position, op) in batch.ops().enumerate() {
        let Op::DeleteRange { cf, start, end } = op else {
            continue;
        };
        let mut keys = Vec::new();
        // A range that runs backward, which only bytes from outside can hold, covers nothing.
        let range = KeyRange::new(start.to_vec(), end.to_vec());
        if let Some(range) = range.filter(|range| !range.is_empty()) {
            let (start, end) = bounds(cf, &range);
            let bounds = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
            for pair in shared.current.get().range(bounds) {
                let (key, _) =
                    pair.map_err(|e| error::of_read(&shared.path, &shared.tree, bounds, e))?;
                keys.push(key.into());
            }
            keys.extend(batch.ops().take(position).filter_map(|op| match op {
                Op::Put { cf: of, key, .. } if of == cf && range.contains(key) => {
                    Some(stored_key(cf, key))
                }
                _ => None,
            }));
        }
        lists.push(keys);
    }
    Ok(lists)
}
