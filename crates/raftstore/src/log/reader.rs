//! [`RegionLog`]: what readers see of one region.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kiva_base::RegionId;
use kiva_raft::{Entries, Entry, EntryId, HardState, Index, LogError, Term};

use super::Damage;
use super::format::Kind;
use super::index::{RegionIndex, Slot};
use super::segment::Segment;
use super::store::{Region, Shared, lock};
use crate::codec::{self, PayloadKind};

/// How far apart two payloads may be to be read at once, in bytes: about what another call to the
/// system costs.
const GAP_MAX: u64 = 4096;

/// How much is read at once, in bytes. What is handed out keeps all of it in memory.
const READ_MAX: u64 = 1024 * 1024;

/// The part of the log that belongs to one region. A clone is a handle to the same part.
///
/// It shows what is durable. Between two syncs nothing changes but
/// [`first_index`](Self::first_index).
#[derive(Clone)]
pub struct RegionLog {
    shared: Arc<Shared>,
    id: RegionId,
    region: Region,
}

impl RegionLog {
    pub(super) fn new(shared: Arc<Shared>, id: RegionId, region: Region) -> Self {
        Self { shared, id, region }
    }

    /// Whose part it is.
    pub fn id(&self) -> RegionId {
        self.id
    }

    /// As last written; all zeros when it never was.
    pub fn hard_state(&self) -> HardState {
        lock(&self.region).hard_state
    }

    /// What precedes the first entry: zero, what it was restarted or compacted to, or what the
    /// oldest file begins with.
    pub fn start(&self) -> EntryId {
        lock(&self.region).start()
    }

    /// Index of the oldest entry that is there, or would be.
    pub fn first_index(&self) -> Index {
        self.start().index.next()
    }

    /// The newest entry; [`start`](Self::start) when there is none.
    pub fn last(&self) -> EntryId {
        lock(&self.region).last()
    }

    /// What is known to be lost.
    pub fn damage(&self) -> Option<Damage> {
        lock(&self.region).damage()
    }

    /// The term of the entry at `index`, from `first_index() - 1` to the last.
    pub fn term(&self, index: Index) -> Result<Term, LogError> {
        let region = lock(&self.region);
        let start = region.start();
        let term = match region.slot(index) {
            Some(slot) => slot.term,
            None if index == start.index => start.term,
            None if index < start.index => {
                return Err(LogError::Compacted { first: start.index.next() });
            }
            None => return Err(LogError::BeyondEnd { last: region.last().index }),
        };
        // Nobody knows the term of what is lost, directory and all. No entry has term zero.
        if term == Term::ZERO && index > Index::ZERO {
            return Err(LogError::Damaged { index });
        }
        Ok(term)
    }

    /// Entries from `first` up to, not including, `end`, as many as fit into `bytes_max` and at
    /// least one. What is not in memory is read from disk, in the calling thread.
    ///
    /// # Panics
    /// When `first` is not before `end`.
    pub fn entries(&self, first: Index, end: Index, bytes_max: usize) -> Result<Entries, LogError> {
        assert!(first < end, "entries from {first} to {end}");
        loop {
            let (wanted, cached) = plan(&lock(&self.region), first, end, bytes_max)?;
            if wanted.is_empty() {
                return Ok(cached);
            }
            match self.read(&wanted) {
                Ok(mut entries) => {
                    entries.extend_from_slice(&cached);
                    return Ok(entries.into());
                }
                Err(Unreadable { index, slot, is_there }) => {
                    if self.is_lost(index, &slot, is_there) {
                        return Err(LogError::Damaged { index });
                    }
                    // It was moved or compacted while it was read.
                }
            }
        }
    }

    /// Whether what could not be read should still be there. Bytes that are there and are others
    /// are lost for good; a disk that did not answer may do so later.
    fn is_lost(&self, index: Index, slot: &Slot, is_there: bool) -> bool {
        let mut is_lost = false;
        self.shared.change(&self.region, |region, effects| {
            is_lost = region.slot(index) == Some(slot);
            if is_there {
                region.note_lost(index, slot, effects);
            }
        });
        is_lost
    }

