//! Opens a log: reads what is there, cuts the torn end, and says what is damaged.
//!
//! 1. Files are told apart by their first bytes: used, and not used yet.
//! 2. Full segments are read by their footers, the last one record by record. What the records know
//!    to be durable decides which bad bytes are damage, and where the torn end begins.
//! 3. Directories are taken in, oldest first, as if they had just become durable.
//! 4. What nobody vouches for yet is written once more and synced: it was read, but after a sync
//!    that failed a system shows bytes that are on no disk.
//! 5. A first record says what is durable, and what is damaged. Its incarnation makes whatever lies
//!    behind a thing of the past.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use bytes::Bytes;
use kiva_raft::Entries;

use super::batch::{LogBatch, Repeated};
use super::cache::Cache;
use super::format::{
    self, Head, Item, Items, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, TRAILER,
};
use super::index::{Place, RegionIndex};
use super::scan::{BadEntry, Scan, bad_entries};
use super::segment::{self, Prepared, Segment, Spares};
use super::store::{Counted, Facts, Shared, lock};
use super::writer::{Head as RegionHead, Syncer, Writer};
use super::{Log, LogOpenError, LogWriteError, Lost, Opened, Options, Recovered};
use crate::disk::{Disk, OpenMode};
use crate::limits::{SEGMENT_SIZE_MIN, SEGMENTS_PREPARED_MAX};

/// A file that holds a part of the log.
pub(super) struct Used {
    prepared: Prepared,
    /// `None` when it is damaged.
    header: Option<SegmentHeader>,
    /// All of the file, when it had to be read.
    pub(super) bytes: Option<Bytes>,
    pub(super) scan: Scan,
}

/// What is in the folder.
#[derive(Default)]
pub(super) struct Files {
    pub(super) used: BTreeMap<u32, Used>,
    /// Files that hold nothing.
    unused: Vec<Prepared>,
    /// Names without a whole file.
    stumps: Vec<u32>,
}

/// The log as it was found.
struct Found {
    used: BTreeMap<u32, Used>,
    /// All segments up to this one are gone.
    dropped: u32,
    /// Where the last segment ends.
    end: usize,
    /// The position up to which somebody vouches for the log.
    vouched: u64,
    /// Entries of the last segment that are damaged.
    bad: Vec<BadEntry>,
}

/// Opens the log on `disk`.
pub(super) fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Opened, LogOpenError> {
    let options = Options {
        segment_size: options.segment_size.clamp(SEGMENT_SIZE_MIN, u64::from(u32::MAX) / 2),
        ..options
    };
    let mut files = read(&*disk)?;
    files.close()?;
    let unused = std::mem::take(&mut files.unused);
    let stumps = std::mem::take(&mut files.stumps);
    let mut found = settle(files);
    let gone: Vec<u32> = found.used.range(..=found.dropped).map(|(number, _)| *number).collect();
    gone.iter().for_each(|number| drop(found.used.remove(number)));

    // What work left over that a crash interrupted.
    let last = found.used.keys().next_back().copied();
    let mut spares = Spares { ready: VecDeque::new(), next: last.map_or(1, |last| last + 1) };
    let mut superfluous: Vec<u32> = gone.into_iter().chain(stumps).collect();
    for prepared in unused {
        let is_next = prepared.number == spares.next && last.is_some();
        let is_welcome = spares.ready.len() < SEGMENTS_PREPARED_MAX;
        if !is_next || !is_welcome || prepared.size != options.segment_size {
            superfluous.push(prepared.number);
            continue;
        }
        spares.next += 1;
        spares.ready.push_back(prepared);
    }
    if !superfluous.is_empty() {
        for number in superfluous {
            disk.remove(&segment::file_name(number))?;
        }
        disk.sync_names()?;
    }
    if last.is_none() {
        let number = spares.next;
        spares.next += 1;
        let prepared = segment::create(&*disk, number, options.segment_size)?;
        let header = SegmentHeader { number, base: 0, dropped: found.dropped };
        prepared.file.write_at(0, &header.encode())?;
        let scan = Scan { end: SEGMENT_HEADER, ..Scan::default() };
        let used = Used { prepared, header: Some(header), bytes: None, scan };
        found.used.insert(number, used);
        found.end = SEGMENT_HEADER;
    }
    let shared = assemble(disk, options, spares, &found);
    let lost = take_in(&shared, &found);
    start(&shared, &found)?;
    Ok(opened(shared, lost))
}

