//! Where the entries of one region are, and what else the log knows of it.

use std::collections::VecDeque;

use kiva_raft::{Entries, Entry, EntryId, HardState, Index, Term};

use super::Damage;
use super::format::{Kind, RegionItem, RunSlot};

/// What a live entry counts besides its bytes, when a segment is weighed.
const SLOT_WEIGHT: u64 = 16;

/// What anything else that is still needed counts, a hard state for example: about what it takes.
/// Were it nothing, a segment full of hard states would be taken for an empty one.
const FACT_WEIGHT: i64 = 32;

/// Where one entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    /// Zero when nobody knows: the entry is lost.
    pub(super) term: Term,
    /// The segment that holds the payload; 0 holds nothing.
    pub(super) segment: u32,
    /// Where the payload begins in it.
    pub(super) offset: u32,
    /// Bytes of the payload, and its kind in the last two bits.
    size_and_kind: u32,
    pub(super) checksum: u32,
}

const _: () = assert!(size_of::<Slot>() == 24);

impl Slot {
    const LOST: Self = Self {
        term: Term::ZERO,
        segment: 0,
        offset: 0,
        size_and_kind: Kind::Lost as u32,
        checksum: 0,
    };

    fn new(slot: &RunSlot, segment: u32, offset: u32) -> Self {
        let size_and_kind = slot.size << 2 | slot.kind as u32;
        Self { term: slot.term, segment, offset, size_and_kind, checksum: slot.checksum }
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::from_bits(self.size_and_kind as u8)
    }

    pub(super) fn size(&self) -> u32 {
        self.size_and_kind >> 2
    }

    pub(super) fn is_lost(&self) -> bool {
        self.kind() == Kind::Lost
    }

    /// As it is written to a directory.
    pub(super) fn run_slot(&self) -> RunSlot {
        let (kind, size) = (self.kind(), self.size());
        RunSlot { term: self.term, kind, size, checksum: self.checksum }
    }

    /// The same entry, whose bytes cannot be read.
    pub(super) fn lost(&self) -> Self {
        Self { term: self.term, segment: self.segment, ..Self::LOST }
    }

    fn weight(&self) -> u64 {
        SLOT_WEIGHT + u64::from(self.size())
    }
}

/// A run of entries in memory, as it was written.
#[derive(Debug)]
pub(super) struct CachedRun {
    /// Its name in the cache that all regions share.
    pub(super) ticket: u64,
    pub(super) entries: Entries,
}

impl CachedRun {
    fn first(&self) -> Index {
        self.entries[0].index
    }

    /// The index behind its last entry.
    fn end(&self) -> Index {
        self.first().plus(self.entries.len())
    }
}

/// What a change of one region means for what all regions share. The first of each kind takes no
/// memory of its own, and most changes have no second.
#[derive(Default, Debug)]
pub(super) struct Effects {
    live: (u32, i64),
    more_live: Vec<(u32, i64)>,
    uncached: Option<u64>,
    more_uncached: Vec<u64>,
}

impl Effects {
    fn live(&mut self, segment: u32, bytes: i64) {
        if self.live.0 != segment {
            if self.live.1 != 0 {
                self.more_live.push(self.live);
            }
            self.live = (segment, 0);
        }
        self.live.1 += bytes;
    }

    /// Something that is not an entry is in another segment now; 0 is none.
    pub(super) fn moved(&mut self, from: &mut u32, to: u32) {
        for (segment, bytes) in [(*from, -FACT_WEIGHT), (to, FACT_WEIGHT)] {
            if segment > 0 {
                self.live(segment, bytes);
            }
        }
        *from = to;
    }

    fn uncached(&mut self, ticket: u64) {
        match self.uncached {
            None => self.uncached = Some(ticket),
            Some(_) => self.more_uncached.push(ticket),
        }
    }

    /// Segments, and by how many bytes more is needed of them; or less.
    pub(super) fn all_live(&self) -> impl Iterator<Item = (u32, i64)> {
        let all = self.more_live.iter().copied().chain([self.live]);
        all.filter(|(_, bytes)| *bytes != 0)
    }

    /// Runs that are in memory no more.
    pub(super) fn all_uncached(&self) -> impl Iterator<Item = u64> {
        self.uncached.into_iter().chain(self.more_uncached.iter().copied())
    }
}

/// Where a record's payloads are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: u32,
    /// Where the next payload begins.
    pub(super) offset: u32,
}

