//! The log beside a plain map: what it shows, and what a crash leaves, is always one of the states
//! that the map went through, and never one before the last sync.

use std::collections::BTreeMap;

use bytes::Bytes;
use kiva_base::{Epoch, PeerId, RegionId};
use kiva_raft::{Entries, Entry, EntryId, HardState, Index, Term};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{collect_all, hard_state, id, open_with, payload, region};
use crate::disk::MemoryDisk;
use crate::log::{Log, LogBatch, LogWriteError, Opened, Options, Tombstone, Written};

/// A region of the map.
#[derive(Clone, Default, PartialEq, Debug)]
struct Region {
    start: EntryId,
    /// After `start`.
    entries: Vec<Entry>,
    /// Nobody needs what is not after this.
    floor: Index,
    hard_state: HardState,
}

impl Region {
    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start, Entry::id)
    }

    /// What is still needed.
    fn needed(&self) -> &[Entry] {
        &self.entries[self.floor.max(self.start.index).since(self.start.index) as usize..]
    }
}

/// The map.
#[derive(Clone, Default, PartialEq, Debug)]
struct State {
    regions: BTreeMap<RegionId, Region>,
    tombstones: BTreeMap<RegionId, Tombstone>,
    ident: Option<Bytes>,
}

/// What can be done to a log.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// One batch.
    Write(Vec<Part>),
    Sync,
    Mark,
    /// Syncs, and then compacts a region to this much of what it has, in percent.
    Compact(u64, u64),
    /// So many steps.
    Collect(usize),
    /// Without a crash.
    Reopen,
}

/// A part of a batch.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Replaces so many entries of a region and appends so many of this size.
    Append {
        region: u64,
        back: u64,
        count: u64,
        size: usize,
    },
    HardState(u64),
    /// Goes on so far behind the last entry.
    Restart(u64, u64),
    Remove(u64),
    Tombstone(u64),
    Ident(u8),
}

