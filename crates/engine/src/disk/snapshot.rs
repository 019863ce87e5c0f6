//! Snapshots and iterators: the library's, with the family cut out.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Keyspace, Readable};
use kiva_base::KeyRange;

use super::{DiskEngine, error};
use crate::tree::snapshot::{bounds, stored_key};
use crate::{Cf, EngineError, Iter, Order, Snapshot};

pub(super) struct DiskSnapshot {
    view: fjall::Snapshot,
    /// Keeps the directory locked, too.
    tree: Keyspace,
    path: Arc<PathBuf>,
}

impl DiskSnapshot {
    pub(super) fn new(engine: &DiskEngine) -> Self {
        Self {
            view: engine.database.snapshot(),
            tree: engine.tree.clone(),
            path: Arc::clone(&engine.path),
        }
    }
}

impl Snapshot for DiskSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let key = stored_key(cf, key);
        match self.view.get(&self.tree, &key) {
            Ok(value) => Ok(value.map(Bytes::from)),
            Err(error) => {
                let here = (Bound::Included(&key[..]), Bound::Included(&key[..]));
                Err(error::of_read(&self.path, &self.tree, here, error))
            }
        }
    }

    fn iter(&self, cf: Cf, range: &KeyRange, order: Order) -> Box<dyn Iter> {
        let (start, end) = bounds(cf, range);
        let rest = (!range.is_empty()).then(|| {
            let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
            self.view.range::<&[u8], _>(&self.tree, range)
        });
        Box::new(DiskIter {
            rest,
            order,
            bounds: (start, end),
            tree: self.tree.clone(),
            path: Arc::clone(&self.path),
        })
    }
}

/// The library's iterator holds the snapshot it came from.
struct DiskIter {
    /// `None` at the end.
    rest: Option<fjall::Iter>,
    order: Order,
    bounds: (Bytes, Bytes),
    /// Keeps the directory locked, too.
    tree: Keyspace,
    path: Arc<PathBuf>,
}

impl Iter for DiskIter {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        let Some(rest) = &mut self.rest else {
            return Ok(None);
        };
        let pair = match self.order {
            Order::Forward => rest.next(),
            Order::Reverse => rest.next_back(),
        };
        match pair.map(fjall::Guard::into_inner) {
            Some(Ok((key, value))) => Ok(Some((Bytes::from(key).slice(1..), value.into()))),
            Some(Err(error)) => {
                self.rest = None;
                let (start, end) = &self.bounds;
                let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
                Err(error::of_read(&self.path, &self.tree, range, error))
            }
            None => {
                self.rest = None;
                Ok(None)
            }
        }
    }
}
