//! [`install`] and [`clear`]: what a region had here makes room for what it has now, at one moment.
//!
//! Both are one stream, made while it is read:
//!
//! ```text
//! keys that are there     a  b     d     f     in the ranges that are to be cleared
//! pairs of the snapshot      b  c  d
//! stream                 -a  b  c  d    -f     then the records of the local family
//! ```
//!
//! A small stream is one batch, a large one an ingestion. Either is seen at one moment, over all
//! families; after a crash it has happened or not, the region's own record included.
//!
//! Nobody else may write to the ranges meanwhile: they belong to the loop that applies the region.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use kiva_base::KeyRange;
use kiva_engine::{
    Cf, Engine, EngineError, Iter, Op, Order, Snapshot, SortedItem, SortedItems, WriteBatch,
};

use super::FAMILIES;
use super::folder::Received;
use super::read::Pairs;
use crate::limits::SNAPSHOT_BATCH_MAX;

/// How something was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a batch is durable with the next flush only"]
pub enum Wrote {
    /// As one batch: it can be read, and is durable with the next flush of the engine.
    Batch,
    /// As an ingestion: it can be read and is durable.
    Ingestion,
}

/// Puts a region's state into `engine`: the pairs of `snapshot` and the records `local`, and
/// nothing else in the snapshot's range or in `clear`.
///
/// `clear` is what the region had here and no other region on this store has now
/// ([`subtract`]); a peer that never had a range has nothing to clear. Records are keys and values
/// of the local family, in any order. The snapshot is [retired](Received::retire) in the end: the
/// caller gives up its handle when what was written is durable.
///
/// When the snapshot turns out to be damaged, or the engine cannot read or write, nothing has
/// happened, except that a failed write leaves open whether it did ([`Engine::write`]).
pub fn install(
    engine: &dyn Engine,
    snapshot: &Received,
    clear: &[KeyRange],
    local: &[(Vec<u8>, Vec<u8>)],
) -> Result<Wrote, EngineError> {
    let local: BTreeMap<Bytes, Option<Bytes>> =
        local.iter().map(|(key, value)| (key.clone().into(), Some(value.clone().into()))).collect();
    let ranges: Vec<_> = clear.iter().chain([&snapshot.meta().range]).cloned().collect();
    let view = engine.snapshot();
    let stream = || Merged::new(&view, &ranges, Some(snapshot.pairs()?), &local);
    let wrote = if snapshot.totals().bytes >= SNAPSHOT_BATCH_MAX as u64 {
        engine.ingest(&mut stream()?)?;
        Wrote::Ingestion
    } else {
        write(engine, stream)?
    };
    snapshot.retire();
    Ok(wrote)
}

/// Removes everything in `ranges`, and does what `local` says: puts and deletes in the local
/// family.
///
/// # Panics
/// When there is something else in `local`.
pub fn clear(
    engine: &dyn Engine,
    ranges: &[KeyRange],
    local: WriteBatch,
) -> Result<Wrote, EngineError> {
    let local: BTreeMap<Bytes, Option<Bytes>> = local
        .ops()
        .map(|op| match op {
            Op::Put { cf: Cf::Local, key, value } => {
                (Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)))
            }
            Op::Delete { cf: Cf::Local, key } => (Bytes::copy_from_slice(key), None),
            other => panic!("{other:?} is no put or delete in the local family"),
        })
        .collect();
    let view = engine.snapshot();
    write(engine, || Merged::new(&view, ranges, None, &local))
}

/// The parts of `range` that are in none of `others`: what may be cleared when other regions have
/// taken over the rest.
pub fn subtract(range: &KeyRange, others: &[KeyRange]) -> Vec<KeyRange> {
    let mut parts = Vec::new();
    let mut rest = Some(range.clone());
    for other in normal(others) {
        let Some(left) = rest.take().filter(|left| !left.is_empty()) else {
            break;
        };
        if !left.overlaps(&other) {
            rest = Some(left);
            continue;
        }
        // What lies before it is a part; what lies behind it may meet the next one.
        if left.start() < other.start() {
            parts.extend(KeyRange::new(left.start().clone(), other.start().clone()));
        }
        let is_behind = !other.end().is_empty();
        rest = is_behind.then(|| KeyRange::new(other.end().clone(), left.end().clone())).flatten();
    }
    parts.extend(rest);
    parts.retain(|part| !part.is_empty());
    parts
}

