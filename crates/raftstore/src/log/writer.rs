//! The end of the log: appending, syncing, and going on to the next segment.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, TryLockError};

use kiva_base::RegionId;
use kiva_raft::{Entries, Index};

use super::batch::{Effect, Item, LogBatch};
use super::format::{
    self, FOOTER_ENTRY, RECORD_HEADER, RecordHeader, RecordKind, SEGMENT_HEADER, SegmentHeader,
    Trailer,
};
use super::index::Place;
use super::publish;
use super::segment::{self, Prepared, Segment};
use super::store::{Counted, Shared, lock};
use super::{LogWriteError, Position, Written};
use crate::disk::{DiskFile, OpenMode};
use crate::limits::LOG_BATCH_SIZE_MAX;

/// The end of the log.
pub(super) struct Writer {
    pub(super) segment: Arc<Segment>,
    /// Where the next record goes.
    pub(super) offset: u64,
    /// How often the log was opened.
    pub(super) incarnation: u32,
    /// What the segment's footer will hold.
    pub(super) footer: Vec<u8>,
    /// Whether the segment has its footer.
    pub(super) is_sealed: bool,
    /// What was written of each region, published or not.
    pub(super) heads: BTreeMap<RegionId, Head>,
    /// How many things were written that concern no region's log.
    pub(super) facts: u64,
    /// What was written and is not published.
    pub(super) pending: VecDeque<Pending>,
    /// What the last record says is durable.
    pub(super) vouched: u64,
    /// The end of the last record that holds something.
    pub(super) filled: u64,
    /// Where records are put together. Kept, so that its memory is.
    pub(super) buffer: Vec<u8>,
}

/// What was written of a region.
#[derive(Clone, Copy, Default)]
pub(super) struct Head {
    /// Items that concerned it.
    pub(super) sequence: u32,
    /// Its last entry.
    pub(super) last: Index,
    /// How often entries were taken away from its end. What is written again of a region must be
    /// as new as this says.
    pub(super) cuts: u32,
}

/// A batch that nobody sees yet.
pub(super) struct Pending {
    /// The position behind it.
    end: u64,
    pub(super) place: Place,
    pub(super) directory: Vec<u8>,
    /// One for each region's item.
    pub(super) runs: Vec<Entries>,
}

/// A handle that is synced by one thread at a time.
#[derive(Default)]
pub(super) struct Syncer {
    open: Option<(u32, Arc<dyn DiskFile>)>,
}

/// What became of a batch that says again what is there.
#[derive(Debug)]
pub(super) enum Appended {
    /// It is written.
    Done(Written),
    /// Something it says is not so any more, or will not be. Nothing was written.
    Outdated,
}

impl Writer {
    /// Where the log ends.
    pub(super) fn end(&self) -> u64 {
        self.segment.base + self.offset
    }

    pub(super) fn is_known(&self, region: RegionId) -> bool {
        self.heads.get(&region).is_some_and(|head| head.sequence > 0)
            || self.pending.iter().any(|batch| !batch.runs.is_empty())
    }

    pub(super) fn forget(&mut self, region: RegionId) {
        self.heads.remove(&region);
    }

    /// Takes what is durable.
    pub(super) fn take_pending(&mut self, durable: u64) -> Vec<Pending> {
        let count = self.pending.iter().take_while(|batch| batch.end <= durable).count();
        self.pending.drain(..count).collect()
    }

    /// Whether all of the segment is published.
    pub(super) fn is_published(&self, segment: u32) -> bool {
        self.pending.front().is_none_or(|batch| batch.place.segment > segment)
    }

    /// Whether a batch that says things again says what is still so.
    fn is_current(&self, batch: &LogBatch) -> bool {
        let are_facts = batch.facts_before.is_none_or(|facts| facts == self.facts);
        are_facts
            && batch.items.iter().all(|item| match item.effect {
                Effect::Repeat { cuts } => {
                    self.heads.get(&item.region).is_some_and(|head| head.cuts == cuts)
                }
                Effect::Write { .. } | Effect::Remove => true,
            })
    }

    /// Numbers the items, and notes what they do.
    fn number(&mut self, items: &[Item], directory: &mut [u8]) {
        for item in items {
            let head = self.heads.entry(item.region).or_default();
            match item.effect {
                Effect::Repeat { .. } => {}
                Effect::Remove => *head = Head { cuts: head.cuts + 1, ..Head::default() },
                Effect::Write { start } => {
                    head.sequence += 1;
                    if let Some(start) = start {
                        head.cuts += 1;
                        head.last = start.index;
                    }
                    if let (Some(first), Some(last)) = (item.entries.first(), item.entries.last()) {
                        let (first, last) = (first.index, last.index);
                        let (region, end) = (item.region, head.last);
                        assert!(
                            first <= end.next(),
                            "region {region}: entries from {first} on, but the log ends at {end}"
                        );
                        head.cuts += u32::from(first <= end);
                        head.last = last;
                    }
                }
            }
            let number = &mut directory[item.sequence_at..item.sequence_at + 4];
            number.copy_from_slice(&head.sequence.to_le_bytes());
        }
    }

