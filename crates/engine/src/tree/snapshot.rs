//! Snapshots and iterators: a view of the one tree, with the family cut out.

use std::ops::Bound;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kiva_base::KeyRange;

use super::view::{Pairs, View};
use super::{Shared, error};
use crate::{Cf, EngineError, Iter, Order, Snapshot};

/// A key as the tree has it.
pub(super) fn stored_key(cf: Cf, key: &[u8]) -> Bytes {
    let mut stored = BytesMut::with_capacity(1 + key.len());
    stored.put_u8(cf.byte());
    stored.put_slice(key);
    stored.freeze()
}

/// A range as the tree has it: never unbounded, since another family may follow.
pub(super) fn bounds(cf: Cf, range: &KeyRange) -> (Bytes, Bytes) {
    let end = if range.end().is_empty() {
        Bytes::copy_from_slice(&[cf.byte() + 1])
    } else {
        stored_key(cf, range.end())
    };
    (stored_key(cf, range.start()), end)
}

pub(super) struct TreeSnapshot {
    view: View,
    /// Keeps the directory locked, too.
    shared: Arc<Shared>,
}

impl TreeSnapshot {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { view: shared.current.get(), shared: Arc::clone(shared) }
    }
}

impl Snapshot for TreeSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let key = stored_key(cf, key);
        self.view.get(&key).map_err(|error| {
            let here = (Bound::Included(&key[..]), Bound::Included(&key[..]));
            error::of_read(&self.shared.path, &self.shared.tree, here, error)
        })
    }

    fn iter(&self, cf: Cf, range: &KeyRange, order: Order) -> Box<dyn Iter> {
        let (start, end) = bounds(cf, range);
        let rest = (!range.is_empty()).then(|| {
            let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
            self.view.range(range)
        });
        Box::new(TreeIter { rest, order, bounds: (start, end), shared: Arc::clone(&self.shared) })
    }
}

/// The library's iterator holds what it reads.
struct TreeIter {
    /// `None` at the end.
    rest: Option<Pairs>,
    order: Order,
    bounds: (Bytes, Bytes),
    /// Keeps the directory locked, too.
    shared: Arc<Shared>,
}

impl Iter for TreeIter {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        let Some(rest) = &mut self.rest else {
            return Ok(None);
        };
        let pair = match self.order {
            Order::Forward => rest.next(),
            Order::Reverse => rest.next_back(),
        };
        match pair {
            Some(Ok((key, value))) => Ok(Some((Bytes::from(key).slice(1..), value.into()))),
            Some(Err(error)) => {
                self.rest = None;
                let (start, end) = &self.bounds;
                let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
                let Shared { path, tree, .. } = &*self.shared;
                Err(error::of_read(path, tree, range, error))
            }
            None => {
                self.rest = None;
                Ok(None)
            }
        }
    }
}