/// One region of the log.
///
/// Invariants:
/// - `slots` holds the entries after `start`, without a gap; what is missing has a lost slot.
/// - `cached` holds the last entries of `slots`, without a gap.
#[derive(Default, Debug)]
pub(super) struct RegionIndex {
    start: EntryId,
    /// Whether `start` is only what the oldest segment that is still there begins with: what was
    /// dropped before is told by a later one.
    is_start_implied: bool,
    /// The newest `start` that the log tells.
    start_logged: Index,
    /// Where it does; 0 when it never did.
    start_segment: u32,
    slots: VecDeque<Slot>,
    pub(super) hard_state: HardState,
    /// Where it is written; 0 when it never was.
    hard_state_segment: u32,
    damage: Option<Damage>,
    /// Items that concerned the region, see [`RegionItem::sequence`].
    pub(super) sequence: u32,
    /// How often entries were taken away from the end: by a restart, by others in their place, or
    /// with the whole region.
    pub(super) cuts: u32,
    /// Places that cannot be read which were passed when the region was last mentioned. Counts
    /// while the log is opened.
    zones: u32,
    cached: VecDeque<CachedRun>,
}

impl RegionIndex {
    pub(super) fn start(&self) -> EntryId {
        self.start
    }

    pub(super) fn last(&self) -> EntryId {
        match self.slots.back() {
            Some(slot) => EntryId::new(slot.term, self.start.index.plus(self.slots.len())),
            None => self.start,
        }
    }

    pub(super) fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// Whether the region was ever heard of, and not removed since.
    pub(super) fn is_known(&self) -> bool {
        self.sequence > 0
    }

    pub(super) fn has_hard_state(&self) -> bool {
        self.hard_state_segment > 0
    }

    /// The slot at `index`, when there is one.
    pub(super) fn slot(&self, index: Index) -> Option<&Slot> {
        let position = index.0.checked_sub(self.start.index.0)?.checked_sub(1)?;
        self.slots.get(usize::try_from(position).ok()?)
    }

    /// The slots after `start`, oldest first.
    pub(super) fn slots(&self) -> impl Iterator<Item = (Index, &Slot)> {
        let first = self.start.index.next();
        self.slots.iter().enumerate().map(move |(position, slot)| (first.plus(position), slot))
    }

    /// The first entry that is in memory, with all after it.
    pub(super) fn cached_first(&self) -> Option<Index> {
        self.cached.front().map(CachedRun::first)
    }

    /// Whether the log has to say again what it knows of the region before `segment` goes.
    pub(super) fn needs(&self, segment: u32) -> bool {
        let hard_state = self.has_hard_state() && self.hard_state_segment <= segment;
        let start =
            self.start_logged < self.start.index || (1..=segment).contains(&self.start_segment);
        self.is_known() && (hard_state || start || self.damage.is_some())
    }

    /// Takes in what a record says of the region. `entries` are those of the item, when they may be
    /// kept in memory under this ticket.
    pub(super) fn apply(
        &mut self,
        item: &RegionItem<'_>,
        place: &mut Place,
        cached: Option<CachedRun>,
        effects: &mut Effects,
    ) {
        if item.is_removed {
            self.clear(effects);
            return;
        }
        if item.repeated.is_none() {
            self.sequence = item.sequence;
        }
        if let Some(start) = item.start {
            self.restart(start, place.segment, effects);
        }
        if let Some(hard_state) = item.hard_state {
            let before = self.hard_state;
            self.hard_state = match item.repeated {
                // It may have been overtaken by one that was written in between.
                Some(_) => newer(before, hard_state),
                None => hard_state,
            };
            if self.hard_state == hard_state {
                effects.moved(&mut self.hard_state_segment, place.segment);
            }
        }
        if let Some(start) = item.repeated {
            self.settle(start, place.segment, effects);
        }
        if let Some(damage) = item.damage {
            self.note_damage(damage);
        }
        let mut is_first = true;
        item.runs.for_each(|index, slot| {
            let slot = {
                let placed = Slot::new(&slot, place.segment, place.offset);
                place.offset += slot.size;
                placed
            };
            if item.repeated.is_some() {
                self.relocate(index, slot, effects);
                return;
            }
            if std::mem::take(&mut is_first) {
                self.make_room(index, effects);
            }
            if index > self.start.index {
                effects.live(slot.segment, slot.weight() as i64);
                self.slots.push_back(slot);
            }
        });
        match cached {
            Some(run) => self.cached.push_back(run),
            // What is in memory ends where the log ends.
            None if !is_first => {
                self.cached.drain(..).for_each(|run| effects.uncached(run.ticket));
            }
            None => {}
        }
    }

