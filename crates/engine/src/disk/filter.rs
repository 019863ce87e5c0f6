//! Our filter, as the library calls it: a pair that goes leaves a tombstone in its place.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict as Outcome,
};

use crate::{Cf, Filter, Verdict};

/// Makes one judge per compaction.
///
/// A filter that panics ends the compaction's thread, and with it the engine; nothing it shares is
/// used after that, hence the assertion.
pub(super) struct Judging(AssertUnwindSafe<Arc<dyn Filter>>);

impl Judging {
    pub(super) fn new(filter: Arc<dyn Filter>) -> Self {
        Self(AssertUnwindSafe(filter))
    }
}

impl Factory for Judging {
    fn name(&self) -> &str {
        "kiva"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Judge(Arc::clone(&self.0)))
    }
}

struct Judge(Arc<dyn Filter>);

impl CompactionFilter for Judge {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let Some((&family, key)) = item.key().split_first() else {
            return Ok(Outcome::Keep);
        };
        let Some(cf) = Cf::from_byte(family) else {
            return Ok(Outcome::Keep);
        };
        // `Destroy` would uncover older versions in tables below; `Remove` leaves a tombstone.
        Ok(match self.0.judge(cf, key, &item.value()?) {
            Verdict::Keep => Outcome::Keep,
            Verdict::Remove => Outcome::Remove,
        })
    }
}
