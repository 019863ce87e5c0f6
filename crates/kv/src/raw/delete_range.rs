//! The deletion of a range, in pieces.

use kiva_base::api::KeyMode;
use kiva_base::{Key, KeyRange};
use kiva_engine::{Cf, Order, WriteBatch};

use crate::command::{Command, Touched, View};
use crate::error::Error;
use crate::limits::DELETE_RANGE_KEYS_MAX;

/// Takes away all values of `start..end` in the region; an empty bound is unbounded. Not atomic:
/// a reader may see it half done, and after a failure a first part of it is.
#[derive(Debug)]
pub struct DeleteRange {
    /// Where.
    pub cf: Cf,
    /// The first key.
    pub start: Key,
    /// The first key behind.
    pub end: Key,
}

impl Command for DeleteRange {
    type Reply = ();
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(
        &self,
        check: &mut dyn FnMut(Touched<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        check(Touched::Range(&self.start, &self.end))
    }
}

impl DeleteRange {
    /// The pieces, one at a time: each covers a bounded number of keys. Empty when nothing is
    /// left.
    pub(crate) fn pieces(
        &self,
    ) -> impl FnMut(&Self, &View<'_>) -> Result<WriteBatch, Error> + use<> {
        let mut rest = None;
        move |command, view| {
            let whole = || {
                let range = view.api.stored_range(KeyMode::Raw, &command.start, &command.end);
                range.map_or_else(nothing, |range| range.intersect(view.range))
            };
            let range = rest.take().unwrap_or_else(whole);
            let (piece, after) = cut(view, command.cf, &range)?;
            rest = Some(after);
            let mut batch = WriteBatch::new();
            if let Some(piece) = piece {
                batch.delete_range(command.cf, &piece);
            }
            Ok(batch)
        }
    }
}

fn nothing() -> KeyRange {
    KeyRange::new("\0", "\0").expect("equal bounds hold nothing")
}

/// Cuts the first piece off `range`: `None` when it holds no keys.
pub(crate) fn cut(
    view: &View<'_>,
    cf: Cf,
    range: &KeyRange,
) -> Result<(Option<KeyRange>, KeyRange), Error> {
    if range.is_empty() {
        return Ok((None, nothing()));
    }
    let mut keys = view.snapshot.iter(cf, range, Order::Forward);
    let mut found = false;
    for _ in 0..DELETE_RANGE_KEYS_MAX {
        if keys.next()?.is_none() {
            return Ok((found.then(|| range.clone()), nothing()));
        }
        found = true;
    }
    let Some((next, _)) = keys.next()? else {
        return Ok((Some(range.clone()), nothing()));
    };
    let piece = KeyRange::new(range.start().clone(), next.clone());
    let rest = KeyRange::new(next, range.end().clone());
    let order = "the iterator stays inside the range, in order";
    Ok((Some(piece.expect(order)), rest.expect(order)))
}
