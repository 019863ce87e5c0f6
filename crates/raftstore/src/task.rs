//! What takes too long for a loop: putting a snapshot in place, and clearing away what a peer had.
//!
//! Both wait for the disk, so a thread of their own does them. While a snapshot is being installed
//! its peer applies nothing and writes nothing to the log, and a peer whose data is cleared takes
//! no part any more; so nobody else touches what a task changes.

use std::sync::Arc;

use kiva_base::{KeyRange, RegionId};
use kiva_engine::{Engine, EngineError, WriteBatch};
use kiva_raft::EntryId;

use crate::apply::Applied;
use crate::flaw::{Flaw, Flaws};
use crate::meta::{self, ApplyState, RegionRecord};
use crate::snapshot::{self, Received, Wrote};

/// Something that takes long.
#[derive(Debug)]
pub enum Task {
    /// A snapshot replaces everything the region has here.
    Install {
        /// The region as of the snapshot.
        record: Arc<RegionRecord>,
        /// The last entry the snapshot stands for.
        last: EntryId,
        /// Its data.
        file: Received,
        /// Ranges whose data goes first: what the peer had.
        clear: Vec<KeyRange>,
        /// Bugs that were put in on purpose.
        flaws: Flaws,
    },
    /// A peer is gone and its tombstone stands: its data and metadata go.
    Clear {
        /// Whose.
        region: RegionId,
        /// What it had, unless another region here has it now.
        ranges: Vec<KeyRange>,
    },
}

impl Task {
    /// Does it. An error is final: nobody knows what of it happened, and the store stops.
    ///
    /// What was installed is durable on return, because the log is about to forget everything
    /// before it. What was cleared need not be: the tombstone has it done again.
    pub fn run(self, engine: &dyn Engine) -> Result<Applied, EngineError> {
        match self {
            Self::Install { record, last, file, clear, flaws } => {
                let state = ApplyState { applied: last, truncated: last };
                let local = meta::items(&record, state);
                let wrote = snapshot::install(engine, &file, &clear, &local)?;
                if wrote == Wrote::Batch && !flaws.has(Flaw::SnapshotNotDurable) {
                    engine.flush()?;
                }
                Ok(Applied::Installed { record, state })
            }
            Self::Clear { region, ranges } => {
                let mut batch = WriteBatch::new();
                meta::remove_region(region, &mut batch);
                let _ = snapshot::clear(engine, &ranges, batch)?;
                Ok(Applied::Cleared { region })
            }
        }
    }
}
