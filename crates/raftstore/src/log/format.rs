//! The bytes of a segment: its header, records, the directory of a record, the trailer.
//!
//! `docs/formats.md` has the layout. Fixed-width numbers are little-endian, the others varints.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use kiva_base::codec::{DecodeError, decode_varint, encode_varint};
use kiva_base::{Epoch, PeerId, RegionId};
use kiva_raft::{EntryId, HardState, Index, NodeId, Term};

use super::{Damage, Tombstone};
use crate::limits::{LOG_BATCH_SIZE_MAX, LOG_FORMAT};

/// Bytes before the first record of a segment.
pub(super) const SEGMENT_HEADER: usize = 64;
/// Bytes before the directory of a record.
pub(super) const RECORD_HEADER: usize = 40;
/// Bytes at the end of a segment that say where its footer is.
pub(super) const TRAILER: usize = 24;
/// Where records begin. Looking for the next good one tries every multiple of this.
pub(super) const ALIGN: usize = 8;
/// Bytes before each directory in a footer.
pub(super) const FOOTER_ENTRY: usize = 12;

const SEGMENT_MAGIC: &[u8; 7] = b"KIVALOG";
const RECORD_MAGIC: [u8; 4] = *b"\xC5rec";
const TRAILER_MAGIC: [u8; 4] = *b"\xC5end";

/// `size` rounded up to where the next record may begin.
pub(super) const fn aligned(size: usize) -> usize {
    size.next_multiple_of(ALIGN)
}

/// What stands at the beginning of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    /// Its number, that of its file's name.
    pub(super) number: u32,
    /// The position of its first byte. All positions below were durable when it was written.
    pub(super) base: u64,
    /// All segments up to this one are gone, or may be.
    pub(super) dropped: u32,
}

/// What the first bytes of a file are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Head {
    /// A header, perhaps that of the segment which the file was before.
    Header(SegmentHeader),
    /// Zeros: prepared, and not used since.
    Zeros,
    /// A header of a format that is newer than this program.
    Newer(u8),
    /// Anything else.
    Bad,
}

impl SegmentHeader {
    /// The bytes.
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..7].copy_from_slice(SEGMENT_MAGIC);
        bytes[7] = LOG_FORMAT;
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.dropped.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// What the first bytes of a file are.
    pub(super) fn decode(bytes: &[u8]) -> Head {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER) else { return Head::Bad };
        if bytes.iter().all(|&byte| byte == 0) {
            return Head::Zeros;
        }
        if bytes[..7] != *SEGMENT_MAGIC {
            return Head::Bad;
        }
        if bytes[7] > LOG_FORMAT {
            return Head::Newer(bytes[7]);
        }
        if bytes[7] != LOG_FORMAT || crc32fast::hash(&bytes[12..]) != u32_at(bytes, 8) {
            return Head::Bad;
        }
        let (number, base, dropped) = (u32_at(bytes, 12), u64_at(bytes, 16), u32_at(bytes, 24));
        Head::Header(Self { number, base, dropped })
    }
}

/// Whether these bytes begin like a record.
pub(super) fn may_be_record(bytes: &[u8]) -> bool {
    bytes.starts_with(&RECORD_MAGIC)
}

/// What a record is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecordKind {
    /// A batch, perhaps an empty one: a mark.
    Batch,
    /// The directories of all records of the segment, whose end it is.
    Footer,
}

/// What stands at the beginning of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordHeader {
    pub(super) kind: RecordKind,
    pub(super) directory_size: u32,
    pub(super) payload_size: u32,
    /// Of its first byte.
    pub(super) position: u64,
    /// All positions below were durable when it was written.
    pub(super) synced: u64,
    /// How often the log had been opened. What was cut off once has a smaller one than what stands
    /// before it, and is never taken for a part of the log again.
    pub(super) incarnation: u32,
}

impl RecordHeader {
    /// Bytes of the record, padding included.
    pub(super) fn size(&self) -> usize {
        aligned(RECORD_HEADER + self.directory_size as usize + self.payload_size as usize)
    }