/// A log, and what it may be.
pub(super) struct World {
    pub(super) disk: MemoryDisk,
    options: Options,
    opened: Opened,
    /// The states that the log went through since the first one that may be shown, each with the
    /// end of its batch.
    states: Vec<(u64, State)>,
    last_written: Option<Written>,
    /// Makes terms and votes differ.
    count: u64,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        let disk = MemoryDisk::new();
        let opened = open_with(&disk, options);
        let states = vec![(0, State::default())];
        Self { disk, options, opened, states, last_written: None, count: 0 }
    }

    /// As new, on a disk that will crash: `Err` when it already has.
    pub(super) fn on(disk: MemoryDisk, options: Options) -> Result<Self, ()> {
        let opened = Log::open(std::sync::Arc::new(disk.clone()), options).map_err(drop)?;
        let states = vec![(0, State::default())];
        Ok(Self { disk, options, opened, states, last_written: None, count: 0 })
    }

    pub(super) fn log(&self) -> &Log {
        &self.opened.log
    }

    fn latest(&self) -> &State {
        &self.states.last().expect("there is always one").1
    }

    pub(super) fn run(&mut self, op: &Op) -> Result<(), LogWriteError> {
        self.count += 1;
        match op {
            Op::Write(parts) => {
                let mut state = self.latest().clone();
                let mut batch = LogBatch::new();
                parts.iter().for_each(|part| self.add(part, &mut state, &mut batch));
                // It may be on the disk also when that cannot be told.
                self.states.push((u64::MAX, state));
                let written = self.log().write(&batch)?;
                self.states.last_mut().expect("just pushed").0 = written.end().0;
                self.last_written = Some(written);
            }
            Op::Sync => self.sync()?,
            Op::Mark => {
                self.log().mark()?;
            }
            Op::Compact(of, percent) => {
                self.sync()?;
                let of = region(*of);
                let (_, state) = self.states.last_mut().expect("there is always one");
                if let Some(found) = state.regions.get_mut(&of) {
                    let start = found.floor.max(found.start.index);
                    let upto =
                        start.plus((found.last().index.since(start) * percent / 100) as usize);
                    found.floor = upto;
                    self.opened.log.compact(of, upto);
                }
            }
            Op::Collect(steps) => {
                for _ in 0..*steps {
                    if self.log().collect()?.is_none() {
                        break;
                    }
                }
            }
            Op::Reopen => {
                let opened = Log::open(std::sync::Arc::new(self.disk.clone()), self.options);
                let Ok(opened) = opened else { return self.log().mark().map(drop) };
                self.opened = opened;
                self.check_opened();
            }
        }
        self.check_log();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogWriteError> {
        if let Some(written) = self.last_written {
            self.log().sync(&written)?;
            let latest = self.states.pop().expect("there is always one");
            self.states = vec![latest];
        }
        Ok(())
    }

    fn add(&self, part: &Part, state: &mut State, batch: &mut LogBatch) {
        match *part {
            Part::Append { region: of, back, count, size } => {
                let found = state.regions.entry(region(of)).or_default();
                let first = found.last().index.next();
                // What was compacted was committed, and stays.
                let keep = found.floor.max(found.start.index).next();
                let first = Index(first.0.saturating_sub(back)).max(keep);
                let term = found.last().term.0.max(1) + u64::from(back > 0);
                let all: Entries = (0..count.max(1))
                    .map(|offset| Entry {
                        index: first.plus(offset as usize),
                        term: Term(term),
                        payload: kiva_raft::Payload::Command(payload(self.count, offset, size)),
                    })
                    .collect();
                found.entries.truncate(first.since(found.start.index.next()) as usize);
                found.entries.extend_from_slice(&all);
                batch.entries(region(of), &all);
            }
            Part::HardState(of) => {
                let found = state.regions.entry(region(of)).or_default();
                let before = found.hard_state;
                let committed = before.commit.0.max(found.last().index.0);
                found.hard_state = hard_state(before.term.0 + 1, self.count % 5, committed);
                batch.hard_state(region(of), found.hard_state);
            }
            Part::Restart(of, ahead) => {
                let found = state.regions.entry(region(of)).or_default();
                let last = found.last();
                found.start = id(last.term.0 + 1, last.index.0 + ahead);
                found.floor = found.start.index;
                found.entries.clear();
                batch.restart(region(of), found.start);
            }
            Part::Remove(of) => {
                state.regions.remove(&region(of));
                state.tombstones.remove(&region(of));
                batch.remove(region(of));
            }
            Part::Tombstone(of) => {
                let epoch = Epoch { conf_ver: self.count, version: of };
                let peer_id_max = PeerId::new(self.count).expect("not zero");
                state.regions.remove(&region(of));
                state.tombstones.insert(region(of), Tombstone { peer_id_max, epoch });
                batch.tombstone(region(of), peer_id_max, epoch);
            }
            Part::Ident(byte) => {
                state.ident = Some(Bytes::from(vec![byte; usize::from(byte)]));
                batch.ident(&vec![byte; usize::from(byte)]);
            }
        }
    }

    /// What a reader sees is a state, and at least the last one that was synced.
    fn check_log(&self) {
        let wrong = |state: &State| difference(self.log(), state, false);
        self.find(&wrong);
    }

    /// What was found when the log was opened is a state, and from now on the only one.
    fn check_opened(&mut self) {
        assert_eq!(self.opened.lost, []);
        assert!(self.opened.damage.is_empty(), "damage: {:?}", self.opened.damage);
        let wrong = |state: &State| {
            let Opened { regions, tombstones, ident, .. } = &self.opened;
            if *tombstones != state.tombstones || *ident != state.ident {
                return Some(format!("{tombstones:?}, {ident:?}"));
            }
            if regions.keys().ne(state.regions.keys()) {
                return Some(format!("{:?}", regions.keys()));
            }
            difference(self.log(), state, true)
        };
        let position = self.find(&wrong);
        let (_, state) = self.states.swap_remove(position);
        for (id, region) in &state.regions {
            self.opened.log.compact(*id, region.floor);
        }
        self.states = vec![(self.opened.position.0, state)];
        self.last_written = None;
    }

    /// The newest state in which nothing is wrong.
    fn find(&self, wrong: &dyn Fn(&State) -> Option<String>) -> usize {
        let mut reasons = Vec::new();
        for (position, (end, state)) in self.states.iter().enumerate().rev() {
            match wrong(state) {
                None => return position,
                Some(reason) => reasons.push(format!("not the state at {end}: {reason}")),
            }
        }
        panic!("{}", reasons.join("\n"));
    }

    /// Crashes and opens again, perhaps crashing once more on the way.
    pub(super) fn crash(&mut self, draw: &mut dyn FnMut(usize) -> usize, again_after: Option<u64>) {
        self.disk = self.disk.crash(draw);
        if let Some(count) = again_after {
            self.disk.crash_after(count);
            let opened = Log::open(std::sync::Arc::new(self.disk.clone()), self.options);
            drop(opened);
            self.disk = self.disk.crash(draw);
        }
        self.opened = open_with(&self.disk, self.options);
        self.check_opened();
    }
}

