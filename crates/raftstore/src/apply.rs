//! The apply loop: the only writer of user data.
//!
//! Committed entries come in the order of each region's log; one round of them, over all regions,
//! becomes one batch of the engine (a few when it is large). The batch of a region's entries also
//! holds the index of the last one, so whoever looks at `data` knows exactly what it has, and after
//! a crash the log replays the rest.
//!
//! What is judged here is judged alike on every replica: a write whose range has changed since it
//! was proposed has no effect, a change of peers decided under another `conf_ver` neither. Nothing
//! is applied of a peer after its own removal, and the removal itself is not stored: until its
//! tombstone stands, a peer that starts again is a member and can vote. The others may not have
//! heard yet, and need that vote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::{Region, RegionError, RegionId, StoreId};
use kiva_engine::{Engine, EngineError, WriteBatch};
use kiva_raft::{Entries, Entry, Index, MembershipChange, Payload};

use crate::change;
use crate::command::Command;
use crate::flaw::{Flaw, Flaws};
use crate::limits::APPLY_BATCH_MAX;
use crate::meta::{self, ApplyState, RegionRecord};
use crate::proposal::{Promises, ProposeError};

/// Work for the apply loop, in order per region.
pub enum ApplyMsg {
    /// A peer came to life, or a snapshot was installed: how far it is.
    Adopt(Arc<RegionRecord>, ApplyState),
    /// Entries that are committed and durable here, and who waits for them.
    Entries {
        /// Whose.
        region: RegionId,
        /// In the order of the log.
        entries: Entries,
        /// By index, ascending.
        promises: Vec<(Index, Promises)>,
    },
    /// The peer is gone; what is still waiting of its entries is not applied.
    Drop(RegionId),
}

/// What became of it.
#[derive(Debug)]
pub enum Applied {
    /// Everything up to `state.applied` can be read.
    Entries {
        /// Whose.
        region: RegionId,
        /// How far it is.
        state: ApplyState,
        /// The changes of members among the entries.
        changes: Vec<MemberChange>,
    },
    /// The snapshot is durable and can be read.
    Installed {
        /// The region as of the snapshot.
        record: Arc<RegionRecord>,
        /// How far it is.
        state: ApplyState,
    },
    /// Nothing is left.
    Cleared {
        /// Whose.
        region: RegionId,
    },
}

/// An applied change of members.
#[derive(Debug)]
pub struct MemberChange {
    /// The index of its entry.
    pub index: Index,
    /// The region from then on; `None` when the change was refused and has no effect.
    pub record: Option<Arc<RegionRecord>>,
}

/// The apply loop of some regions, without its thread.
///
/// Invariants:
/// - `state` of every region is what the engine's newest snapshot has, between calls, unless the
///   peer was removed.
/// - A region that is removed here applies nothing until it is cleared.
pub struct Apply {
    store: StoreId,
    engine: Arc<dyn Engine>,
    flaws: Flaws,
    regions: BTreeMap<RegionId, Applying>,
    /// The batch being gathered, and what is due once it is written.
    batch: WriteBatch,
    due: Vec<Due>,
    /// Regions whose apply state is not in the batch yet.
    dirty: BTreeSet<RegionId>,
}

struct Applying {
    record: Arc<RegionRecord>,
    state: ApplyState,
    /// What is stored once the peer is removed: how far it was before.
    removed_at: Option<ApplyState>,
}

/// Promises and how they are to be resolved.
type Due = (Promises, Vec<Result<(), ProposeError>>);