    /// Writes the header over the first bytes of `record`, whose directory is in its place.
    pub(super) fn encode_into(&self, record: &mut [u8], segment: u32, offset: u32) {
        record[..4].copy_from_slice(&RECORD_MAGIC);
        record[8..12].copy_from_slice(&self.directory_size.to_le_bytes());
        record[12..16].copy_from_slice(&self.payload_size.to_le_bytes());
        record[16..24].copy_from_slice(&self.position.to_le_bytes());
        record[24..32].copy_from_slice(&self.synced.to_le_bytes());
        record[32..36].copy_from_slice(&self.incarnation.to_le_bytes());
        record[36] = match self.kind {
            RecordKind::Batch => 0,
            RecordKind::Footer => 1,
        };
        record[37..40].fill(0);
        let end = RECORD_HEADER + self.directory_size as usize;
        let checksum = checksum_at(segment, offset, &record[8..end]);
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The header of the record at `offset` of a segment, when the bytes from there on begin with a
    /// good one: it was written there, and its directory is whole. Payloads are not looked at.
    pub(super) fn decode(record: &[u8], segment: u32, offset: usize) -> Option<Self> {
        if record.get(..4)? != RECORD_MAGIC {
            return None;
        }
        let head = record.get(..RECORD_HEADER)?;
        let kind = match head[36] {
            0 => RecordKind::Batch,
            1 => RecordKind::Footer,
            _ => return None,
        };
        let header = Self {
            kind,
            directory_size: u32_at(head, 8),
            payload_size: u32_at(head, 12),
            position: u64_at(head, 16),
            synced: u64_at(head, 24),
            incarnation: u32_at(head, 32),
        };
        record.get(..header.size())?;
        let end = RECORD_HEADER + header.directory_size as usize;
        let checksum = checksum_at(segment, offset as u32, &record[8..end]);
        (checksum == u32_at(head, 4)).then_some(header)
    }
}

fn checksum_at(segment: u32, offset: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut place = [0; 8];
    place[..4].copy_from_slice(&segment.to_le_bytes());
    place[4..].copy_from_slice(&offset.to_le_bytes());
    hasher.update(&place);
    hasher.update(bytes);
    hasher.finalize()
}

/// The last bytes of a segment that is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Trailer {
    /// Where the footer begins.
    pub(super) footer: u32,
    /// Bytes of the footer's record.
    pub(super) size: u32,
}

impl Trailer {
    /// The bytes.
    pub(super) fn encode(&self, segment: u32) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[..4].copy_from_slice(&TRAILER_MAGIC);
        bytes[8..12].copy_from_slice(&self.footer.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..20].copy_from_slice(&segment.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// What the last bytes of the file of `segment` say.
    pub(super) fn decode(bytes: &[u8; TRAILER], segment: u32) -> Option<Self> {
        let is_good = bytes[..4] == TRAILER_MAGIC
            && crc32fast::hash(&bytes[8..]) == u32_at(bytes, 4)
            && u32_at(bytes, 16) == segment;
        is_good.then(|| Self { footer: u32_at(bytes, 8), size: u32_at(bytes, 12) })
    }
}

/// Appends to a footer what it tells of one record.
pub(super) fn encode_footer_entry(
    offset: u32,
    directory_size: u32,
    payload_size: u32,
    out: &mut Vec<u8>,
) {
    for number in [offset, directory_size, payload_size] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// What a footer tells of one record: where it is, how large its payloads are, and its directory.
pub(super) struct FooterEntry {
    pub(super) offset: u32,
    pub(super) payload_size: u32,
    pub(super) directory: Bytes,
}

/// Takes what a footer tells of one record off its front.
pub(super) fn decode_footer_entry(footer: &mut Bytes) -> Option<FooterEntry> {
    let head = footer.get(..FOOTER_ENTRY)?;
    let (offset, size) = (u32_at(head, 0), u32_at(head, 4) as usize);
    let payload_size = u32_at(head, 8);
    if footer.len() < FOOTER_ENTRY + size {
        return None;
    }
    let directory = footer.split_to(FOOTER_ENTRY + size).slice(FOOTER_ENTRY..);
    Some(FooterEntry { offset, payload_size, directory })
}

/// What an item of a directory may say of a region, in this order.
#[derive(Clone, Copy)]
pub(super) enum Section {
    /// The log is empty and goes on behind this entry.
    Start = 0x01,
    /// A hard state.
    HardState = 0x02,
    /// Runs of entries.
    Entries = 0x04,
    /// This was said before: it changes where things are, not what they are. Led by what precedes
    /// the first entry that is needed.
    Repeated = 0x08,
    /// Something was lost.
    Damage = 0x10,
    /// Nothing is left.
    Removed = 0x20,
}

impl Section {
    pub(super) const fn bit(self) -> u8 {
        self as u8
    }

    pub(super) const fn bit_if(self, is_there: bool) -> u8 {
        if is_there { self as u8 } else { 0 }
    }
}

/// What an item may say that concerns no region's log.
const STORE_IDENT: u8 = 1;
const STORE_DROPPED: u8 = 2;
const STORE_TOMBSTONE: u8 = 3;

/// What is at an index: a payload of some kind, or nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// See [`PayloadKind`](crate::codec::PayloadKind).
    Empty = 0,
    /// See [`PayloadKind`](crate::codec::PayloadKind).
    Command = 1,
    /// See [`PayloadKind`](crate::codec::PayloadKind).
    Membership = 2,
    /// It was there and cannot be read.
    Lost = 3,
}

impl Kind {
    pub(super) const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Empty,
            1 => Self::Command,
            2 => Self::Membership,
            _ => Self::Lost,
        }
    }
}