    /// Reads entries from disk, those that are near each other at once.
    fn read(&self, wanted: &[(Index, Slot)]) -> Result<Vec<Entry>, Unreadable> {
        let mut entries = Vec::with_capacity(wanted.len());
        let is_near = |before: &(Index, Slot), after: &(Index, Slot)| {
            let end = u64::from(before.1.offset) + u64::from(before.1.size());
            let start = u64::from(after.1.offset);
            before.1.segment == after.1.segment && start >= end && start - end <= GAP_MAX
        };
        for near in wanted.chunk_by(is_near) {
            let mut rest = near;
            while let Some((_, first)) = rest.first() {
                let end_max = u64::from(first.offset) + READ_MAX;
                let fits = |(_, slot): &&(Index, Slot)| {
                    u64::from(slot.offset) + u64::from(slot.size()) <= end_max
                };
                let count = rest.iter().take_while(fits).count().max(1);
                let (chunk, after) = rest.split_at(count);
                self.read_chunk(chunk, &mut entries)?;
                rest = after;
            }
        }
        self.shared.counted.disk_reads.fetch_add(entries.len() as u64, Ordering::Relaxed);
        Ok(entries)
    }

    /// Reads entries whose payloads follow each other in one segment.
    fn read_chunk(
        &self,
        chunk: &[(Index, Slot)],
        entries: &mut Vec<Entry>,
    ) -> Result<(), Unreadable> {
        let (first, last) = (&chunk[0].1, &chunk[chunk.len() - 1].1);
        let start = u64::from(first.offset);
        let size = u64::from(last.offset) + u64::from(last.size()) - start;
        let unreadable = |(index, slot): &(Index, Slot), is_there| {
            let (index, slot) = (*index, *slot);
            Unreadable { index, slot, is_there }
        };
        let segment = self.shared.segment(first.segment);
        let bytes = segment.and_then(|segment| read_at(&segment, start, size as usize));
        let bytes = bytes.ok_or_else(|| unreadable(&chunk[0], false))?;
        for found in chunk {
            let (index, slot) = found;
            let at = (u64::from(slot.offset) - start) as usize;
            let body = bytes.slice(at..at + slot.size() as usize);
            let payload = body_kind(slot, &body)
                .and_then(|kind| codec::payload(kind, body).ok())
                .ok_or_else(|| unreadable(found, true))?;
            entries.push(Entry { index: *index, term: slot.term, payload });
        }
        Ok(())
    }
}

impl fmt::Debug for RegionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionLog").field("id", &self.id).field("last", &self.last()).finish()
    }
}

/// An entry that is not where it should be.
struct Unreadable {
    index: Index,
    slot: Slot,
    /// Whether there are bytes in its place.
    is_there: bool,
}

/// What has to be read from disk, and what follows it from memory.
fn plan(
    region: &RegionIndex,
    first: Index,
    end: Index,
    bytes_max: usize,
) -> Result<(Vec<(Index, Slot)>, Entries), LogError> {
    let (start, last) = (region.start().index, region.last().index);
    if first <= start {
        return Err(LogError::Compacted { first: start.next() });
    }
    if end.previous() > last {
        return Err(LogError::BeyondEnd { last });
    }
    let cached_first = region.cached_first().unwrap_or(end).min(end);
    let mut wanted = Vec::new();
    let mut size = 0;
    let mut index = first;
    while index < cached_first {
        let slot = region.slot(index).expect("it is not compacted, and not beyond the end");
        size += slot.size() as usize;
        if !wanted.is_empty() && (size > bytes_max || slot.is_lost()) {
            return Ok((wanted, Entries::EMPTY));
        }
        if slot.is_lost() {
            return Err(LogError::Damaged { index });
        }
        wanted.push((index, *slot));
        index = index.next();
    }
    if index >= end {
        return Ok((wanted, Entries::EMPTY));
    }
    let cached = region.cached(index, end);
    let fits = |entry: &&Entry| {
        size += entry.size();
        size <= bytes_max
    };
    let count = cached.iter().take_while(fits).count();
    let count = if wanted.is_empty() { count.max(1) } else { count };
    Ok((wanted, cached.part(0, count.min(cached.len()))))
}

/// Bytes of a segment; `None` when they cannot be read.
pub(super) fn read_at(segment: &Segment, offset: u64, size: usize) -> Option<Bytes> {
    let mut bytes = vec![0; size];
    segment.file.read_at(offset, &mut bytes).ok()?;
    Some(bytes.into())
}

/// What kind of payload this is, when the bytes are those that were written.
pub(super) fn body_kind(slot: &Slot, body: &[u8]) -> Option<PayloadKind> {
    let kind = match slot.kind() {
        Kind::Empty => PayloadKind::Empty,
        Kind::Command => PayloadKind::Command,
        Kind::Membership => PayloadKind::Membership,
        Kind::Lost => return None,
    };
    (body.is_empty() || crc32fast::hash(body) == slot.checksum).then_some(kind)
}
