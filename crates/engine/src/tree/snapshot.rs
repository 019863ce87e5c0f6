//! Snapshots and iterators: a pinned moment of the one tree, with the family cut out.

use std::ops::Bound;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kiva_base::KeyRange;
use lsm_tree::{AbstractTree, Guard, IterGuardImpl, SeqNo};

use super::Shared;
use super::error;
use crate::{Cf, EngineError, Iter, Order, Snapshot};

/// A key as the tree has it.
pub(crate) fn stored_key(cf: Cf, key: &[u8]) -> Bytes {
    let mut stored = BytesMut::with_capacity(1 + key.len());
    stored.put_u8(cf.byte());
    stored.put_slice(key);
    stored.freeze()
}

/// A range as the tree has it: never unbounded, since another family may follow.
pub(crate) fn bounds(cf: Cf, range: &KeyRange) -> (Bytes, Bytes) {
    let end = if range.end().is_empty() {
        Bytes::copy_from_slice(&[cf.byte() + 1])
    } else {
        stored_key(cf, range.end())
    };
    (stored_key(cf, range.start()), end)
}

/// A moment that is being read. Keeps the directory locked, too.
struct Pinned {
    shared: Arc<Shared>,
    moment: SeqNo,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.shared.pins.unpin(self.moment);
    }
}

pub(super) struct TreeSnapshot(Arc<Pinned>);

impl TreeSnapshot {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let moment = shared.pins.pin();
        Self(Arc::new(Pinned { shared: Arc::clone(shared), moment }))
    }
}

impl Snapshot for TreeSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let Pinned { shared, moment } = &*self.0;
        let key = stored_key(cf, key);
        match shared.tree.get(&key, *moment) {
            Ok(value) => Ok(value.map(Bytes::from)),
            Err(error) => {
                let here = (Bound::Included(&key[..]), Bound::Included(&key[..]));
                Err(error::of_read(&shared.path, &shared.tree, here, error))
            }
        }
    }

    fn iter(&self, cf: Cf, range: &KeyRange, order: Order) -> Box<dyn Iter> {
        let (start, end) = bounds(cf, range);
        let rest = (!range.is_empty()).then(|| {
            let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
            self.0.shared.tree.range::<&[u8], _>(range, self.0.moment, None)
        });
        Box::new(TreeIter { rest, order, bounds: (start, end), pinned: Arc::clone(&self.0) })
    }
}

/// The library's iterator holds the tables it reads; the pin keeps everything else.
struct TreeIter {
    /// `None` at the end.
    rest: Option<Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send>>,
    order: Order,
    bounds: (Bytes, Bytes),
    pinned: Arc<Pinned>,
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
        match pair.map(Guard::into_inner) {
            Some(Ok((key, value))) => Ok(Some((Bytes::from(key).slice(1..), value.into()))),
            Some(Err(error)) => {
                self.rest = None;
                let (start, end) = &self.bounds;
                let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
                let Shared { path, tree, .. } = &*self.pinned.shared;
                Err(error::of_read(path, tree, range, error))
            }
            None => {
                self.rest = None;
                Ok(None)
            }
        }
    }
}