/// Reads the folder. Nothing is changed.
pub(super) fn read(disk: &dyn Disk) -> Result<Files, LogOpenError> {
    let mut files = Files::default();
    for name in disk.list()? {
        let Some(number) = segment::file_number(&name) else { continue };
        let file = disk.open(&name, OpenMode::Existing)?;
        let size = file.size()?;
        let mut head = [0; SEGMENT_HEADER + RECORD_HEADER];
        if size < (head.len() + TRAILER) as u64 {
            files.stumps.push(number);
            continue;
        }
        file.read_at(0, &mut head)?;
        let prepared = Prepared { number, file, size };
        let header = match SegmentHeader::decode(&head) {
            Head::Newer(format) => return Err(LogOpenError::Newer { file: name, format }),
            Head::Header(header) if header.number == number => Some(header),
            // Recycled, and not used since.
            Head::Header(_) => {
                files.unused.push(prepared);
                continue;
            }
            // Zeros before a record are a header that was damaged.
            Head::Zeros if !format::may_be_record(&head[SEGMENT_HEADER..]) => {
                files.unused.push(prepared);
                continue;
            }
            Head::Zeros | Head::Bad => None,
        };
        let footer = header.and_then(|_| Scan::footer(&*prepared.file, size, number));
        let mut used = Used { prepared, header, bytes: None, scan: Scan::default() };
        match footer {
            Some(scan) => used.scan = scan,
            None => used.read_records()?,
        }
        if header.is_none() && used.scan.base.is_none() {
            // The header was torn when the segment was begun: nothing in it was durable.
            files.unused.push(used.prepared);
            continue;
        }
        files.used.insert(number, used);
    }
    Ok(files)
}

impl Used {
    /// The position of the first byte.
    pub(super) fn base(&self) -> u64 {
        self.header.map(|header| header.base).or(self.scan.base).unwrap_or(0)
    }

    /// Looks at all records.
    pub(super) fn read_records(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; self.prepared.size as usize];
        self.prepared.file.read_at(0, &mut bytes)?;
        let bytes = Bytes::from(bytes);
        self.scan = Scan::records(&bytes, self.prepared.number);
        self.bytes = Some(bytes);
        Ok(())
    }

    /// As a part of the log.
    fn segment(&self, end: usize) -> Segment {
        let Prepared { number, ref file, size } = self.prepared;
        let prepared = Prepared { number, file: Arc::clone(file), size };
        Segment::new(prepared, self.base(), end as u64)
    }
}

impl Files {
    /// Tells each segment but the last where it ends: where the next one begins. The last one's
    /// footer may have been written before the records it tells of.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let bases: Vec<(u32, u64)> =
            self.used.iter().map(|(number, used)| (*number, used.base())).collect();
        for pair in bases.windows(2) {
            let [(number, base), (next, end)] = [pair[0], pair[1]];
            let Some(used) = self.used.get_mut(&number) else { continue };
            let size = used.prepared.size;
            let is_next = next == number + 1 && (base..base + size).contains(&end);
            used.scan.close(if is_next { end - base } else { size } as usize);
        }
        match self.used.values_mut().next_back() {
            Some(last) if last.bytes.is_none() => last.read_records(),
            _ => Ok(()),
        }
    }
}