impl Apply {
    /// Without regions; they come with [`ApplyMsg::Adopt`].
    pub fn new(store: StoreId, engine: Arc<dyn Engine>, flaws: Flaws) -> Self {
        Self {
            store,
            engine,
            flaws,
            regions: BTreeMap::new(),
            batch: WriteBatch::new(),
            due: Vec::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Applies a round. An error is final: nobody knows what of it happened, and the store stops.
    pub fn handle(
        &mut self,
        round: impl IntoIterator<Item = ApplyMsg>,
    ) -> Result<Vec<Applied>, EngineError> {
        let mut applied = Vec::new();
        for message in round {
            match message {
                ApplyMsg::Adopt(record, state) => {
                    let id = record.region.id;
                    let applying = Applying { record, state, removed_at: None };
                    self.regions.insert(id, applying);
                }
                ApplyMsg::Entries { region, entries, promises } => {
                    let changes = self.entries(region, &entries, promises)?;
                    let Some(applying) = self.regions.get(&region) else { continue };
                    applied.push(Applied::Entries { region, state: applying.state, changes });
                }
                ApplyMsg::Drop(region) => {
                    self.write()?;
                    self.regions.remove(&region);
                }
            }
        }
        self.write()?;
        Ok(applied)
    }

    /// How far the regions are that are not removed, for whoever compares replicas.
    pub fn states(&self) -> impl Iterator<Item = (&RegionRecord, ApplyState)> {
        let regions = self.regions.values().filter(|applying| applying.removed_at.is_none());
        regions.map(|applying| (&*applying.record, applying.state))
    }

    fn entries(
        &mut self,
        region: RegionId,
        entries: &Entries,
        promises: Vec<(Index, Promises)>,
    ) -> Result<Vec<MemberChange>, EngineError> {
        let mut promises = promises.into_iter().peekable();
        let mut changes = Vec::new();
        for entry in entries {
            let waiting =
                promises.next_if(|(index, _)| *index == entry.index).map(|(_, waiting)| waiting);
            let Some(applying) = self.regions.get_mut(&region).filter(|it| it.removed_at.is_none())
            else {
                // It is committed, so the others apply it: that it did not happen is not true.
                waiting.into_iter().flatten().for_each(|promise| {
                    promise.resolve(Err(ProposeError::Unknown));
                });
                continue;
            };
            assert_eq!(
                entry.index,
                applying.state.applied.index.next(),
                "entries of region {region} are applied one after the other"
            );
            let before = applying.state;
            let outcomes = applying.apply(entry, self.store, &mut self.batch, &mut changes)?;
            applying.state.applied = entry.id();
            if applying.record.region.peer_on(self.store).is_none() {
                applying.removed_at = Some(before);
            }
            self.dirty.insert(region);
            if let Some(waiting) = waiting {
                self.due.push((waiting, outcomes));
            }
            if self.batch.size() >= APPLY_BATCH_MAX {
                self.write()?;
            }
        }
        Ok(changes)
    }

    /// Writes what was gathered; then those that wait are told, because it can be read now.
    fn write(&mut self) -> Result<(), EngineError> {
        while let Some(region) = self.dirty.pop_first() {
            let applying = &self.regions[&region];
            let state = applying.removed_at.unwrap_or(applying.state);
            if self.flaws.has(Flaw::AppliedApart) {
                let mut alone = WriteBatch::new();
                meta::save_apply_state(region, state, &mut alone);
                self.engine.write(&alone)?;
                continue;
            }
            meta::save_apply_state(region, state, &mut self.batch);
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        self.engine.write(&self.batch)?;
        self.batch.clear();
        for (promises, outcomes) in self.due.drain(..) {
            for (promise, outcome) in promises.into_iter().zip(outcomes) {
                promise.resolve(outcome);
            }
        }
        Ok(())
    }
}

impl Applying {
    /// Adds the effect of an entry to `batch`. One outcome per batch of the entry, or one.
    fn apply(
        &mut self,
        entry: &Entry,
        store: StoreId,
        batch: &mut WriteBatch,
        changes: &mut Vec<MemberChange>,
    ) -> Result<Vec<Result<(), ProposeError>>, EngineError> {
        match &entry.payload {
            Payload::Empty => Ok(vec![Ok(())]),
            Payload::Command(bytes) => self.command(bytes, entry.index, batch),
            Payload::Membership(change) => {
                let outcome = self.change(change, entry.index, store, batch, changes);
                Ok(vec![outcome.map_err(ProposeError::from)])
            }
        }
    }

    fn command(
        &mut self,
        bytes: &Bytes,
        index: Index,
        batch: &mut WriteBatch,
    ) -> Result<Vec<Result<(), ProposeError>>, EngineError> {
        // What a majority agreed on and this version cannot read must not be skipped.
        let command = Command::decode(bytes)
            .map_err(|_| EngineError::Malformed("an entry of the log is no command"))?;
        match command {
            Command::Write { version, batches } => {
                let epoch = self.record.region.epoch;
                if version != epoch.version {
                    let refusal = self.epoch_not_match();
                    return Ok(batches.iter().map(|_| Err(refusal.clone().into())).collect());
                }
                for encoded in &batches {
                    batch.extend_encoded(encoded)?;
                }
                Ok(batches.iter().map(|_| Ok(())).collect())
            }
            Command::CompactLog { upto } => {
                if upto.index > self.state.truncated.index && upto.index < index {
                    self.state.truncated = upto;
                }
                Ok(vec![Ok(())])
            }
        }
    }

    fn change(
        &mut self,
        change: &MembershipChange,
        index: Index,
        store: StoreId,
        batch: &mut WriteBatch,
        changes: &mut Vec<MemberChange>,
    ) -> Result<(), RegionError> {
        let changed = change::changed(&self.record, change);
        let outcome = match changed {
            Ok(record) => {
                if record.region.peer_on(store).is_some() {
                    meta::save_region(&record, batch);
                }
                self.record = Arc::new(record);
                Ok(())
            }
            Err(refusal) => Err(refusal),
        };
        let record = outcome.is_ok().then(|| self.record.clone());
        changes.push(MemberChange { index, record });
        outcome
    }

    fn epoch_not_match(&self) -> RegionError {
        RegionError::EpochNotMatch { current: vec![Region::clone(&self.record.region)] }
    }
}
