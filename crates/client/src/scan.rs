//! Scans over many regions, page by page.
//!
//! A page shorter than its limit says that the region has no more, and the scan goes on in the
//! next one, forward where the region ends, backward where it begins. Bounds are cut to the region
//! that is asked, so that a region that has split meanwhile refuses instead of skipping keys.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kiva_base::Timestamp;
use kiva_base::codec::DecodeError;

use crate::core::{Core, Failure, Place, Repeat};
use crate::keyspace::Codec;
use crate::limits::SCAN_PAGE;
use crate::region_cache::Route;
use crate::resolver;
use crate::rpc::{Command, Direction, Reply, Span};
use crate::scatter::Refused;

/// A kind of scan.
pub(crate) trait Pages: Send + Sync {
    type Error: From<Failure> + Send;

    /// How its keys are written.
    fn codec<'a>(&self, core: &'a Core) -> &'a Codec;
    /// The command for one page.
    fn command(&self, span: Span) -> Command;
    /// Reads a page.
    fn accept(&self, reply: Reply) -> Result<Vec<(Bytes, Bytes)>, Refused<Self::Error>>;
    /// The timestamp it reads at; zero without transactions.
    fn reads_at(&self) -> Timestamp {
        Timestamp::ZERO
    }
}

/// What is to be scanned, in wire form. Empty bounds are unbounded.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub(crate) lower: Bytes,
    pub(crate) upper: Bytes,
    pub(crate) limit: usize,
    pub(crate) direction: Direction,
}

/// The pairs of an extent, at most its limit, in scan order. Keys are in wire form.
pub(crate) async fn scan<P: Pages>(
    core: &Arc<Core>,
    pages: &P,
    extent: Extent,
    timeout: Duration,
) -> Result<Vec<(Bytes, Bytes)>, P::Error> {
    let mut trial = core.trial(timeout);
    let codec = pages.codec(core);
    let mut left = extent;
    let mut pairs = Vec::new();
    while left.limit > 0 && !left.is_empty() {
        let limit = left.limit.min(SCAN_PAGE as usize) as u32;
        let bound = codec.boundary(left.next_bound());
        let place = match left.direction {
            Direction::Forward => Place::Key(&bound),
            Direction::Backward => Place::Before(&bound),
        };
        let make = |route: &Route| {
            let part = left.within(codec, route)?;
            Ok(Cow::Owned(pages.command(Span {
                lower: part.lower,
                upper: part.upper,
                limit,
                direction: left.direction,
            })))
        };
        let (route, reply) = core.at(codec, place, make, Repeat::Always, &mut trial).await?;
        let page = match pages.accept(reply) {
            Ok(page) => page,
            Err(Refused::Failed(error)) => return Err(error),
            Err(Refused::Locked(locks)) => {
                resolver::settle(core, locks, pages.reads_at(), &mut trial).await?;
                continue;
            }
        };
        // Other transactions' locks are looked at page by page: a list that only grows would be
        // sent with each.
        trial.passed.clear();
        trial.backoff.part_done();
        left.limit = left.limit.saturating_sub(page.len());
        match page.last() {
            Some((last, _)) if page.len() >= limit as usize => left.pass_key(last),
            _ => left.pass_region(codec, &route).map_err(Failure::from)?,
        }
        pairs.extend(page);
    }
    Ok(pairs)
}

impl Extent {
    /// Where the next page begins.
    fn next_bound(&self) -> &Bytes {
        match self.direction {
            Direction::Forward => &self.lower,
            Direction::Backward => &self.upper,
        }
    }

    /// Whether nothing is left.
    fn is_empty(&self) -> bool {
        !self.upper.is_empty() && self.lower >= self.upper
    }

    /// What of it lies in the route's region.
    pub(crate) fn within(&self, codec: &Codec, route: &Route) -> Result<Self, DecodeError> {
        let start = codec.boundary_to_wire(route.region.range.start())?;
        let end = codec.boundary_to_wire(route.region.range.end())?;
        let upper = match (self.upper.is_empty(), end.is_empty()) {
            (true, _) => end,
            (_, true) => self.upper.clone(),
            _ => end.min(self.upper.clone()),
        };
        Ok(Self { lower: start.max(self.lower.clone()), upper, ..self.clone() })
    }

    /// Goes on behind a key.
    fn pass_key(&mut self, last: &Bytes) {
        match self.direction {
            Direction::Forward => {
                let mut next = BytesMut::with_capacity(last.len() + 1);
                next.put_slice(last);
                next.put_u8(0);
                self.lower = next.freeze();
            }
            Direction::Backward => self.end_at(last.clone()),
        }
    }

    /// Goes on in the next region.
    pub(crate) fn pass_region(&mut self, codec: &Codec, route: &Route) -> Result<(), DecodeError> {
        match self.direction {
            Direction::Forward => {
                let end = codec.boundary_to_wire(route.region.range.end())?;
                match end.is_empty() {
                    true => self.end_at(self.lower.clone()),
                    false => self.lower = end,
                }
            }
            Direction::Backward => {
                let start = codec.boundary_to_wire(route.region.range.start())?;
                self.end_at(start);
            }
        }
        Ok(())
    }

    /// Moves the upper bound down; an empty one, which would be unbounded, leaves nothing.
    fn end_at(&mut self, upper: Bytes) {
        if upper.is_empty() {
            self.limit = 0;
        }
        self.upper = upper;
    }

    /// Whether there is something left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.limit == 0 || self.is_empty()
    }
}
