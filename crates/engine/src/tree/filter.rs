//! Our filter, as the library calls it: a pair that goes leaves a tombstone in its place.
//!
//! It also is the only hand we have inside a merge that runs: when the engine is closed, the next
//! pair ends the merge with an error, and what it has written goes at the next opening.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lsm_tree::compaction::filter::Context;
use lsm_tree::compaction::{CompactionFilter, Factory, ItemAccessor, Verdict as Outcome};

use crate::{Cf, Filter, Verdict};

/// Makes one judge per merge.
///
/// A filter that panics ends the thread that merges, and with it the engine; nothing it shares is
/// used after that, hence the assertion.
pub(super) struct Judging(AssertUnwindSafe<Judge>);

#[derive(Clone)]
struct Judge {
    filter: Option<Arc<dyn Filter>>,
    closing: Arc<AtomicBool>,
}

impl Judging {
    pub(super) fn new(filter: Option<Arc<dyn Filter>>, closing: Arc<AtomicBool>) -> Self {
        Self(AssertUnwindSafe(Judge { filter, closing }))
    }
}

impl Factory for Judging {
    fn name(&self) -> &str {
        "kiva"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(self.0.clone())
    }
}

impl CompactionFilter for Judge {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Outcome> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        let Some(filter) = &self.filter else {
            return Ok(Outcome::Keep);
        };
        let Some((&family, key)) = item.key().split_first() else {
            return Ok(Outcome::Keep);
        };
        let Some(cf) = Cf::from_byte(family) else {
            return Ok(Outcome::Keep);
        };
        // `Destroy` would uncover older versions in tables below; `Remove` leaves a tombstone.
        Ok(match filter.judge(cf, key, &item.value()?) {
            Verdict::Keep => Outcome::Keep,
            Verdict::Remove => Outcome::Remove,
        })
    }
}