/// Decides what of the last segment is a part of the log.
fn settle(mut files: Files) -> Found {
    let headers = files.used.values().filter_map(|used| used.header).map(|header| header.base);
    let records = files.used.values().map(|used| used.scan.synced);
    let vouched = headers.chain(records).max().unwrap_or(0);
    let mut found = Found { used: BTreeMap::new(), dropped: 0, end: 0, vouched, bad: Vec::new() };
    if let Some(last) = files.used.values_mut().next_back() {
        let bytes = last.bytes.clone().unwrap_or_default();
        let durable = vouched.saturating_sub(last.base()) as usize;
        let scan = &mut last.scan;
        let torn = scan.zones.iter().map(|zone| zone.0).find(|start| *start >= durable);
        let mut end = torn.unwrap_or(scan.end);
        for record in &scan.records {
            if record.offset >= end {
                break;
            }
            let bad = bad_entries(&bytes, record);
            if !bad.is_empty() && record.offset >= durable {
                end = record.offset;
                break;
            }
            found.bad.extend(bad);
        }
        if end < scan.end {
            scan.records.retain(|record| record.offset < end);
            scan.zones.retain(|zone| zone.0 < end);
            scan.is_sealed = false;
        }
        if end < durable {
            scan.zones.push((end, durable));
            end = durable;
        }
        found.end = end;
    }
    let headers = files.used.values().filter_map(|used| used.header);
    let headers = headers.map(|header| header.dropped).max().unwrap_or(0);
    let records = files.used.values().flat_map(|used| &used.scan.records);
    let items = records.flat_map(|record| Items::new(&record.directory));
    let told = items.filter_map(|item| match item {
        Ok(Item::Dropped(segment)) => Some(segment),
        _ => None,
    });
    found.dropped = told.max().unwrap_or(0).max(headers);
    found.used = files.used;
    found
}

/// Puts together what handles share, with nothing in it yet.
fn assemble(disk: Arc<dyn Disk>, options: Options, spares: Spares, found: &Found) -> Arc<Shared> {
    let mut segments = BTreeMap::new();
    let (last_number, last) = found.used.last_key_value().expect("one was made if there was none");
    for (number, used) in &found.used {
        let end = if number == last_number { found.end } else { used.scan.end };
        segments.insert(*number, Arc::new(used.segment(end)));
    }
    let mut footer = Vec::new();
    for record in last.scan.records.iter().filter(|record| !record.directory.is_empty()) {
        format::encode_footer_entry(
            record.offset as u32,
            record.directory.len() as u32,
            record.payload_size,
            &mut footer,
        );
        footer.extend_from_slice(&record.directory);
    }
    let incarnation = found.used.values().map(|used| used.scan.incarnation).max().unwrap_or(0);
    let end = last.base() + found.end as u64;
    let writer = Writer {
        segment: Arc::clone(&segments[last_number]),
        offset: found.end as u64,
        incarnation: incarnation + 1,
        footer,
        is_sealed: last.scan.is_sealed,
        heads: BTreeMap::new(),
        facts: 0,
        pending: VecDeque::new(),
        vouched: end,
        filled: end,
        buffer: Vec::new(),
    };
    Arc::new(Shared {
        disk,
        options,
        writer: Mutex::new(writer),
        syncers: [Mutex::new(Syncer::default()), Mutex::new(Syncer::default())],
        durable: AtomicU64::new(end),
        publisher: Mutex::new(()),
        regions: RwLock::new(BTreeMap::new()),
        segments: RwLock::new(segments),
        spares: Mutex::new(spares),
        cache: Mutex::new(Cache::new(options.cache_bytes)),
        facts: Mutex::new(Facts::default()),
        dropped: AtomicU32::new(found.dropped),
        collector: Mutex::new(()),
        poison: OnceLock::new(),
        counted: Counted::default(),
    })
}

