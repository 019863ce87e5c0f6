//! Scans of one range or several, in both directions.
//!
//! A forward scan covers `start..end`. A reverse scan runs downward, with `start` as its exclusive
//! upper bound and `end` as its inclusive lower one. Both are clamped to the region, and a page
//! shorter than the limit means that the region has no more.

use bytes::Bytes;
use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::{Key, KeyRange};
use kiva_engine::{Cf, Order};

use super::Pair;
use super::value::RawValue;
use crate::command::{Command, Read, Touched, View};
use crate::error::{Error, Refusal};

/// Asks for the pairs of one range.
#[derive(Debug)]
pub struct Scan {
    /// Where.
    pub cf: Cf,
    /// Where to begin.
    pub start: Key,
    /// Where to end; empty is unbounded, in either direction.
    pub end: Key,
    /// Most pairs to return.
    pub limit: usize,
    /// Leaves values out.
    pub key_only: bool,
    /// From which end.
    pub order: Order,
}

/// Asks for the pairs of several ranges, `limit` of each, in the order of the ranges.
#[derive(Debug)]
pub struct BatchScan {
    /// Where.
    pub cf: Cf,
    /// Start and end of each, as in [`Scan`]. An empty end means the next range's start, or
    /// unbounded in the last one.
    pub ranges: Vec<(Key, Key)>,
    /// Most pairs of each range.
    pub limit: usize,
    /// Leaves values out.
    pub key_only: bool,
    /// From which end.
    pub order: Order,
}

impl Command for Scan {
    type Reply = Vec<Pair>;
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(
        &self,
        check: &mut dyn FnMut(Touched<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (low, high) = bounds(self.order, &self.start, &self.end);
        check(Touched::Range(low, high))
    }
}

impl Read for Scan {
    fn is_long(&self) -> bool {
        true
    }

    fn read(&self, view: &View<'_>) -> Result<Vec<Pair>, Error> {
        let mut pairs = Vec::new();
        let (low, high) = bounds(self.order, &self.start, &self.end);
        let Some(range) = view.api.stored_range(KeyMode::Raw, low, high) else {
            return Ok(pairs);
        };
        let range = range.intersect(view.range);
        scan_live(view, self.cf, &range, self.order, self.limit, |key, record| {
            let value = if self.key_only { Bytes::new() } else { record.value };
            pairs.push((view.api.raw_user_key(&key)?, value));
            Ok(())
        })?;
        Ok(pairs)
    }
}

impl BatchScan {
    /// Start and end of each range, with the ends that were left out.
    fn ranges(&self) -> impl Iterator<Item = (&Key, &Key)> {
        let next_starts = self.ranges.iter().skip(1).map(|(start, _)| Some(start));
        let ranges = self.ranges.iter().zip(next_starts.chain([None]));
        ranges.map(|((start, end), next)| match next {
            Some(next) if end.as_bytes().is_empty() => (start, next),
            _ => (start, end),
        })
    }
}

impl Command for BatchScan {
    type Reply = Vec<Pair>;
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(
        &self,
        check: &mut dyn FnMut(Touched<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.ranges().try_for_each(|(start, end)| {
            let (low, high) = bounds(self.order, start, end);
            check(Touched::Range(low, high))
        })
    }

    fn check(&self, _api: ApiVersion) -> Result<(), Refusal> {
        let backward = self.ranges().position(|(start, end)| {
            let (low, high) = bounds(self.order, start, end);
            !high.as_bytes().is_empty() && low >= high
        });
        backward.map_or(Ok(()), |position| Err(Refusal::BackwardRange { position }))
    }
}

impl Read for BatchScan {
    fn is_long(&self) -> bool {
        true
    }

    fn read(&self, view: &View<'_>) -> Result<Vec<Pair>, Error> {
        let mut pairs = Vec::new();
        for (start, end) in self.ranges() {
            let scan = Scan {
                cf: self.cf,
                start: start.clone(),
                end: end.clone(),
                limit: self.limit,
                key_only: self.key_only,
                order: self.order,
            };
            pairs.append(&mut scan.read(view)?);
        }
        Ok(pairs)
    }
}

/// The lower and the upper bound of a scan.
fn bounds<'a>(order: Order, start: &'a Key, end: &'a Key) -> (&'a Key, &'a Key) {
    match order {
        Order::Forward => (start, end),
        Order::Reverse => (end, start),
    }
}

/// Visits up to `limit` values of `range` that have not expired, with their stored keys.
pub(super) fn scan_live(
    view: &View<'_>,
    cf: Cf,
    range: &KeyRange,
    order: Order,
    limit: usize,
    mut visit: impl FnMut(Bytes, RawValue) -> Result<(), Error>,
) -> Result<(), Error> {
    if limit == 0 || range.is_empty() {
        return Ok(());
    }
    let mut visited = 0;
    let mut stored = view.snapshot.iter(cf, range, order);
    while visited < limit
        && let Some((key, bytes)) = stored.next()?
    {
        let record = RawValue::decode(view.api, &bytes)?;
        if !record.is_expired(view.now_s) {
            visit(key, record)?;
            visited += 1;
        }
    }
    Ok(())
}
