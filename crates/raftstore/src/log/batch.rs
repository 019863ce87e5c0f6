//! [`LogBatch`]: what one round wants to be durable, already in the form in which it is written.

use bytes::Bytes;
use kiva_base::{Epoch, PeerId, RegionId};
use kiva_raft::{Entries, EntryId, HardState, Index, LogWrite, Payload};

use super::format::{self, Kind, RunSlot, Section};
use super::{Damage, Tombstone};
use crate::codec;

/// What is to be written for any number of regions at once.
///
/// The directory of the record is built as things are added, and checksums with it; payloads are
/// only referred to, and copied once, into the buffer that is written. Items take effect in the
/// order in which they were added.
#[derive(Default)]
pub struct LogBatch {
    /// Items, encoded. Their sequence numbers are filled in when the batch has its place.
    pub(super) directory: Vec<u8>,
    /// One for every item that concerns a region.
    pub(super) items: Vec<Item>,
    /// The payloads, in the order of the directory.
    pub(super) pieces: Vec<Piece>,
    /// Bytes of all payloads.
    pub(super) payload_size: usize,
    /// How many things it says that concern no region's log.
    pub(super) facts: u64,
    /// How many of those there must have been before, when it says some of them again.
    pub(super) facts_before: Option<u64>,
}

/// What the writer has to know of an item before it can be written.
pub(super) struct Item {
    pub(super) region: RegionId,
    /// Where the sequence number belongs in the directory.
    pub(super) sequence_at: usize,
    pub(super) effect: Effect,
    /// Entries that readers may be given from memory.
    pub(super) entries: Entries,
}

/// What an item does to a region, as far as the order of writes matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// The log is empty and goes on behind `start`, if there is one; then entries are appended.
    Write {
        /// See [`LogBatch::restart`].
        start: Option<EntryId>,
    },
    /// Nothing is left.
    Remove,
    /// Says again what is there, as it was after this many cuts.
    Repeat {
        /// See [`Head::cuts`](super::writer::Head).
        cuts: u32,
    },
}

/// A part of the payload area of a record.
pub(super) enum Piece {
    /// The payloads of these entries.
    Entries(Entries),
    /// Bytes as they were read.
    Raw(Bytes),
}

/// An entry that is written again: where it belongs, what it is, and its bytes, of which there are
/// none when it was lost.
pub(super) struct Moved {
    pub(super) index: Index,
    pub(super) slot: RunSlot,
    pub(super) body: Bytes,
}

/// What is written again of a region besides entries.
#[derive(Clone, Copy)]
pub(super) struct Repeated {
    pub(super) start: EntryId,
    pub(super) hard_state: Option<HardState>,
    pub(super) damage: Option<Damage>,
    pub(super) cuts: u32,
}

