//! The work behind the scenes: segments are made before they are needed, and freed after.
//!
//! The oldest segment goes first. What is still needed of it is written again at the end of the
//! log, as things that were said before: entries in their places, and of every region whose newest
//! word on something is in there, that word. When all this is durable, and with it the note that
//! the segment is not needed, the file is renamed and used again, or removed.
//!
//! An entry is worth being written again when little is left in its segment, or when half of the
//! log is dead: then writing again never costs more than it frees.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kiva_raft::Index;

use super::batch::{LogBatch, Moved, Repeated};
use super::index::Slot;
use super::reader::{body_kind, read_at};
use super::segment::{self, Segment};
use super::store::{Counted, Region, Shared, lock};
use super::writer::Appended;
use super::{LogWriteError, Position};
use crate::limits::{LOG_REWRITE_BYTES, SEGMENTS_PREPARED_MAX};

/// A segment in which less than one part of so many is needed is worth being freed at once.
const SPARSE: u64 = 4;

/// How often things are said again before somebody else's cuts have to wait for the next call.
const ATTEMPTS: u32 = 3;

/// What one step of [`Log::collect`](super::Log::collect) did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collected {
    /// Made a file for a segment to come.
    Prepared {
        /// Its number.
        segment: u32,
    },
    /// Freed the oldest segment.
    Dropped {
        /// Its number.
        segment: u32,
        /// Bytes of entries that were written again.
        rewritten_bytes: u64,
    },
}

impl Shared {
    pub(super) fn collect(&self) -> Result<Option<Collected>, LogWriteError> {
        let _alone = lock(&self.collector);
        self.check()?;
        if let Some(segment) = self.worth_freeing()
            && let Some(rewritten_bytes) = self.rewrite(&segment)?
        {
            self.free(&segment)?;
            return Ok(Some(Collected::Dropped { segment: segment.number, rewritten_bytes }));
        }
        self.prepare()
    }

    /// The oldest segment, when it is worth being freed.
    fn worth_freeing(&self) -> Option<Arc<Segment>> {
        let segments = self.all_segments();
        let oldest = segments.first()?;
        {
            let writer = self.writer();
            if writer.segment.number == oldest.number || !writer.is_published(oldest.number) {
                return None;
            }
        }
        let used = |segment: &Segment| segment.used.load(Ordering::Relaxed);
        let is_sparse = oldest.live() <= used(oldest) / SPARSE;
        let all_used: u64 = segments.iter().map(|segment| used(segment)).sum();
        let all_live: u64 = segments.iter().map(|segment| segment.live()).sum();
        let is_mostly_dead = all_used >= 2 * all_live + 2 * self.options.segment_size;
        (is_sparse || is_mostly_dead).then(|| Arc::clone(oldest))
    }

    /// Writes again what is needed of a segment, and makes it durable. Says how many bytes of
    /// entries that were; `None` when regions change too fast right now.
    fn rewrite(&self, segment: &Segment) -> Result<Option<u64>, LogWriteError> {
        for _ in 0..ATTEMPTS {
            if let Some(bytes) = self.try_rewrite(segment)? {
                Counted::add(&self.counted.rewritten_bytes, bytes);
                return Ok(Some(bytes));
            }
            // What is on its way may be what is in the way.
            let end = self.writer().end();
            self.sync(Position(end))?;
        }
        Ok(None)
    }

    fn try_rewrite(&self, segment: &Segment) -> Result<Option<u64>, LogWriteError> {
        let contents = match segment.live() {
            0 => None,
            _ => read_at(segment, 0, segment.used.load(Ordering::Relaxed) as usize),
        };
        let mut bytes = 0;
        let mut batch = LogBatch::new();
        for (id, region) in self.all_regions() {
            let (state, slots, is_needed) = capture(&region, segment.number);
            if slots.is_empty() && !is_needed {
                continue;
            }
            let mut slots = slots.as_slice();
            loop {
                let (part, rest) = slots.split_at(part_of(slots));
                let moved = self.read_again(&region, part, segment, contents.as_ref());
                bytes += moved.iter().map(|moved| moved.body.len() as u64).sum::<u64>();
                // Reading may have shown that something is lost.
                let damage = lock(&region).damage();
                batch.repeat(id, Repeated { damage, ..state }, &moved);
                if batch.size() >= LOG_REWRITE_BYTES {
                    if let Appended::Outdated = self.append(&batch)? {
                        return Ok(None);
                    }
                    batch = LogBatch::new();
                }
                slots = rest;
                if slots.is_empty() {
                    break;
                }
            }
        }
        self.repeat_facts(segment.number, &mut batch);
        batch.dropped(segment.number);
        let written = match self.append(&batch)? {
            Appended::Done(written) => written,
            Appended::Outdated => return Ok(None),
        };
        self.sync(written.end)?;
        // Whatever was needed is elsewhere now.
        Ok((segment.live() == 0).then_some(bytes))
    }

