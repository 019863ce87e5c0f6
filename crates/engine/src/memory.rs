//! The engine in memory: for tests, and for the simulator, which decides what a crash loses.
//!
//! Every key has its versions, each with the number of the batch that wrote it. A snapshot is such
//! a number, and so is everything else that matters:
//!
//! ```text
//! batches   1   2   3   4   5   6   7   8
//!                   └ durable       │   └ written: its write failed and may have happened
//!                                   └ visible: what a new snapshot sees
//! ```
//!
//! A crash goes back to a number from `durable` to `written`, as the caller chooses. A version goes
//! when a newer one exists at or below everything anybody can still ask for: the durable number,
//! and the snapshots that are alive. What may go then is queued when it is superseded, so a write
//! pays for what it replaces and nothing ever walks the whole map.
//!
//! There is one lock. Nothing here depends on addresses, time or hashing, so equal calls give equal
//! answers.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use kiva_base::KeyRange;

use crate::sorted::Checked;
use crate::{
    Cf, Engine, EngineError, Filter, Health, Iter, Op, Order, Snapshot, SortedItems, Verdict,
    WriteBatch,
};

/// An engine without a disk, which can crash on demand. A clone is another handle to it.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    shared: Arc<Shared>,
}

/// What handles, snapshots and iterators share.
#[derive(Default)]
struct Shared {
    /// Readers take it for one step at a time, so no writer waits for a scan.
    state: RwLock<State>,
    filter: Option<Arc<dyn Filter>>,
}

/// - `durable <= visible <= written`, and they differ by one at most between the last two.
/// - The versions of a key ascend, and the newest at or below the watermark is a value.
/// - Every version but a key's only value has an entry in `superseded`, until it is gone.
#[derive(Default)]
struct State {
    families: [BTreeMap<Bytes, Versions>; Cf::ALL.len()],
    durable: u64,
    visible: u64,
    written: u64,
    /// Snapshots alive, by the number of the last batch they see.
    snapshots: BTreeMap<u64, usize>,
    /// Which key can be tidied up once nobody can see below this number.
    superseded: VecDeque<(u64, Cf, Bytes)>,
    poison: Option<String>,
    fail_write: Option<FailedWrite>,
    fail_flush: bool,
}

/// Oldest first; `None` is a delete.
type Versions = Vec<(u64, Option<Bytes>)>;

/// What becomes of a write that is made to fail: its caller cannot know either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailedWrite {
    /// It never happened.
    Lost,
    /// It counts among the unsynced batches that a crash may leave.
    Happened,
}

impl MemoryEngine {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty, with rules for [`compact`](Self::compact).
    pub fn with_filter(filter: Arc<dyn Filter>) -> Self {
        Self { shared: Arc::new(Shared { state: RwLock::default(), filter: Some(filter) }) }
    }

    /// How many batches a crash would lose at most.
    pub fn unsynced(&self) -> usize {
        let state = self.shared.read();
        (state.written - state.durable) as usize
    }

    /// What is found after a crash that the first `survivors` of the [unsynced](Self::unsynced)
    /// batches live through. This engine is gone then: it is poisoned, its snapshots stay.
    ///
    /// Panics when there are not that many.
    #[must_use]
    pub fn crash(&self, survivors: usize) -> Self {
        let mut state = self.shared.write();
        let last = state.durable + survivors as u64;
        assert!(
            last <= state.written,
            "{survivors} batches cannot survive when {} are unsynced",
            state.written - state.durable
        );
        state.poison.get_or_insert_with(|| "it crashed".to_owned());
        let mut found = State { durable: last, visible: last, written: last, ..State::default() };
        for (after, before) in found.families.iter_mut().zip(&state.families) {
            *after = before
                .iter()
                .filter_map(|(key, versions)| {
                    let value = seen(versions, last)?.clone();
                    Some((key.clone(), vec![(last, Some(value))]))
                })
                .collect();
        }
        Self {
            shared: Arc::new(Shared {
                state: RwLock::new(found),
                filter: self.shared.filter.clone(),
            }),
        }
    }

    /// Makes the next write or ingestion fail, which poisons the engine.
    pub fn fail_next_write(&self, outcome: FailedWrite) {
        self.shared.write().fail_write = Some(outcome);
    }

    /// Makes the next flush fail, which poisons the engine. Nothing becomes durable.
    pub fn fail_next_flush(&self) {
        self.shared.write().fail_flush = true;
    }