    /// Room for a record of `size` bytes with a directory of so many, and the footer that follows.
    fn has_room(&self, size: usize, directory: usize) -> bool {
        let footer = footer_size(self.footer.len() + FOOTER_ENTRY + directory);
        let end = self.offset + (size + footer) as u64;
        !self.is_sealed && end <= self.segment.trailer()
    }

    /// Puts a record together in the buffer, as it goes to the end of the log.
    fn encode(
        &mut self,
        kind: RecordKind,
        synced: u64,
        directory: &[u8],
        batch: Option<&LogBatch>,
    ) -> RecordHeader {
        let payload_size = batch.map_or(0, |batch| batch.payload_size);
        let header = RecordHeader {
            kind,
            directory_size: directory.len() as u32,
            payload_size: payload_size as u32,
            position: self.end(),
            synced,
            incarnation: self.incarnation,
        };
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.reserve(header.size());
        buffer.extend_from_slice(&[0; RECORD_HEADER]);
        buffer.extend_from_slice(directory);
        if let Some(batch) = batch {
            batch.pieces.iter().for_each(|piece| piece.copy_into(buffer));
        }
        let size = buffer.len();
        assert_eq!(size, RECORD_HEADER + directory.len() + payload_size, "sizes were added up");
        buffer.resize(header.size(), 0);
        header.encode_into(buffer, self.segment.number, self.offset as u32);
        header
    }
}

/// Bytes of the record of a footer with so many bytes in it.
pub(super) const fn footer_size(footer: usize) -> usize {
    format::aligned(RECORD_HEADER + footer)
}

impl Shared {
    pub(super) fn write(&self, batch: &LogBatch) -> Result<Written, LogWriteError> {
        match self.append(batch)? {
            Appended::Done(written) => Ok(written),
            Appended::Outdated => unreachable!("only the collector says things again"),
        }
    }

    /// Writes a batch to the end of the log.
    pub(super) fn append(&self, batch: &LogBatch) -> Result<Appended, LogWriteError> {
        let size = batch.size();
        if size > LOG_BATCH_SIZE_MAX {
            return Err(LogWriteError::TooLarge { size });
        }
        let writer = &mut *self.writer();
        self.check()?;
        if !writer.is_current(batch) {
            return Ok(Appended::Outdated);
        }
        if batch.is_empty() {
            return Ok(Appended::Done(Written { end: Position(writer.end()) }));
        }
        let mut directory = batch.directory.clone();
        self.make_room(writer, size, directory.len())?;
        writer.number(&batch.items, &mut directory);
        writer.facts += batch.facts;
        let end = self.put(writer, &directory, Some(batch))?;
        Ok(Appended::Done(Written { end: Position(end) }))
    }

    /// Writes a record for which there is room. Says where the log ends then.
    fn put(
        &self,
        writer: &mut Writer,
        directory: &[u8],
        batch: Option<&LogBatch>,
    ) -> Result<u64, LogWriteError> {
        let synced = self.durable().0;
        let header = writer.encode(RecordKind::Batch, synced, directory, batch);
        let offset = writer.offset;
        self.write_at(&writer.segment, offset, &writer.buffer)?;
        writer.offset += header.size() as u64;
        writer.segment.used.store(writer.offset, Ordering::Relaxed);
        writer.vouched = synced;
        Counted::add(&self.counted.writes, 1);
        let end = writer.end();
        if let Some(batch) = batch {
            writer.filled = end;
            format::encode_footer_entry(
                offset as u32,
                header.directory_size,
                header.payload_size,
                &mut writer.footer,
            );
            writer.footer.extend_from_slice(directory);
            let payload_at = offset as usize + RECORD_HEADER + directory.len();
            let place = Place { segment: writer.segment.number, offset: payload_at as u32 };
            let runs = publish::runs(&batch.items);
            writer.pending.push_back(Pending { end, place, directory: directory.to_vec(), runs });
        }
        Ok(end)
    }

    pub(super) fn sync(&self, end: Position) -> Result<(), LogWriteError> {
        while self.durable() < end {
            self.sync_once(end)?;
        }
        self.publish();
        Ok(())
    }

    fn sync_once(&self, end: Position) -> Result<(), LogWriteError> {
        self.check()?;
        let mut syncer = self.idle_syncer();
        if self.durable() >= end {
            return Ok(());
        }
        // Segments before this one were synced when it was begun.
        let (segment, target) = {
            let writer = self.writer();
            (Arc::clone(&writer.segment), writer.end())
        };
        let file = match &syncer.open {
            Some((number, file)) if *number == segment.number => Arc::clone(file),
            _ => {
                let name = segment::file_name(segment.number);
                let opened = self.disk.open(&name, OpenMode::Existing);
                let file = opened.map_err(|error| self.fail(error))?;
                syncer.open = Some((segment.number, Arc::clone(&file)));
                file
            }
        };
        self.sync_file(&*file)?;
        self.durable.fetch_max(target, Ordering::AcqRel);
        Ok(())
    }