    /// Prepares for entries that are appended from `first` on.
    fn make_room(&mut self, first: Index, effects: &mut Effects) {
        let end = self.last().index.next();
        if first < end {
            self.cuts += 1;
            self.truncate(first, effects);
            if self.is_start_implied && first <= self.start.index {
                self.start = EntryId::new(Term::ZERO, first.previous());
            }
        } else if first > end && self.is_start_implied && self.slots.is_empty() {
            self.start = EntryId::new(Term::ZERO, first.previous());
        } else {
            // Only a log that was damaged has a gap.
            self.slots.extend((end.0..first.0).map(|_| Slot::LOST));
        }
    }

    /// Puts the entry at `index` elsewhere, or learns where it is.
    fn relocate(&mut self, index: Index, slot: Slot, effects: &mut Effects) {
        if index <= self.start.index {
            return;
        }
        let position = (index.since(self.start.index) - 1) as usize;
        while self.slots.len() <= position {
            self.slots.push_back(Slot::LOST);
        }
        let old = &mut self.slots[position];
        if old.term == slot.term || *old == Slot::LOST {
            if old.segment > 0 {
                effects.live(old.segment, -(old.weight() as i64));
            }
            effects.live(slot.segment, slot.weight() as i64);
            *old = slot;
        }
    }

    /// Drops the entries from `index` on.
    fn truncate(&mut self, index: Index, effects: &mut Effects) {
        let kept = (index.since(self.start.index).max(1) - 1) as usize;
        while self.slots.len() > kept {
            self.pop(Self::pop_back, effects);
        }
        while let Some(mut run) = self.cached.pop_back() {
            if run.first() < index {
                let kept = index.since(run.first()) as usize;
                run.entries = run.entries.part(0, kept.min(run.entries.len()));
                self.cached.push_back(run);
                break;
            }
            effects.uncached(run.ticket);
        }
        if self.damage.is_some_and(|damage| damage.index >= index && !damage.is_state_lost) {
            self.damage = None;
        }
    }

    fn restart(&mut self, start: EntryId, segment: u32, effects: &mut Effects) {
        self.truncate(Index::ZERO, effects);
        self.start = start;
        self.is_start_implied = false;
        self.start_logged = start.index;
        effects.moved(&mut self.start_segment, segment);
        self.damage = None;
        self.cuts += 1;
    }

    fn clear(&mut self, effects: &mut Effects) {
        self.truncate(Index::ZERO, effects);
        effects.moved(&mut self.hard_state_segment, 0);
        effects.moved(&mut self.start_segment, 0);
        let (cuts, zones) = (self.cuts + 1, self.zones);
        *self = Self { cuts, zones, ..Self::default() };
    }

    /// Takes `start` for what precedes the first entry.
    fn settle(&mut self, start: EntryId, segment: u32, effects: &mut Effects) {
        if self.is_start_implied && start.index <= self.start.index {
            for _ in start.index.0..self.start.index.0 {
                self.slots.push_front(Slot::LOST);
            }
            self.start = start;
        } else if start.index > self.start.index {
            self.drop_upto(start, effects);
        }
        self.is_start_implied = false;
        self.start_logged = self.start_logged.max(start.index);
        effects.moved(&mut self.start_segment, segment);
    }

    /// Drops the entries up to and including `start`.
    fn drop_upto(&mut self, start: EntryId, effects: &mut Effects) {
        for _ in self.start.index.0..start.index.0 {
            if !self.pop(Self::pop_front, effects) {
                break;
            }
        }
        self.start = start;
        while self.cached.front().is_some_and(|run| run.end() <= start.index.next()) {
            self.cached.pop_front().into_iter().for_each(|run| effects.uncached(run.ticket));
        }
        if let Some(run) = self.cached.front_mut()
            && run.first() <= start.index
        {
            let gone = start.index.next().since(run.first()) as usize;
            run.entries = run.entries.part(gone, run.entries.len());
        }
        if self.damage.is_some_and(|damage| damage.index <= start.index && !damage.is_state_lost) {
            self.damage = None;
        }
    }

    fn pop(
        &mut self,
        side: fn(&mut VecDeque<Slot>) -> Option<Slot>,
        effects: &mut Effects,
    ) -> bool {
        let Some(slot) = side(&mut self.slots) else { return false };
        if slot.segment > 0 {
            effects.live(slot.segment, -(slot.weight() as i64));
        }
        true
    }

    fn pop_front(slots: &mut VecDeque<Slot>) -> Option<Slot> {
        slots.pop_front()
    }