/// What is wrong when the log is said to be in this state.
fn difference(log: &Log, state: &State, is_fresh: bool) -> Option<String> {
    for number in 1..=REGIONS {
        let id = region(number);
        let found = log.region(id);
        let expected = state.regions.get(&id).cloned().unwrap_or_default();
        let (start, last) = (found.start(), found.last());
        if found.hard_state() != expected.hard_state || last != expected.last() {
            let (is, should) = (found.hard_state(), expected.hard_state);
            let should_end = expected.last();
            return Some(format!("region {id}: {is:?} {last}, not {should:?} {should_end}"));
        }
        let floor = expected.floor.max(expected.start.index);
        if start.index > floor || (!is_fresh && start.index != floor) {
            return Some(format!("region {id} starts at {start}, not at {floor}"));
        }
        if start.index == expected.start.index && start != expected.start {
            return Some(format!("region {id} starts at {start}, not at {}", expected.start));
        }
        let needed = expected.needed();
        if let (Some(first), Some(last)) = (needed.first(), needed.last()) {
            let read = found.entries(first.index, last.index.next(), usize::MAX);
            if read.as_deref() != Ok(needed) {
                return Some(format!("region {id}: {read:?}, not {needed:?}"));
            }
        }
        for entry in needed {
            assert_eq!(found.term(entry.index), Ok(entry.term));
        }
    }
    None
}

/// Regions of a world.
const REGIONS: u64 = 4;

/// Numbers below a bound, from a seed.
pub(super) fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |count| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) % count as u64) as usize
    }
}

fn part() -> impl Strategy<Value = Part> {
    let of = 1..=REGIONS;
    let append = (of.clone(), 0..4_u64, 1..6_u64, prop_oneof![0..40_usize, 0..900_usize]);
    prop_oneof![
        8 => append.prop_map(|(region, back, count, size)| {
            let back = if back == 3 { 2 } else { 0 };
            Part::Append { region, back, count, size }
        }),
        3 => of.clone().prop_map(Part::HardState),
        1 => (of.clone(), 0..9_u64).prop_map(|(of, ahead)| Part::Restart(of, ahead)),
        1 => of.clone().prop_map(Part::Remove),
        1 => of.prop_map(Part::Tombstone),
        1 => any::<u8>().prop_map(Part::Ident),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => vec(part(), 1..4).prop_map(Op::Write),
        4 => Just(Op::Sync),
        1 => Just(Op::Mark),
        4 => (1..=REGIONS, 0..=100_u64).prop_map(|(of, percent)| Op::Compact(of, percent)),
        3 => (1..4_usize).prop_map(Op::Collect),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_map_that_survives(
        lives in vec((vec(op(), 1..30), any::<u64>()), 1..4),
        cache_bytes in prop_oneof![Just(0), 0..8000_usize],
    ) {
        let options = Options { cache_bytes, ..super::SMALL };
        let mut world = World::new(options);
        for (ops, seed) in lives {
            for op in ops {
                world.run(&op).expect("nothing fails");
            }
            let mut draw = draws(seed);
            let again_after = (seed % 3 == 0).then_some(seed % 7);
            world.crash(&mut draw, again_after);
        }
        for of in 1..=REGIONS {
            world.run(&Op::Compact(of, 100)).expect("nothing fails");
        }
        collect_all(world.log());
        world.check_log();
        let status = world.log().status();
        prop_assert_eq!(status.segments, 1, "{:?}", status);
        for of in 1..=REGIONS {
            world.run(&Op::Write(vec![Part::Remove(of)])).expect("nothing fails");
        }
        world.run(&Op::Sync).expect("nothing fails");
        let ident = world.latest().ident.is_some();
        let expected = if ident { 32 } else { 0 };
        prop_assert_eq!(world.log().status().live_bytes, expected, "what nobody needs is counted");
    }
}