    /// Says again what concerns no region's log, when it is in this segment.
    fn repeat_facts(&self, segment: u32, batch: &mut LogBatch) {
        let facts = lock(&self.facts);
        batch.facts_before = Some(facts.count);
        if let Some((ident, at)) = &facts.ident
            && *at <= segment
        {
            batch.ident(ident);
        }
        for (id, (tombstone, at)) in &facts.tombstones {
            if *at <= segment {
                batch.fact_tombstone(*id, Some(tombstone));
            }
        }
    }

    /// The entries of some slots, from the contents of their segment, or one by one when that could
    /// not be read as a whole. What is not as it was written is lost; this was the last chance.
    fn read_again(
        &self,
        region: &Region,
        slots: &[(Index, Slot)],
        segment: &Segment,
        contents: Option<&Bytes>,
    ) -> Vec<Moved> {
        let read = |(index, slot): &(Index, Slot)| {
            let start = slot.offset as usize;
            let range = start..start + slot.size() as usize;
            let body = match contents {
                Some(contents) if range.end <= contents.len() => Some(contents.slice(range)),
                _ => read_at(segment, range.start as u64, range.len()),
            };
            let body = body.filter(|body| body_kind(slot, body).is_some());
            let (slot, body) = match body {
                Some(body) => (*slot, body),
                None => {
                    self.change(region, |region, effects| region.note_lost(*index, slot, effects));
                    (slot.lost(), Bytes::new())
                }
            };
            Moved { index: *index, slot: slot.run_slot(), body }
        };
        slots.iter().map(read).collect()
    }

    /// Drops a segment that nobody needs. Who still reads from it finds out that it changed.
    fn free(&self, segment: &Segment) -> Result<(), LogWriteError> {
        self.segments
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(&segment.number);
        Counted::add(&self.counted.segments_dropped, 1);
        let mut spares = lock(&self.spares);
        let is_welcome =
            spares.ready.len() < SEGMENTS_PREPARED_MAX && segment.size == self.options.segment_size;
        let freed = if is_welcome {
            let number = spares.next;
            segment::recycle(&*self.disk, segment, number).map(|prepared| {
                spares.next += 1;
                spares.ready.push_back(prepared);
            })
        } else {
            let removed = self.disk.remove(&segment::file_name(segment.number));
            removed.and_then(|()| self.disk.sync_names())
        };
        freed.map_err(|error| self.fail(error))
    }

    /// Makes a file for a segment to come, when none waits. A full disk is no failure yet: the
    /// segment being written may last until something is freed.
    fn prepare(&self) -> Result<Option<Collected>, LogWriteError> {
        let mut spares = lock(&self.spares);
        if !spares.ready.is_empty() {
            return Ok(None);
        }
        let number = spares.next;
        match segment::create(&*self.disk, number, self.options.segment_size) {
            Ok(prepared) => {
                spares.next += 1;
                spares.ready.push_back(prepared);
                Ok(Some(Collected::Prepared { segment: number }))
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(None),
            Err(error) => Err(self.fail(error)),
        }
    }
}

/// What is known of a region, its entries in a segment, and whether the log has to say it again
/// even when there are none.
fn capture(region: &Region, segment: u32) -> (Repeated, Vec<(Index, Slot)>, bool) {
    let region = lock(region);
    let state = Repeated {
        start: region.start(),
        hard_state: region.has_hard_state().then_some(region.hard_state),
        damage: None,
        cuts: region.cuts,
    };
    let slots = region.slots().filter(|(_, slot)| slot.segment == segment);
    let slots = slots.map(|(index, slot)| (index, *slot)).collect();
    (state, slots, region.needs(segment))
}

/// How many slots fit into what is written again at once: at least one, when there is one.
fn part_of(slots: &[(Index, Slot)]) -> usize {
    let mut size = 0;
    let fits = |(_, slot): &&(Index, Slot)| {
        size += slot.size() as usize;
        size <= LOG_REWRITE_BYTES
    };
    slots.iter().take_while(fits).count().max(usize::from(!slots.is_empty()))
}