/// Appends the beginning of a region's item. Says where its sequence number is to be written.
pub(super) fn encode_item(region: RegionId, sections: u8, out: &mut Vec<u8>) -> usize {
    encode_varint(region.get(), out);
    out.push(sections);
    let sequence_at = out.len();
    out.extend_from_slice(&[0; 4]);
    sequence_at
}

pub(super) fn encode_damage(damage: Damage, out: &mut Vec<u8>) {
    encode_varint(damage.index.0, out);
    out.push(u8::from(damage.is_state_lost));
}

pub(super) fn encode_run_count(count: usize, out: &mut Vec<u8>) {
    encode_varint(count as u64, out);
}

pub(super) fn encode_run(first: EntryId, count: usize, out: &mut Vec<u8>) {
    encode_varint(first.index.0, out);
    encode_varint(first.term.0, out);
    encode_varint(count as u64, out);
}

/// Appends one entry of a run; `before` is the term of the one before.
pub(super) fn encode_slot(before: Term, slot: &RunSlot, out: &mut Vec<u8>) {
    encode_varint(slot.term.0 - before.0, out);
    encode_varint((slot.size as u64) << 2 | slot.kind as u64, out);
    if slot.size > 0 {
        out.extend_from_slice(&slot.checksum.to_le_bytes());
    }
}

pub(super) fn encode_ident(ident: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, STORE_IDENT]);
    crate::codec::encode_bytes(ident, out);
}

pub(super) fn encode_dropped(segment: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, STORE_DROPPED]);
    encode_varint(u64::from(segment), out);
}

/// Appends what became of a region's peers; peer 0 when nothing is to be remembered.
pub(super) fn encode_tombstone(region: RegionId, tombstone: Option<&Tombstone>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, STORE_TOMBSTONE]);
    encode_varint(region.get(), out);
    let epoch = tombstone.map_or(Epoch::default(), |tombstone| tombstone.epoch);
    encode_varint(tombstone.map_or(0, |tombstone| tombstone.peer_id_max.get()), out);
    encode_varint(epoch.conf_ver, out);
    encode_varint(epoch.version, out);
}

/// One thing that a directory says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    /// Of a region's log.
    Region(RegionItem<'a>),
    /// The identity of the store.
    Ident(&'a [u8]),
    /// Segments up to this one are not needed.
    Dropped(u32),
    /// Of destroyed peers; `None` when nothing is to be remembered of them.
    Tombstone(RegionId, Option<Tombstone>),
}

/// What a directory says of a region's log.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegionItem<'a> {
    pub(super) region: RegionId,
    /// Items of the region since it was heard of, this one included; those that repeat do not
    /// count.
    pub(super) sequence: u32,
    pub(super) start: Option<EntryId>,
    pub(super) hard_state: Option<HardState>,
    /// What precedes the first entry, of an item that repeats.
    pub(super) repeated: Option<EntryId>,
    pub(super) damage: Option<Damage>,
    pub(super) is_removed: bool,
    /// Runs of entries, to be read with [`Runs`].
    pub(super) runs: Runs<'a>,
}

/// One entry in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RunSlot {
    pub(super) term: Term,
    pub(super) kind: Kind,
    pub(super) size: u32,
    pub(super) checksum: u32,
}

/// The items of a directory, in order.
pub(super) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    pub(super) fn new(directory: &'a [u8]) -> Self {
        Self { rest: directory }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = decode_item(&mut self.rest);
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

const WHAT: &str = "a directory of the log";

fn decode_item<'a>(rest: &mut &'a [u8]) -> Result<Item<'a>, DecodeError> {
    let Some(region) = RegionId::new(varint(rest)?) else {
        return match byte(rest)? {
            STORE_IDENT => {
                let size = size(rest)?;
                let (ident, after) = rest.split_at(size);
                *rest = after;
                Ok(Item::Ident(ident))
            }
            STORE_DROPPED => Ok(Item::Dropped(number(rest)?)),
            STORE_TOMBSTONE => {
                let region = RegionId::new(varint(rest)?);
                let peer_id_max = PeerId::new(varint(rest)?);
                let epoch = Epoch { conf_ver: varint(rest)?, version: varint(rest)? };
                let region = region.ok_or(DecodeError::Malformed(WHAT))?;
                let tombstone = peer_id_max.map(|peer_id_max| Tombstone { peer_id_max, epoch });
                Ok(Item::Tombstone(region, tombstone))
            }
            _ => Err(DecodeError::Malformed(WHAT)),
        };
    };
    let sections = byte(rest)?;
    let sequence = fixed(rest)?;
    let has = |section: Section| sections & section.bit() != 0;
    let start = has(Section::Start).then(|| entry_id(rest)).transpose()?;
    let hard_state = has(Section::HardState).then(|| hard_state(rest)).transpose()?;
    let repeated = has(Section::Repeated).then(|| entry_id(rest)).transpose()?;
    let damage = has(Section::Damage).then(|| damage(rest)).transpose()?;
    let is_removed = has(Section::Removed);
    let runs = if has(Section::Entries) { Runs::split(rest)? } else { Runs::default() };
    Ok(Item::Region(RegionItem {
        region,
        sequence,
        start,
        hard_state,
        repeated,
        damage,
        is_removed,
        runs,
    }))
}