/// Takes in all directories, oldest first. Says what could not be read.
fn take_in(shared: &Shared, found: &Found) -> Vec<Lost> {
    let mut lost = Vec::new();
    let last = found.used.keys().next_back().copied().unwrap_or(0);
    for number in found.dropped + 1..=last {
        let Some(used) = found.used.get(&number) else {
            lost.push(Lost { segment: number, start: 0, end: None });
            continue;
        };
        let mut zones = used.scan.zones.iter().peekable();
        let mut pass = |upto: usize, lost: &mut Vec<Lost>| {
            while let Some((start, end)) = zones.next_if(|zone| zone.0 < upto) {
                let (start, end) = (*start as u64, Some(*end as u64));
                lost.push(Lost { segment: number, start, end });
            }
        };
        for record in &used.scan.records {
            pass(record.offset, &mut lost);
            let mut place = Place { segment: number, offset: record.payload_at() as u32 };
            for item in Items::new(&record.directory) {
                let item = item.expect("the directory was walked through when it was found");
                shared.take_in(&item, &mut place, Entries::EMPTY, Some(lost.len() as u32));
            }
        }
        pass(usize::MAX, &mut lost);
    }
    for bad in &found.bad {
        let region = shared.region(bad.region);
        shared.change(&region, |region, effects| {
            let slot = region.slot(bad.index).copied();
            if let Some(slot) = slot
                && (slot.segment, slot.offset) == (last, bad.offset)
            {
                region.note_lost(bad.index, &slot, effects);
            }
        });
    }
    for (id, region) in shared.all_regions() {
        let mut region = lock(&region);
        region.finish(lost.len() as u32);
        if !region.is_known() {
            // It was removed, and nobody has a handle to it yet.
            shared.forget_unknown(id);
        }
    }
    lost
}

/// Makes durable what was found, and writes the first record.
fn start(shared: &Shared, found: &Found) -> Result<(), LogWriteError> {
    let mut batch = LogBatch::new();
    let mut heads = BTreeMap::new();
    for (id, region) in shared.all_regions() {
        let region = lock(&region);
        if !region.is_known() {
            continue;
        }
        let (sequence, last, cuts) = (region.sequence, region.last().index, region.cuts);
        heads.insert(id, RegionHead { sequence, last, cuts });
        if let Some(damage) = region.damage() {
            let damage = Some(damage);
            let state = Repeated { start: region.start(), hard_state: None, damage, cuts };
            batch.repeat(id, state, &[]);
        }
    }
    let facts = lock(&shared.facts).count;
    {
        let mut writer = shared.writer();
        (writer.heads, writer.facts) = (heads, facts);
    }
    let last = found.used.values().next_back().expect("one was made if there was none");
    let file = &last.prepared.file;
    let written = || {
        if last.header.is_none() {
            let (number, base) = (last.prepared.number, last.base());
            let header = SegmentHeader { number, base, dropped: found.dropped };
            file.write_at(0, &header.encode())?;
        }
        let unvouched = found.vouched.saturating_sub(last.base()) as usize;
        if let Some(bytes) = last.bytes.as_ref().and_then(|bytes| bytes.get(unvouched..found.end))
            && !bytes.is_empty()
            && last.header.is_some()
        {
            file.write_at(unvouched as u64, bytes)?;
        }
        file.sync()
    };
    written().map_err(|error| shared.fail(error))?;
    let end = if batch.is_empty() { shared.put_mark()? } else { shared.write(&batch)?.end };
    shared.sync(end)
}

fn opened(shared: Arc<Shared>, lost: Vec<Lost>) -> Opened {
    let mut regions = BTreeMap::new();
    let mut damage = BTreeMap::new();
    for (id, region) in shared.all_regions() {
        let region = lock(&region);
        if !region.is_known() {
            continue;
        }
        regions.insert(id, recovered(&region));
        damage.extend(region.damage().map(|damage| (id, damage)));
    }
    let facts = lock(&shared.facts);
    let ident = facts.ident.as_ref().map(|(ident, _)| ident.clone());
    let tombstones = &facts.tombstones;
    let tombstones = tombstones.iter().map(|(id, (tombstone, _))| (*id, *tombstone)).collect();
    drop(facts);
    let position = shared.durable();
    Opened { log: Log { shared }, regions, tombstones, ident, position, damage, lost }
}

fn recovered(region: &RegionIndex) -> Recovered {
    Recovered {
        start: region.start(),
        last: region.last(),
        hard_state: region.hard_state,
        damage: region.damage(),
    }
}