    fn pop_back(slots: &mut VecDeque<Slot>) -> Option<Slot> {
        slots.pop_back()
    }

    /// Drops what nobody needs, up to and including `upto`.
    pub(super) fn compact(&mut self, upto: Index, effects: &mut Effects) {
        let upto = upto.min(self.last().index);
        if upto <= self.start.index {
            return;
        }
        let term = self.slot(upto).map_or(Term::ZERO, |slot| slot.term);
        self.drop_upto(EntryId::new(term, upto), effects);
    }

    /// Forgets the oldest run in memory, when it is still this one.
    pub(super) fn uncache(&mut self, ticket: u64) {
        if self.cached.front().is_some_and(|run| run.ticket == ticket) {
            self.cached.pop_front();
        }
    }

    /// The entries in memory from `first` up to `end`, which are all there: one run that is shared
    /// when there is one, gathered otherwise.
    pub(super) fn cached(&self, first: Index, end: Index) -> Entries {
        let position = self.cached.partition_point(|run| run.end() <= first);
        let Some(run) = self.cached.get(position) else { return Entries::EMPTY };
        let start = first.since(run.first()) as usize;
        if end <= run.end() {
            return run.entries.part(start, start + end.since(first) as usize);
        }
        let runs = self.cached.range(position..).take_while(|run| run.first() < end);
        let parts = runs.flat_map(|run| {
            let start = first.since(run.first()) as usize;
            let stop = run.entries.len().min(end.since(run.first()) as usize);
            &run.entries[start..stop]
        });
        parts.cloned().collect::<Vec<Entry>>().into()
    }

    /// Notes that something is lost.
    pub(super) fn note_damage(&mut self, damage: Damage) {
        self.damage = Some(match self.damage {
            Some(known) => Damage {
                index: known.index.min(damage.index),
                is_state_lost: known.is_state_lost || damage.is_state_lost,
            },
            None => damage,
        });
    }

    /// Marks the entry at `index` as lost, when it still is the one in this place.
    pub(super) fn note_lost(&mut self, index: Index, slot: &Slot, effects: &mut Effects) {
        let Some(position) = index.0.checked_sub(self.start.index.0 + 1) else { return };
        let Some(found) = self.slots.get_mut(position as usize) else { return };
        if found == slot {
            *found = found.lost();
            effects.live(slot.segment, -i64::from(slot.size()));
            self.note_damage(Damage { index, is_state_lost: false });
        }
    }

    /// While the log is opened: compares an item's number with those before it. `zones` is how many
    /// places could not be read so far. Something is missing when a number is; and nobody knows
    /// when the region is first heard of behind such a place, and not from its beginning.
    pub(super) fn check_sequence(&mut self, item: &RegionItem<'_>, zones: u32) {
        let is_first = !self.is_known();
        let is_sound = match item.repeated {
            Some(_) if is_first => zones == 0,
            Some(_) => item.sequence == self.sequence,
            None if is_first => item.sequence == 1 || zones == 0,
            None => item.sequence == self.sequence.wrapping_add(1),
        };
        if is_first {
            self.is_start_implied = item.repeated.is_some() || item.sequence != 1;
        }
        self.zones = zones;
        self.sequence = item.sequence;
        if !is_sound && !item.is_removed {
            let index = self.last().index.next();
            self.note_damage(Damage { index, is_state_lost: true });
        }
    }

    /// When all was read: what was not mentioned since the last place that cannot be read may have
    /// been there, and what is missing between entries is lost.
    pub(super) fn finish(&mut self, zones: u32) {
        if !self.is_known() {
            return;
        }
        if self.zones < zones {
            let index = self.last().index.next();
            self.note_damage(Damage { index, is_state_lost: true });
        }
        if self.is_start_implied && self.start.index > Index::ZERO {
            self.note_damage(Damage { index: Index(1), is_state_lost: true });
        }
        self.is_start_implied = false;
        let lost = self.slots().find(|(_, slot)| slot.is_lost()).map(|(index, _)| index);
        if let Some(index) = lost {
            self.note_damage(Damage { index, is_state_lost: false });
        }
    }
}

/// Of two hard states the one that was written later: terms grow, in a term a vote is given once,
/// and what is committed stays so.
fn newer(known: HardState, other: HardState) -> HardState {
    match known.term.cmp(&other.term) {
        std::cmp::Ordering::Less => other,
        std::cmp::Ordering::Greater => known,
        std::cmp::Ordering::Equal => HardState {
            term: known.term,
            vote: known.vote.or(other.vote),
            commit: known.commit.max(other.commit),
        },
    }
}