/// Runs of entries in a directory, whose encoding was walked through once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Runs<'a> {
    bytes: &'a [u8],
}

impl<'a> Runs<'a> {
    /// Splits the runs off the front of `rest`.
    fn split(rest: &mut &'a [u8]) -> Result<Self, DecodeError> {
        let before = *rest;
        for _ in 0..varint(rest)? {
            let (first, term, count) = (varint(rest)?, varint(rest)?, varint(rest)?);
            first.checked_add(count).ok_or(DecodeError::Malformed(WHAT))?;
            let mut term = Term(term);
            for _ in 0..count {
                term = decode_slot(term, rest)?.term;
            }
        }
        Ok(Self { bytes: &before[..before.len() - rest.len()] })
    }

    /// Calls `entry` for each, in the order of the payloads.
    pub(super) fn for_each(&self, mut entry: impl FnMut(Index, RunSlot)) {
        let mut walk = || -> Result<(), DecodeError> {
            let mut bytes = self.bytes;
            let rest = &mut bytes;
            if rest.is_empty() {
                return Ok(());
            }
            for _ in 0..varint(rest)? {
                let (first, term, count) = (varint(rest)?, varint(rest)?, varint(rest)?);
                let mut term = Term(term);
                for index in first..first + count {
                    let slot = decode_slot(term, rest)?;
                    term = slot.term;
                    entry(Index(index), slot);
                }
            }
            Ok(())
        };
        walk().expect("the encoding was walked through when it was split off");
    }
}

fn decode_slot(before: Term, rest: &mut &[u8]) -> Result<RunSlot, DecodeError> {
    let term = before.0.checked_add(varint(rest)?).ok_or(DecodeError::Malformed(WHAT))?;
    let size_and_kind = varint(rest)?;
    let kind = Kind::from_bits(size_and_kind as u8);
    let size = u32::try_from(size_and_kind >> 2).map_err(|_| DecodeError::Malformed(WHAT))?;
    if size as usize > LOG_BATCH_SIZE_MAX {
        return Err(DecodeError::Malformed(WHAT));
    }
    let checksum = if size > 0 { fixed(rest)? } else { 0 };
    Ok(RunSlot { term: Term(term), kind, size, checksum })
}

fn entry_id(rest: &mut &[u8]) -> Result<EntryId, DecodeError> {
    Ok(EntryId::new(Term(varint(rest)?), Index(varint(rest)?)))
}

fn hard_state(rest: &mut &[u8]) -> Result<HardState, DecodeError> {
    let (term, vote) = (Term(varint(rest)?), NodeId::new(varint(rest)?));
    Ok(HardState { term, vote, commit: Index(varint(rest)?) })
}

fn damage(rest: &mut &[u8]) -> Result<Damage, DecodeError> {
    Ok(Damage { index: Index(varint(rest)?), is_state_lost: byte(rest)? != 0 })
}

fn varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let (value, after) = decode_varint(rest)?;
    *rest = after;
    Ok(value)
}

fn number(rest: &mut &[u8]) -> Result<u32, DecodeError> {
    u32::try_from(varint(rest)?).map_err(|_| DecodeError::Malformed(WHAT))
}

/// A length of something that is there.
fn size(rest: &mut &[u8]) -> Result<usize, DecodeError> {
    let size = usize::try_from(varint(rest)?).map_err(|_| DecodeError::Truncated(WHAT))?;
    if size <= rest.len() { Ok(size) } else { Err(DecodeError::Truncated(WHAT)) }
}

fn byte(rest: &mut &[u8]) -> Result<u8, DecodeError> {
    let (byte, after) = rest.split_first().ok_or(DecodeError::Truncated(WHAT))?;
    *rest = after;
    Ok(*byte)
}

fn fixed(rest: &mut &[u8]) -> Result<u32, DecodeError> {
    let (bytes, after) = rest.split_first_chunk().ok_or(DecodeError::Truncated(WHAT))?;
    *rest = after;
    Ok(u32::from_le_bytes(*bytes))
}

/// Four bytes at `at`, which the caller knows to be there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Eight bytes at `at`, which the caller knows to be there.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