    /// A handle that nobody syncs, or the next one that somebody has synced.
    fn idle_syncer(&self) -> MutexGuard<'_, Syncer> {
        let [first, second] = &self.syncers;
        for syncer in [first, second] {
            match syncer.try_lock() {
                Ok(syncer) => return syncer,
                Err(TryLockError::Poisoned(syncer)) => return syncer.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        lock(first)
    }

    pub(super) fn mark(&self) -> Result<bool, LogWriteError> {
        let filled = {
            let writer = self.writer();
            if writer.filled <= writer.vouched {
                return Ok(false);
            }
            writer.filled
        };
        self.sync(Position(filled))?;
        let end = self.put_mark()?;
        self.sync(end)?;
        Ok(true)
    }

    /// Writes a record that says only what is durable.
    pub(super) fn put_mark(&self) -> Result<Position, LogWriteError> {
        let writer = &mut *self.writer();
        self.check()?;
        self.make_room(writer, format::aligned(RECORD_HEADER), 0)?;
        self.put(writer, &[], None).map(Position)
    }

    /// Goes on to the next segment when this one has no room.
    fn make_room(
        &self,
        writer: &mut Writer,
        size: usize,
        directory: usize,
    ) -> Result<(), LogWriteError> {
        if writer.has_room(size, directory) {
            return Ok(());
        }
        self.seal(writer)?;
        let needed =
            SEGMENT_HEADER + size + footer_size(FOOTER_ENTRY + directory) + format::TRAILER;
        let prepared = self.next_segment(writer.segment.number + 1, needed as u64)?;
        let base = writer.end();
        let dropped = self.dropped.load(Ordering::Relaxed);
        let header = SegmentHeader { number: prepared.number, base, dropped };
        let segment = Arc::new(Segment::new(prepared, base, SEGMENT_HEADER as u64));
        self.write_at(&segment, 0, &header.encode())?;
        self.segments
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(segment.number, Arc::clone(&segment));
        writer.segment = segment;
        writer.offset = SEGMENT_HEADER as u64;
        writer.footer.clear();
        writer.is_sealed = false;
        // A handle keeps a file that was removed on the disk. Whoever syncs through one right now
        // opens another next time.
        for syncer in &self.syncers {
            if let Ok(mut syncer) = syncer.try_lock() {
                syncer.open = None;
            }
        }
        Ok(())
    }

    /// Ends the segment with its footer, and makes it durable: nothing is written to the next one
    /// before, so that only the last segment can have a torn end.
    fn seal(&self, writer: &mut Writer) -> Result<(), LogWriteError> {
        if !writer.is_sealed {
            let footer = std::mem::take(&mut writer.footer);
            let synced = self.durable().0;
            let header = writer.encode(RecordKind::Footer, synced, &footer, None);
            writer.footer = footer;
            let size = header.size() as u32;
            let trailer = Trailer { footer: writer.offset as u32, size };
            self.write_at(&writer.segment, writer.offset, &writer.buffer)?;
            let bytes = trailer.encode(writer.segment.number);
            self.write_at(&writer.segment, writer.segment.trailer(), &bytes)?;
            writer.offset += u64::from(size);
            writer.segment.used.store(writer.offset, Ordering::Relaxed);
            writer.is_sealed = true;
        }
        self.sync_file(&*writer.segment.file)?;
        self.durable.fetch_max(writer.end(), Ordering::AcqRel);
        Ok(())
    }

    /// A file for the next segment, of at least so many bytes: one that was prepared, or a new one.
    fn next_segment(&self, number: u32, needed: u64) -> Result<Prepared, LogWriteError> {
        let mut spares = lock(&self.spares);
        let size = needed.next_multiple_of(4096).max(self.options.segment_size);
        let made = match spares.ready.pop_front() {
            Some(prepared) if prepared.size >= needed => Ok(prepared),
            Some(prepared) => enlarge(prepared, size),
            None => {
                spares.next = number + 1;
                segment::create(&*self.disk, number, size)
            }
        };
        let prepared = made.map_err(|error| self.fail(error))?;
        assert_eq!(prepared.number, number, "segments follow each other");
        Ok(prepared)
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("a panic while the log is written to stops the store")
    }

    fn write_at(&self, segment: &Segment, offset: u64, bytes: &[u8]) -> Result<(), LogWriteError> {
        segment.file.write_at(offset, bytes).map_err(|error| self.fail(error))?;
        Counted::add(&self.counted.written_bytes, bytes.len() as u64);
        Ok(())
    }

    fn sync_file(&self, file: &dyn DiskFile) -> Result<(), LogWriteError> {
        Counted::add(&self.counted.syncs, 1);
        file.sync().map_err(|error| self.fail(error))?;
        // Another sync may have failed meanwhile.
        self.check()
    }
}

/// Gives a file that was prepared more room.
fn enlarge(prepared: Prepared, size: u64) -> io::Result<Prepared> {
    prepared.file.allocate(size)?;
    prepared.file.sync()?;
    Ok(Prepared { size, ..prepared })
}
