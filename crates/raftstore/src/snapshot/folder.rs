//! [`Folder`]: the snapshots that a store has received.
//!
//! | file | what |
//! |---|---|
//! | `7-3-17.receiving` | is being received; found at a start, it is left over and removed |
//! | `7-3-17.snapshot` | all of it is here and durable: region 7, term 3, index 17 |
//!
//! Files go when they were installed, when a newer one of the region is here, or when nobody wanted
//! them for long ([`Folder::collect`]), and never while a [`Received`] of them lives.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiva_base::{Moment, RegionId};
use kiva_engine::EngineError;
use kiva_raft::{EntryId, Index, Term};

use super::chunk::{Chunk, HEADER_SIZE, Kind, TAIL_SIZE};
use super::read::{Pairs, ReadError, read_at};
use super::{Id, Meta, Totals};
use crate::disk::{Disk, DiskFile, FileName, OpenMode};
use crate::limits::SNAPSHOT_KEPT_MAX;

const COMPLETE: &str = ".snapshot";
const PARTIAL: &str = ".receiving";

/// The snapshots that a store has received, on a disk of their own. A clone is another handle.
#[derive(Clone)]
pub struct Folder {
    pub(super) shared: Arc<Shared>,
}

/// What handles share.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    /// Held for a look and a removal, never while bytes are written or synced.
    state: Mutex<State>,
}

/// - `complete` lists the files with a final name that are to be kept.
#[derive(Default)]
struct State {
    complete: BTreeMap<Id, Kept>,
    /// One for each region at most.
    receiving: BTreeMap<RegionId, Id>,
}

struct Kept {
    meta: Meta,
    totals: Totals,
    /// When it was received or found.
    since: Moment,
    /// How many handles there are.
    held: usize,
    is_retired: bool,
}

/// What somebody who wants to send a snapshot finds.
pub(super) enum Claim {
    /// It is here.
    Present(Received),
    /// Its region is being sent this one.
    Busy(Id),
    /// The region is now being sent it.
    Free,
}

/// One line about a received snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Which one.
    pub id: Id,
    /// What it adds up to.
    pub totals: Totals,
    /// Whether somebody holds it.
    pub is_held: bool,
}

/// A snapshot that is here, whole and durable. Its file stays while this or a clone of it lives.
pub struct Received {
    folder: Folder,
    meta: Meta,
    totals: Totals,
}

impl Folder {
    /// What is on the disk: whole snapshots are kept, everything that was left half-way is removed.
    /// Files with other names are not touched.
    pub fn open(disk: Arc<dyn Disk>, now: Moment) -> io::Result<Self> {
        let mut complete = BTreeMap::new();
        for name in disk.list()? {
            if let Some(id) = parse(&name, COMPLETE) {
                if let Some((meta, totals)) = load(&*disk, &name, id)? {
                    let kept = Kept { meta, totals, since: now, held: 0, is_retired: false };
                    complete.insert(id, kept);
                    continue;
                }
            } else if parse(&name, PARTIAL).is_none() {
                continue;
            }
            tracing::info!(%name, "a snapshot that was left half-way is removed");
            disk.remove(&name)?;
        }
        disk.sync_names()?;
        let state = State { complete, receiving: BTreeMap::new() };
        Ok(Self { shared: Arc::new(Shared { disk, state: Mutex::new(state) }) })
    }

    /// The snapshots that are here, by region, oldest first.
    pub fn list(&self) -> Vec<Listed> {
        let state = self.lock();
        let listed = |(id, kept): (&Id, &Kept)| Listed {
            id: *id,
            totals: kept.totals,
            is_held: kept.held > 0,
        };
        state.complete.iter().map(listed).collect()
    }

    /// The snapshot of that name, if all of it is here.
    pub fn get(&self, id: Id) -> Option<Received> {
        self.hold(&mut self.lock(), id)
    }

    fn hold(&self, state: &mut State, id: Id) -> Option<Received> {
        let kept = state.complete.get_mut(&id)?;
        // Whoever asks for it wants it again.
        kept.is_retired = false;
        kept.held += 1;
        Some(Received { folder: self.clone(), meta: kept.meta.clone(), totals: kept.totals })
    }

    /// Removes what nobody holds and nobody needs: what was [retired](Received::retire), what a
    /// newer snapshot of its region stands beside, and what has been here for
    /// [`SNAPSHOT_KEPT_MAX`]. To be called now and then; says which files went.
    pub fn collect(&self, now: Moment) -> io::Result<Vec<Id>> {
        // Under the lock, so that nobody takes or makes what is being removed.
        let state = &mut *self.lock();
        let mut newer: Option<RegionId> = None;
        let mut doomed = Vec::new();
        for (id, kept) in state.complete.iter().rev() {
            let is_needed = newer != Some(id.region)
                && !kept.is_retired
                && now.since(kept.since) < SNAPSHOT_KEPT_MAX;
            newer = Some(id.region);
            if !is_needed && kept.held == 0 {
                doomed.push(*id);
            }
        }
        doomed.reverse();
        for id in &doomed {
            self.shared.disk.remove(&complete_name(*id))?;
            state.complete.remove(id);
        }
        Ok(doomed)
    }