impl LogBatch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a node asks to be written. A snapshot restarts the region's log behind its last
    /// entry; what it holds must be durable elsewhere before.
    pub fn add(&mut self, region: RegionId, write: &LogWrite) {
        let start = write.snapshot.as_ref().map(|snapshot| snapshot.last);
        self.push(region, start, write.hard_state, &write.entries);
    }

    /// Adds entries, which replace what the region has from the first one's index on.
    pub fn entries(&mut self, region: RegionId, entries: &Entries) {
        self.push(region, None, None, entries);
    }

    /// Adds a hard state.
    pub fn hard_state(&mut self, region: RegionId, hard_state: HardState) {
        self.push(region, None, Some(hard_state), &Entries::EMPTY);
    }

    /// Starts the log of a region again behind `start`: a snapshot replaced it, or it begins there.
    /// Heals damage. The hard state stays.
    pub fn restart(&mut self, region: RegionId, start: EntryId) {
        self.push(region, Some(start), None, &Entries::EMPTY);
    }

    /// Removes all of a region, and remembers which peers are gone for good.
    pub fn tombstone(&mut self, region: RegionId, peer_id_max: PeerId, epoch: Epoch) {
        self.begin(region, Section::Removed.bit(), Effect::Remove, Entries::EMPTY);
        self.fact_tombstone(region, Some(&Tombstone { peer_id_max, epoch }));
    }

    /// Removes all of a region, its tombstone included.
    pub fn remove(&mut self, region: RegionId) {
        self.begin(region, Section::Removed.bit(), Effect::Remove, Entries::EMPTY);
        self.fact_tombstone(region, None);
    }

    /// Replaces the identity of the store.
    pub fn ident(&mut self, ident: &[u8]) {
        self.facts += 1;
        format::encode_ident(ident, &mut self.directory);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.directory.is_empty()
    }

    /// Bytes it takes in the log.
    pub fn size(&self) -> usize {
        format::aligned(format::RECORD_HEADER + self.directory.len() + self.payload_size)
    }

    /// Segments up to this one are not needed by what comes after.
    pub(super) fn dropped(&mut self, segment: u32) {
        format::encode_dropped(segment, &mut self.directory);
    }

    /// Says what became of a region's peers.
    pub(super) fn fact_tombstone(&mut self, region: RegionId, tombstone: Option<&Tombstone>) {
        self.facts += 1;
        format::encode_tombstone(region, tombstone, &mut self.directory);
    }

    /// Says again what is known of a region, and writes some of its entries again; their indexes
    /// grow.
    pub(super) fn repeat(&mut self, region: RegionId, state: Repeated, moved: &[Moved]) {
        let sections = Section::Repeated.bit()
            | Section::HardState.bit_if(state.hard_state.is_some())
            | Section::Damage.bit_if(state.damage.is_some())
            | Section::Entries.bit_if(!moved.is_empty());
        self.begin(region, sections, Effect::Repeat { cuts: state.cuts }, Entries::EMPTY);
        if let Some(hard_state) = state.hard_state {
            codec::encode_hard_state(hard_state, &mut self.directory);
        }
        codec::encode_entry_id(state.start, &mut self.directory);
        if let Some(damage) = state.damage {
            format::encode_damage(damage, &mut self.directory);
        }
        // A run has no gaps, and its terms do not fall; those of lost entries are not known.
        let follows = |before: &Moved, after: &Moved| {
            after.index == before.index.next() && after.slot.term >= before.slot.term
        };
        let runs = || moved.chunk_by(follows);
        if !moved.is_empty() {
            format::encode_run_count(runs().count(), &mut self.directory);
        }
        for run in runs() {
            let mut term = run[0].slot.term;
            format::encode_run(EntryId::new(term, run[0].index), run.len(), &mut self.directory);
            for entry in run {
                format::encode_slot(term, &entry.slot, &mut self.directory);
                term = entry.slot.term;
                self.payload_size += entry.body.len();
                self.pieces.push(Piece::Raw(entry.body.clone()));
            }
        }
    }

    fn push(
        &mut self,
        region: RegionId,
        start: Option<EntryId>,
        hard_state: Option<HardState>,
        entries: &Entries,
    ) {
        let sections = Section::Start.bit_if(start.is_some())
            | Section::HardState.bit_if(hard_state.is_some())
            | Section::Entries.bit_if(!entries.is_empty());
        if sections == 0 {
            return;
        }
        self.begin(region, sections, Effect::Write { start }, entries.clone());
        if let Some(start) = start {
            codec::encode_entry_id(start, &mut self.directory);
        }
        if let Some(hard_state) = hard_state {
            codec::encode_hard_state(hard_state, &mut self.directory);
        }
        let Some(first) = entries.first() else { return };
        format::encode_run_count(1, &mut self.directory);
        format::encode_run(first.id(), entries.len(), &mut self.directory);
        let mut term = first.term;
        for entry in entries {
            let (kind, (size, checksum)) = match &entry.payload {
                Payload::Empty => (Kind::Empty, (0, 0)),
                Payload::Command(bytes) => (Kind::Command, checked(bytes)),
                Payload::Membership(change) => {
                    let mut body = Vec::new();
                    codec::encode_change(change, &mut body);
                    (Kind::Membership, checked(&body))
                }
            };
            let slot = RunSlot { term: entry.term, kind, size, checksum };
            format::encode_slot(term, &slot, &mut self.directory);
            term = entry.term;
            self.payload_size += size as usize;
        }
        self.pieces.push(Piece::Entries(entries.clone()));
    }

    fn begin(&mut self, region: RegionId, sections: u8, effect: Effect, entries: Entries) {
        let sequence_at = format::encode_item(region, sections, &mut self.directory);
        self.items.push(Item { region, sequence_at, effect, entries });
    }
}

impl Piece {
    /// Appends the bytes.
    pub(super) fn copy_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Entries(entries) => {
                for entry in entries {
                    match &entry.payload {
                        Payload::Empty => {}
                        Payload::Command(bytes) => out.extend_from_slice(bytes),
                        Payload::Membership(change) => codec::encode_change(change, out),
                    }
                }
            }
        }
    }
}

/// Size and checksum. A size that does not fit is far above that of a batch, which is refused.
fn checked(body: &[u8]) -> (u32, u32) {
    (u32::try_from(body.len()).unwrap_or(u32::MAX), crc32fast::hash(body))
}