    /// Shows every current pair to the filter, and removes what it says.
    pub fn compact(&self) {
        let Some(filter) = &self.shared.filter else {
            return;
        };
        let state = &mut *self.shared.write();
        for (cf, family) in Cf::ALL.into_iter().zip(&mut state.families) {
            for (key, versions) in family.iter_mut() {
                let Some((number, slot)) = versions.last_mut() else {
                    continue;
                };
                let removed = slot
                    .as_ref()
                    .is_some_and(|value| filter.judge(cf, key, value) == Verdict::Remove);
                if removed {
                    *slot = None;
                    let at = state.superseded.partition_point(|(seen, ..)| seen <= number);
                    state.superseded.insert(at, (*number, cf, key.clone()));
                }
            }
        }
        state.tidy();
    }

    /// How many versions it holds: what snapshots and unsynced batches cost.
    pub fn versions(&self) -> usize {
        let state = self.shared.read();
        state.families.iter().flat_map(BTreeMap::values).map(Vec::len).sum()
    }
}

impl Engine for MemoryEngine {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        let mut state = self.shared.write();
        let number = state.visible;
        *state.snapshots.entry(number).or_default() += 1;
        drop(state);
        Arc::new(MemorySnapshot(Arc::new(Pinned { shared: Arc::clone(&self.shared), number })))
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        batch.check()?;
        self.shared.write().commit(batch)
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut state = self.shared.write();
        state.alive()?;
        if std::mem::take(&mut state.fail_flush) {
            return Err(state.fail("sync"));
        }
        state.durable = state.visible;
        state.tidy();
        Ok(())
    }

    fn ingest(&self, items: &mut dyn SortedItems) -> Result<(), EngineError> {
        let mut batch = WriteBatch::new();
        let mut items = Checked::new(items);
        while let Some(item) = items.next()? {
            match item.value {
                Some(value) => batch.put(item.cf, &item.key, &value),
                None => batch.delete(item.cf, &item.key),
            }
        }
        let mut state = self.shared.write();
        state.commit(&batch)?;
        state.durable = state.visible;
        state.tidy();
        Ok(())
    }

    fn approximate_size(&self, cf: Cf, range: &KeyRange) -> u64 {
        let state = self.shared.read();
        state.families[cf.index()]
            .range::<[u8], _>(bounds(range))
            .filter_map(|(key, versions)| Some(key.len() + seen(versions, state.visible)?.len()))
            .sum::<usize>() as u64
    }

    fn health(&self) -> Health {
        match self.shared.read().poison {
            Some(_) => Health::Poisoned,
            None => Health::Good,
        }
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("nothing panics under this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("nothing panics under this lock")
    }
}