    /// Notes that a region is being sent `id`, unless that is here or something is being sent.
    pub(super) fn claim(&self, id: Id) -> Claim {
        let state = &mut *self.lock();
        if let Some(received) = self.hold(state, id) {
            return Claim::Present(received);
        }
        match state.receiving.entry(id.region) {
            Entry::Occupied(other) => Claim::Busy(*other.get()),
            Entry::Vacant(place) => {
                place.insert(id);
                Claim::Free
            }
        }
    }

    pub(super) fn release(&self, id: Id) {
        self.lock().receiving.remove(&id.region);
    }

    /// A file that is durable under its final name.
    pub(super) fn add(&self, meta: Meta, totals: Totals, now: Moment) -> Received {
        let kept = Kept { meta: meta.clone(), totals, since: now, held: 1, is_retired: false };
        self.lock().complete.insert(meta.id, kept);
        Received { folder: self.clone(), meta, totals }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Received {
    /// Which snapshot.
    pub fn id(&self) -> Id {
        self.meta.id
    }

    /// What it is of.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What it adds up to.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Its pairs, from the first.
    pub fn pairs(&self) -> Result<Pairs, EngineError> {
        let name = complete_name(self.id());
        let file = self.folder.shared.disk.open(&name, OpenMode::Existing).map_err(|source| {
            EngineError::Io { action: "open", path: PathBuf::from(name.as_str()), source }
        })?;
        Ok(Pairs::new(file, name, self.meta.clone()))
    }

    /// Says that it has been used: the file goes with a [`Folder::collect`] after the last handle.
    pub fn retire(&self) {
        if let Some(kept) = self.folder.lock().complete.get_mut(&self.id()) {
            kept.is_retired = true;
        }
    }
}

impl Clone for Received {
    fn clone(&self) -> Self {
        let mut state = self.folder.lock();
        state.complete.get_mut(&self.id()).expect("what is held is kept").held += 1;
        drop(state);
        Self { folder: self.folder.clone(), meta: self.meta.clone(), totals: self.totals }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(kept) = self.folder.lock().complete.get_mut(&self.id()) {
            kept.held -= 1;
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({}, {} bytes)", self.id(), self.totals.bytes)
    }
}

/// What a file says of itself, when its ends are right and its size is what they add up to. What
/// lies between is checked when it is read.
fn load(disk: &dyn Disk, name: &FileName, id: Id) -> io::Result<Option<(Meta, Totals)>> {
    let file = disk.open(name, OpenMode::Existing)?;
    match check(&*file, id) {
        Ok(found) => Ok(Some(found)),
        Err(ReadError::Io(error)) => Err(error),
        Err(ReadError::Damaged(reason)) => {
            tracing::warn!(%name, reason, "a received snapshot is damaged");
            Ok(None)
        }
    }
}

fn check(file: &dyn DiskFile, id: Id) -> Result<(Meta, Totals), ReadError> {
    let damaged = |what: &str| ReadError::Damaged(what.to_owned());
    let unreadable = |error: super::ChunkError| ReadError::Damaged(error.to_string());
    let size = file.size().map_err(ReadError::Io)?;
    let tail_at = size.checked_sub(TAIL_SIZE as u64).ok_or_else(|| damaged("it is cut off"))?;
    let head = read_at(file, 0)?;
    let tail = read_at(file, tail_at)?;
    let is_end = |chunk: &Chunk, kind, number| {
        chunk.kind() == kind && chunk.id() == id && chunk.number() == number
    };
    let meta = head.meta().map_err(unreadable)?;
    let totals = tail.totals().map_err(unreadable)?;
    if !is_end(&head, Kind::Head, 0) || !is_end(&tail, Kind::Tail, totals.chunks.wrapping_sub(1)) {
        return Err(damaged("its ends are of another snapshot"));
    }
    let between = u64::from(totals.chunks.saturating_sub(2)) * HEADER_SIZE as u64;
    let expected = head.encoded().len() as u64 + between + totals.bytes + TAIL_SIZE as u64;
    if size != expected {
        return Err(ReadError::Damaged(format!("it has {size} bytes instead of {expected}")));
    }
    Ok((meta, totals))
}

pub(super) fn complete_name(id: Id) -> FileName {
    file_name(id, COMPLETE)
}

pub(super) fn partial_name(id: Id) -> FileName {
    file_name(id, PARTIAL)
}

fn file_name(id: Id, ending: &str) -> FileName {
    FileName::new(&format!("{id}{ending}")).expect("three numbers and an ending")
}

/// The snapshot in a file of this ending; `None` when it is not called like one.
fn parse(name: &FileName, ending: &str) -> Option<Id> {
    let mut numbers = name.as_str().strip_suffix(ending)?.split('-');
    let mut number = || numbers.next()?.parse().ok();
    let region = RegionId::new(number()?)?;
    let last = EntryId::new(Term(number()?), Index(number()?));
    let id = Id { region, last };
    // One snapshot, one name: no sign, no leading zero, nothing behind.
    (file_name(id, ending) == *name).then_some(id)
}
