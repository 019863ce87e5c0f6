//! The log as it lies on the disk, for people.

use std::fmt;

use bytes::Bytes;
use kiva_base::RegionId;
use kiva_raft::{EntryId, HardState, Index};

use super::format::{Item, Items, Kind};
use super::recover;
use super::scan::{Record, bad_entries};
use super::{Damage, LogOpenError, Lost, Position, Tombstone};
use crate::disk::Disk;

/// A record, as [`inspect`] finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InspectedRecord {
    /// The segment.
    pub segment: u32,
    /// Where it begins in the segment.
    pub offset: u64,
    /// Bytes of its payloads.
    pub payload_bytes: u64,
    /// Where it begins in the log.
    pub position: Position,
    /// What was known to be durable when it was written.
    pub synced: Position,
    /// How often the log had been opened.
    pub incarnation: u32,
    /// What it says; a mark says nothing.
    pub items: Vec<InspectedItem>,
    /// Entries whose bytes are not those that were written.
    pub bad: Vec<(RegionId, Index)>,
}

/// One thing that a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InspectedItem {
    /// Of a region's log.
    Region {
        /// Whose.
        region: RegionId,
        /// How many items of the region came before it, and itself.
        sequence: u32,
        /// The log goes on behind this entry.
        start: Option<EntryId>,
        /// Term, vote and commit index.
        hard_state: Option<HardState>,
        /// What precedes the first entry that is needed, when the item says things again.
        repeated: Option<EntryId>,
        /// What was lost.
        damage: Option<Damage>,
        /// Nothing is left of it.
        is_removed: bool,
        /// Entries.
        runs: Vec<InspectedRun>,
    },
    /// The identity of the store.
    Ident(Bytes),
    /// Segments up to this one are not needed.
    Dropped(u32),
    /// Of destroyed peers; `None` when nothing is to be remembered.
    Tombstone(RegionId, Option<Tombstone>),
}

/// Entries that follow each other in a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InspectedRun {
    /// The first.
    pub first: EntryId,
    /// The last.
    pub last: EntryId,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// How many of them are changes of members.
    pub memberships: usize,
    /// How many of them were lost before they were written here.
    pub lost: usize,
}

/// What [`inspect`] has seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inspection {
    /// Segments that hold a part of the log.
    pub segments: u64,
    /// Good records.
    pub records: u64,
    /// Entries in them, those that were replaced or compacted included.
    pub entries: u64,
    /// Entries whose bytes are not those that were written.
    pub bad_entries: u64,
    /// Where the log ends, as far as it can be read.
    pub end: Position,
    /// Up to where somebody vouches for it: what is bad below is damaged, what is bad above was
    /// torn by a crash.
    pub vouched: Position,
    /// Places that hold no record between those that do.
    pub unreadable: Vec<Lost>,
}

/// Reads all of the log on `disk`, record by record, and changes nothing. Not for the disk of a
/// store that runs: what is being written looks torn.
pub fn inspect(
    disk: &dyn Disk,
    visit: &mut dyn FnMut(InspectedRecord),
) -> Result<Inspection, LogOpenError> {
    let mut files = recover::read(disk)?;
    files.close()?;
    let mut seen = Inspection::default();
    let last = files.used.keys().next_back().copied();
    for (number, used) in &mut files.used {
        let end = used.scan.end;
        used.read_records()?;
        if Some(*number) != last {
            used.scan.close(end);
        }
        let bytes = used.bytes.take().unwrap_or_default();
        seen.segments += 1;
        seen.end = Position(used.base() + used.scan.end as u64);
        seen.vouched = seen.vouched.max(Position(used.base())).max(Position(used.scan.synced));
        for (start, end) in &used.scan.zones {
            let (start, end) = (*start as u64, Some(*end as u64));
            seen.unreadable.push(Lost { segment: *number, start, end });
        }
        for record in &used.scan.records {
            let inspected = look(*number, used.base(), record, &bytes);
            seen.records += 1;
            seen.bad_entries += inspected.bad.len() as u64;
            seen.entries += inspected.entries();
            visit(inspected);
        }
    }
    Ok(seen)
}

fn look(segment: u32, base: u64, record: &Record, bytes: &[u8]) -> InspectedRecord {
    let header = record.header.as_ref();
    let bad = bad_entries(bytes, record);
    InspectedRecord {
        segment,
        offset: record.offset as u64,
        payload_bytes: u64::from(record.payload_size),
        position: Position(base + record.offset as u64),
        synced: Position(header.map_or(0, |header| header.synced)),
        incarnation: header.map_or(0, |header| header.incarnation),
        items: Items::new(&record.directory).filter_map(|item| Some(item.ok()?.into())).collect(),
        bad: bad.iter().map(|bad| (bad.region, bad.index)).collect(),
    }
}