impl State {
    fn alive(&self) -> Result<(), EngineError> {
        match &self.poison {
            Some(reason) => Err(EngineError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// As a disk would fail, so that callers see a first error that is not `Poisoned`.
    fn fail(&mut self, action: &'static str) -> EngineError {
        let error = EngineError::Io {
            action,
            path: PathBuf::from("memory"),
            source: io::Error::other("made to fail"),
        };
        self.poison = Some(error.to_string());
        error
    }

    fn commit(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.alive()?;
        if self.fail_write == Some(FailedWrite::Lost) {
            return Err(self.fail("write to"));
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.written += 1;
        for op in batch.ops() {
            match op {
                Op::Put { cf, key, value } => self.put(cf, key, value),
                Op::Delete { cf, key } => self.delete(cf, key),
                Op::DeleteRange { cf, start, end } => self.delete_range(cf, start, end),
            }
        }
        if self.fail_write.is_some() {
            return Err(self.fail("write to"));
        }
        self.visible = self.written;
        self.tidy();
        Ok(())
    }

    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) {
        let value = Some(Bytes::copy_from_slice(value));
        let family = &mut self.families[cf.index()];
        if let Some((key, versions)) = entry(family, key) {
            add(versions, self.written, value);
            self.superseded.push_back((self.written, cf, key));
        } else {
            family.insert(Bytes::copy_from_slice(key), vec![(self.written, value)]);
        }
    }

    fn delete(&mut self, cf: Cf, key: &[u8]) {
        if let Some((key, versions)) = entry(&mut self.families[cf.index()], key) {
            add(versions, self.written, None);
            self.superseded.push_back((self.written, cf, key));
        }
    }

    fn delete_range(&mut self, cf: Cf, start: &[u8], end: &[u8]) {
        let range = (Bound::Included(start), upper_bound(end));
        if !end.is_empty() && end <= start {
            return;
        }
        for (key, versions) in self.families[cf.index()].range_mut::<[u8], _>(range) {
            if seen(versions, self.written).is_some() {
                add(versions, self.written, None);
                self.superseded.push_back((self.written, cf, key.clone()));
            }
        }
    }

    /// Drops what nobody can see any more.
    fn tidy(&mut self) {
        let oldest = self.snapshots.keys().next().copied();
        let watermark = oldest.map_or(self.durable, |oldest| oldest.min(self.durable));
        while let Some((number, ..)) = self.superseded.front() {
            if *number > watermark {
                break;
            }
            let (_, cf, key) = self.superseded.pop_front().expect("it has a front");
            let family = &mut self.families[cf.index()];
            let Some(versions) = family.get_mut(&key) else {
                continue;
            };
            let below = versions.partition_point(|(number, _)| *number <= watermark);
            let last_is_value = below > 0 && versions[below - 1].1.is_some();
            versions.drain(..below - usize::from(last_is_value));
            if versions.is_empty() {
                family.remove(&key);
            }
        }
    }
}

/// A key's versions, with the key as it is stored.
fn entry<'a>(
    family: &'a mut BTreeMap<Bytes, Versions>,
    key: &[u8],
) -> Option<(Bytes, &'a mut Versions)> {
    let (key, versions) =
        family.range_mut::<[u8], _>((Bound::Included(key), Bound::Included(key))).next()?;
    Some((key.clone(), versions))
}

/// Within one batch the last operation on a key decides.
fn add(versions: &mut Versions, number: u64, value: Option<Bytes>) {
    match versions.last_mut() {
        Some((last, slot)) if *last == number => *slot = value,
        _ => versions.push((number, value)),
    }
}

/// The value at `number`.
fn seen(versions: &Versions, number: u64) -> Option<&Bytes> {
    let below = versions.partition_point(|(at, _)| *at <= number);
    versions[..below].last()?.1.as_ref()
}

fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(range.start()), upper_bound(range.end()))
}

fn upper_bound(end: &[u8]) -> Bound<&[u8]> {
    if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) }
}

/// A number that must stay readable; registered in the state until it is dropped.
struct Pinned {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut state = self.shared.write();
        if let Some(count) = state.snapshots.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                state.snapshots.remove(&self.number);
                state.tidy();
            }
        }
    }
}

struct MemorySnapshot(Arc<Pinned>);

impl Snapshot for MemorySnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let state = self.0.shared.read();
        let versions = state.families[cf.index()].get(key);
        Ok(versions.and_then(|versions| seen(versions, self.0.number).cloned()))
    }

    fn iter(&self, cf: Cf, range: &KeyRange, order: Order) -> Box<dyn Iter> {
        Box::new(MemoryIter {
            pinned: Arc::clone(&self.0),
            cf,
            rest: (!range.is_empty()).then(|| Rest {
                from: Bound::Included(range.start().clone()),
                to: upper_bound(range.end()).map(Bytes::copy_from_slice),
            }),
            order,
        })
    }
}

/// Finds its place anew at every step, so that it holds no lock in between.
struct MemoryIter {
    pinned: Arc<Pinned>,
    cf: Cf,
    /// What is still to come; `None` at the end.
    rest: Option<Rest>,
    order: Order,
}

struct Rest {
    from: Bound<Bytes>,
    to: Bound<Bytes>,
}

impl Iter for MemoryIter {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        let Some(rest) = &mut self.rest else {
            return Ok(None);
        };
        let number = self.pinned.number;
        let state = self.pinned.shared.read();
        let mut range = state.families[self.cf.index()].range::<[u8], _>((
            rest.from.as_ref().map(|key| &key[..]),
            rest.to.as_ref().map(|key| &key[..]),
        ));
        let mut visible = std::iter::from_fn(|| match self.order {
            Order::Forward => range.next(),
            Order::Reverse => range.next_back(),
        })
        .filter_map(|(key, versions)| Some((key.clone(), seen(versions, number)?.clone())));
        let found = visible.next();
        match (&found, self.order) {
            (None, _) => self.rest = None,
            (Some((key, _)), Order::Forward) => rest.from = Bound::Excluded(key.clone()),
            (Some((key, _)), Order::Reverse) => rest.to = Bound::Excluded(key.clone()),
        }
        Ok(found)
    }
}
