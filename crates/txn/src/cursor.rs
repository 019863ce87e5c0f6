//! A position in one family that only moves on, and knows when stepping is dearer than opening.

use bytes::Bytes;
use kiva_base::KeyRange;
use kiva_engine::{Cf, Iter, Order, Snapshot};

use crate::limits::STEPS_BEFORE_SEEK;
use crate::outcome::TxnError;

/// The current pair of an iteration.
///
/// Iterators cannot seek. To get behind a key whose versions are few, a few steps are the cheapest
/// way; to get behind one with thousands, a new iterator is. Only trying tells which.
pub(crate) struct Cursor<'a> {
    view: &'a dyn Snapshot,
    cf: Cf,
    range: KeyRange,
    order: Order,
    iter: Box<dyn Iter>,
    current: Option<(Bytes, Bytes)>,
}

impl<'a> Cursor<'a> {
    /// At the first pair of `range` in `order`.
    pub(crate) fn open(
        view: &'a dyn Snapshot,
        cf: Cf,
        range: &KeyRange,
        order: Order,
    ) -> Result<Self, TxnError> {
        let mut iter = view.iter(cf, range, order);
        let current = iter.next()?;
        Ok(Self { view, cf, range: range.clone(), order, iter, current })
    }

    /// The key and value it is at; `None` behind the last.
    pub(crate) fn current(&self) -> Option<&(Bytes, Bytes)> {
        self.current.as_ref()
    }

    /// Goes to the next pair.
    pub(crate) fn advance(&mut self) -> Result<(), TxnError> {
        self.current = self.iter.next()?;
        Ok(())
    }

    /// Goes on to the first pair that is not before `target`: forward, the first key at or above
    /// it; in reverse, the first key below it. Stays if that is where it is.
    pub(crate) fn seek(&mut self, target: &[u8]) -> Result<(), TxnError> {
        for _ in 0..STEPS_BEFORE_SEEK {
            if !self.is_before(target) {
                return Ok(());
            }
            self.advance()?;
        }
        if !self.is_before(target) {
            return Ok(());
        }
        let target = Bytes::copy_from_slice(target);
        let rest = match self.order {
            Order::Forward => KeyRange::new(target, self.range.end().clone()),
            Order::Reverse => KeyRange::new(self.range.start().clone(), target),
        };
        // A target outside the range leaves nothing.
        let Some(rest) = rest else {
            self.current = None;
            return Ok(());
        };
        self.iter = self.view.iter(self.cf, &rest, self.order);
        self.advance()
    }

    fn is_before(&self, target: &[u8]) -> bool {
        match (&self.current, self.order) {
            (None, _) => false,
            (Some((key, _)), Order::Forward) => &key[..] < target,
            (Some((key, _)), Order::Reverse) => &key[..] >= target,
        }
    }
}