/// As one batch if it is small, as an ingestion otherwise. `stream` is asked for a second one when
/// the first turns out to be too long.
fn write<'a>(
    engine: &dyn Engine,
    stream: impl Fn() -> Result<Merged<'a>, EngineError>,
) -> Result<Wrote, EngineError> {
    let mut batch = WriteBatch::new();
    let mut items = stream()?;
    while let Some(item) = items.next()? {
        match &item.value {
            Some(value) => batch.put(item.cf, &item.key, value),
            None => batch.delete(item.cf, &item.key),
        }
        if batch.size() > SNAPSHOT_BATCH_MAX {
            drop((batch, items));
            engine.ingest(&mut stream()?)?;
            return Ok(Wrote::Ingestion);
        }
    }
    engine.write(&batch)?;
    Ok(Wrote::Batch)
}

/// Deletes of what is there, pairs of a snapshot, and local records, in the order of an ingestion.
struct Merged<'a> {
    existing: Existing,
    /// The next key that is there and has not been compared yet.
    old: Option<(Cf, Bytes)>,
    pairs: Option<Pairs>,
    /// The next pair of the snapshot.
    new: Option<(Cf, Bytes, Bytes)>,
    local: Box<dyn Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> + 'a>,
}

impl<'a> Merged<'a> {
    fn new(
        view: &Arc<dyn Snapshot>,
        ranges: &[KeyRange],
        pairs: Option<Pairs>,
        local: &'a BTreeMap<Bytes, Option<Bytes>>,
    ) -> Result<Self, EngineError> {
        let mut merged = Self {
            existing: Existing::new(view.clone(), normal(ranges)),
            old: None,
            pairs,
            new: None,
            local: Box::new(local.iter()),
        };
        merged.old = merged.existing.next()?;
        merged.advance()?;
        Ok(merged)
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        self.new = match &mut self.pairs {
            Some(pairs) => pairs.next_pair()?,
            None => None,
        };
        Ok(())
    }
}

impl SortedItems for Merged<'_> {
    fn next(&mut self) -> Result<Option<SortedItem>, EngineError> {
        let old = self.old.as_ref().map(|(cf, key)| (*cf, key));
        let new = self.new.as_ref().map(|(cf, key, _)| (*cf, key));
        let (takes_old, takes_new) = match (old, new) {
            (None, None) => {
                let local = self.local.next();
                return Ok(local.map(|(key, value)| SortedItem {
                    cf: Cf::Local,
                    key: key.clone(),
                    value: value.clone(),
                }));
            }
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            // Of a key that is in both, the new value is all that counts.
            (Some(old), Some(new)) => (old <= new, new <= old),
        };
        let mut item = None;
        if takes_old {
            item = self.old.take().map(|(cf, key)| SortedItem { cf, key, value: None });
            self.old = self.existing.next()?;
        }
        if takes_new {
            let new = self.new.take();
            item = new.map(|(cf, key, value)| SortedItem { cf, key, value: Some(value) });
            self.advance()?;
        }
        Ok(item)
    }
}

/// The keys that a view has in some ranges, by family and then by key.
struct Existing {
    view: Arc<dyn Snapshot>,
    places: Peekable<vec::IntoIter<(Cf, KeyRange)>>,
    iter: Option<Box<dyn Iter>>,
}

impl Existing {
    /// The ranges ascend and do not overlap.
    fn new(view: Arc<dyn Snapshot>, ranges: Vec<KeyRange>) -> Self {
        let in_family = |cf| ranges.iter().map(move |range| (cf, range.clone()));
        let places: Vec<_> = FAMILIES.into_iter().flat_map(in_family).collect();
        Self { view, places: places.into_iter().peekable(), iter: None }
    }

    fn next(&mut self) -> Result<Option<(Cf, Bytes)>, EngineError> {
        while let Some((cf, range)) = self.places.peek() {
            let view = &self.view;
            let keys = self.iter.get_or_insert_with(|| view.iter(*cf, range, Order::Forward));
            if let Some((key, _)) = keys.next()? {
                return Ok(Some((*cf, key)));
            }
            self.iter = None;
            self.places.next();
        }
        Ok(None)
    }
}

/// The same keys in ranges that ascend, do not overlap and are not empty.
fn normal(ranges: &[KeyRange]) -> Vec<KeyRange> {
    let mut sorted: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).collect();
    sorted.sort_by(|a, b| a.start().cmp(b.start()));
    let mut merged: Vec<KeyRange> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if last.end().is_empty() => break,
            Some(last) if range.start() <= last.end() => {
                let end = match range.end().is_empty() {
                    true => Bytes::new(),
                    false => range.end().clone().max(last.end().clone()),
                };
                *last = KeyRange::new(last.start().clone(), end).expect("both ran forward");
            }
            _ => merged.push(range.clone()),
        }
    }
    merged
}
