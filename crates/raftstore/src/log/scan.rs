//! What is in a segment: from its footer when it has a good one, record by record otherwise.

use bytes::Bytes;
use kiva_base::RegionId;
use kiva_raft::Index;

use super::format::{
    self, ALIGN, Item, Items, RECORD_HEADER, RecordHeader, RecordKind, SEGMENT_HEADER, TRAILER,
    Trailer,
};
use super::publish;
use super::writer::footer_size;
use crate::disk::DiskFile;

/// A record whose directory is whole.
pub(super) struct Record {
    /// Where it begins in the segment.
    pub(super) offset: usize,
    /// Not known of records that a footer tells of.
    pub(super) header: Option<RecordHeader>,
    pub(super) directory: Bytes,
    pub(super) payload_size: u32,
}

impl Record {
    /// Where its payloads begin in the segment.
    pub(super) fn payload_at(&self) -> usize {
        self.offset + RECORD_HEADER + self.directory.len()
    }
}

/// What is in a segment.
#[derive(Default)]
pub(super) struct Scan {
    /// In order.
    pub(super) records: Vec<Record>,
    /// Bytes between good records that are none themselves.
    pub(super) zones: Vec<(usize, usize)>,
    /// The end of the last good record, the footer included.
    pub(super) end: usize,
    /// Whether that was the footer.
    pub(super) is_sealed: bool,
    /// The largest of all records, of those that were cut off once as well.
    pub(super) incarnation: u32,
    /// What any of these records knew to be durable.
    pub(super) synced: u64,
    /// The position of the segment's first byte, as its records have it.
    pub(super) base: Option<u64>,
}

impl Scan {
    /// Reads a segment's footer. `None` when there is no good one.
    pub(super) fn footer(file: &dyn DiskFile, size: u64, segment: u32) -> Option<Self> {
        let mut trailer = [0; TRAILER];
        file.read_at(size.checked_sub(TRAILER as u64)?, &mut trailer).ok()?;
        let trailer = Trailer::decode(&trailer, segment)?;
        let mut bytes = vec![0; trailer.size as usize];
        file.read_at(u64::from(trailer.footer), &mut bytes).ok()?;
        let offset = trailer.footer as usize;
        let header = RecordHeader::decode(&bytes, segment, offset)?;
        let end = RECORD_HEADER + header.directory_size as usize;
        let mut footer = Bytes::from(bytes).slice(RECORD_HEADER..end);
        let mut scan = Self {
            end: offset + header.size(),
            is_sealed: true,
            incarnation: header.incarnation,
            synced: header.synced,
            base: header.position.checked_sub(offset as u64),
            ..Self::default()
        };
        if header.kind != RecordKind::Footer {
            return None;
        }
        while !footer.is_empty() {
            let entry = format::decode_footer_entry(&mut footer)?;
            if !publish::is_sound(&entry.directory, entry.payload_size) {
                return None;
            }
            scan.records.push(Record {
                offset: entry.offset as usize,
                header: None,
                directory: entry.directory,
                payload_size: entry.payload_size,
            });
        }
        Some(scan)
    }

    /// Looks at every record of a segment, and for the next one wherever there is none.
    pub(super) fn records(bytes: &Bytes, segment: u32) -> Self {
        let mut scan = Self { end: SEGMENT_HEADER, ..Self::default() };
        let mut newest = 0;
        let mut offset = SEGMENT_HEADER;
        while offset + RECORD_HEADER <= bytes.len() {
            let Some(header) = RecordHeader::decode(&bytes[offset..], segment, offset) else {
                offset += ALIGN;
                continue;
            };
            // Also what was cut off tells the truth about what was durable before it.
            scan.synced = scan.synced.max(header.synced);
            scan.incarnation = scan.incarnation.max(header.incarnation);
            let directory = offset + RECORD_HEADER;
            let directory = bytes.slice(directory..directory + header.directory_size as usize);
            let is_batch = header.kind == RecordKind::Batch;
            if header.incarnation < newest
                || (is_batch && !publish::is_sound(&directory, header.payload_size))
            {
                offset += ALIGN;
                continue;
            }
            newest = header.incarnation;
            scan.base = scan.base.or(header.position.checked_sub(offset as u64));
            if offset > scan.end {
                scan.zones.push((scan.end, offset));
            }
            offset += header.size();
            scan.end = offset;
            scan.is_sealed = !is_batch;
            if is_batch {
                let offset = offset - header.size();
                let payload_size = header.payload_size;
                scan.records.push(Record { offset, header: Some(header), directory, payload_size });
            } else {
                break;
            }
        }
        scan
    }

    /// For a segment that is known to end at `end`: whatever is there and is no record is a zone,
    /// except the footer, of which nothing is missed when everything before is there.
    pub(super) fn close(&mut self, end: usize) {
        if self.is_sealed || self.end >= end {
            return;
        }
        let footer: usize = self
            .records
            .iter()
            .filter(|record| !record.directory.is_empty())
            .map(|record| format::FOOTER_ENTRY + record.directory.len())
            .sum();
        if !self.zones.is_empty() || self.end + footer_size(footer) != end {
            self.zones.push((self.end, end));
        }
        self.end = end;
    }
}

/// An entry whose bytes are not those that were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BadEntry {
    pub(super) region: RegionId,
    pub(super) index: Index,
    /// Where its payload begins in the segment.
    pub(super) offset: u32,
}

/// Compares the payloads of a record with their checksums.
pub(super) fn bad_entries(bytes: &[u8], record: &Record) -> Vec<BadEntry> {
    let mut bad = Vec::new();
    let mut at = record.payload_at();
    for item in Items::new(&record.directory) {
        let Ok(Item::Region(item)) = item else { continue };
        item.runs.for_each(|index, slot| {
            let size = slot.size as usize;
            let body = bytes.get(at..at + size);
            let is_good = |body| size == 0 || crc32fast::hash(body) == slot.checksum;
            if !body.is_some_and(is_good) {
                bad.push(BadEntry { region: item.region, index, offset: at as u32 });
            }
            at += size;
        });
    }
    bad
}