impl From<Item<'_>> for InspectedItem {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Ident(ident) => Self::Ident(Bytes::copy_from_slice(ident)),
            Item::Dropped(segment) => Self::Dropped(segment),
            Item::Tombstone(region, tombstone) => Self::Tombstone(region, tombstone),
            Item::Region(item) => {
                let mut runs: Vec<InspectedRun> = Vec::new();
                item.runs.for_each(|index, slot| {
                    let id = EntryId::new(slot.term, index);
                    let bytes = u64::from(slot.size);
                    let memberships = usize::from(slot.kind == Kind::Membership);
                    let lost = usize::from(slot.kind == Kind::Lost);
                    match runs.last_mut() {
                        Some(run) if run.last.index.next() == index => {
                            run.last = id;
                            run.bytes += bytes;
                            run.memberships += memberships;
                            run.lost += lost;
                        }
                        _ => {
                            runs.push(InspectedRun {
                                first: id,
                                last: id,
                                bytes,
                                memberships,
                                lost,
                            });
                        }
                    }
                });
                Self::Region {
                    region: item.region,
                    sequence: item.sequence,
                    start: item.start,
                    hard_state: item.hard_state,
                    repeated: item.repeated,
                    damage: item.damage,
                    is_removed: item.is_removed,
                    runs,
                }
            }
        }
    }
}

impl InspectedRecord {
    fn entries(&self) -> u64 {
        let runs = self.items.iter().flat_map(|item| match item {
            InspectedItem::Region { runs, .. } => runs.as_slice(),
            _ => &[],
        });
        runs.map(|run| run.last.index.since(run.first.index) + 1).sum()
    }
}

/// One line for the record, and one for each thing it says.
impl fmt::Display for InspectedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, payload_bytes, position, synced, incarnation, .. } = self;
        write!(f, "segment {segment} at {offset}: position {position}, {payload_bytes} bytes")?;
        write!(f, ", durable up to {synced}, incarnation {incarnation}")?;
        if self.items.is_empty() {
            write!(f, ", mark")?;
        }
        for item in &self.items {
            write!(f, "\n  {item}")?;
        }
        for (region, index) in &self.bad {
            write!(f, "\n  region {region}: entry {index} is DAMAGED")?;
        }
        Ok(())
    }
}

impl fmt::Display for InspectedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (region, sequence) = match self {
            Self::Ident(ident) => return write!(f, "identity of {} bytes", ident.len()),
            Self::Dropped(segment) => return write!(f, "segments up to {segment} are not needed"),
            Self::Tombstone(region, None) => return write!(f, "region {region}: no tombstone"),
            Self::Tombstone(region, Some(tombstone)) => {
                let Tombstone { peer_id_max, epoch } = tombstone;
                let (conf_ver, version) = (epoch.conf_ver, epoch.version);
                write!(f, "region {region}: peers up to {peer_id_max} are gone")?;
                return write!(f, ", epoch {conf_ver}.{version}");
            }
            Self::Region { region, sequence, .. } => (region, sequence),
        };
        write!(f, "region {region} #{sequence}:")?;
        let Self::Region { start, hard_state, repeated, damage, is_removed, runs, .. } = self
        else {
            return Ok(());
        };
        if *is_removed {
            write!(f, " removed")?;
        }
        if let Some(start) = start {
            write!(f, " restarts behind {start}")?;
        }
        if let Some(HardState { term, vote, commit }) = hard_state {
            write!(f, " term {term}")?;
            if let Some(vote) = vote {
                write!(f, " vote {vote}")?;
            }
            write!(f, " commit {commit}")?;
        }
        if let Some(start) = repeated {
            write!(f, " again, begins behind {start}")?;
        }
        if let Some(Damage { index, is_state_lost }) = damage {
            let what = if *is_state_lost { ", votes too" } else { "" };
            write!(f, " lost from {index} on{what}")?;
        }
        for InspectedRun { first, last, bytes, memberships, lost } in runs {
            write!(f, " entries {first}..={last} of {bytes} bytes")?;
            if *memberships > 0 {
                write!(f, ", {memberships} of members")?;
            }
            if *lost > 0 {
                write!(f, ", {lost} lost")?;
            }
        }
        Ok(())
    }
}
