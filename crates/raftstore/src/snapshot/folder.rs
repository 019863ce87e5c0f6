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
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Whoever else has it holds the file; new ones come from here, under the lock.
    stored: Arc<Stored>,
    /// When it was received or found.
    since: Moment,
}

/// One file, as long as somebody speaks of it.
pub(super) struct Stored {
    pub(super) meta: Meta,
    totals: Totals,
    /// Whether it was used.
    is_retired: AtomicBool,
    /// Whether every byte of it was checked since the start.
    is_checked: AtomicBool,
    /// Whether it turned out to be damaged: nobody new gets it.
    is_damaged: AtomicBool,
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
#[derive(Clone)]
pub struct Received {
    folder: Folder,
    stored: Arc<Stored>,
}

impl Folder {
    /// What is on the disk: whole snapshots are kept, everything that was left half-way is removed.
    /// Files with other names are not touched.
    pub fn open(disk: Arc<dyn Disk>, now: Moment) -> io::Result<Self> {
        let mut complete = BTreeMap::new();
        for name in disk.list()? {
            if let Some(id) = parse(&name, COMPLETE) {
                if let Some((meta, totals)) = load(&*disk, &name, id)? {
                    complete.insert(id, Kept::new(meta, totals, now, false));
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
            totals: kept.stored.totals,
            is_held: kept.is_held(),
        };
        state.complete.iter().map(listed).collect()
    }

    /// The snapshot of that name, if all of it is here. One that was found at the start is read
    /// through first: were it damaged, whoever installs it would fail, and after the next start
    /// fail again.
    pub fn get(&self, id: Id) -> Option<Received> {
        let received = self.hold(&self.lock(), id)?;
        received.is_sound().then_some(received)
    }

    fn hold(&self, state: &State, id: Id) -> Option<Received> {
        let stored = &state.complete.get(&id)?.stored;
        if stored.is_damaged.load(Ordering::Relaxed) {
            return None;
        }
        // Whoever asks for it wants it again.
        stored.is_retired.store(false, Ordering::Relaxed);
        Some(Received { folder: self.clone(), stored: stored.clone() })
    }

    /// Removes what nobody holds and nobody needs: what was [retired](Received::retire), what is
    /// damaged, what a newer snapshot of its region stands beside, and what has been here for
    /// [`SNAPSHOT_KEPT_MAX`]. To be called now and then; says which files went.
    pub fn collect(&self, now: Moment) -> io::Result<Vec<Id>> {
        // Under the lock, so that nobody takes or makes what is being removed.
        let state = &mut *self.lock();
        let mut newer: Option<RegionId> = None;
        let mut doomed = Vec::new();
        for (id, kept) in state.complete.iter().rev() {
            let is_needed = newer != Some(id.region)
                && !kept.stored.is_retired.load(Ordering::Relaxed)
                && !kept.stored.is_damaged.load(Ordering::Relaxed)
                && now.since(kept.since) < SNAPSHOT_KEPT_MAX;
            newer = Some(id.region);
            if !is_needed && !kept.is_held() {
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
        if let Some(other) = state.receiving.get(&id.region) {
            return Claim::Busy(*other);
        }
        // One that is damaged makes room; whoever still reads it has it open.
        if state.complete.remove(&id).is_some()
            && let Err(error) = self.shared.disk.remove(&complete_name(id))
        {
            tracing::info!(%id, %error, "a damaged snapshot could not be removed");
        }
        state.receiving.insert(id.region, id);
        Claim::Free
    }

    pub(super) fn release(&self, id: Id) {
        self.lock().receiving.remove(&id.region);
    }

    /// A file that is durable under its final name.
    pub(super) fn add(&self, meta: Meta, totals: Totals, now: Moment) -> Received {
        let id = meta.id;
        let kept = Kept::new(meta, totals, now, true);
        let stored = kept.stored.clone();
        self.lock().complete.insert(id, kept);
        Received { folder: self.clone(), stored }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn new(meta: Meta, totals: Totals, since: Moment, is_checked: bool) -> Self {
        let stored = Stored {
            meta,
            totals,
            is_retired: AtomicBool::new(false),
            is_checked: AtomicBool::new(is_checked),
            is_damaged: AtomicBool::new(false),
        };
        Self { stored: Arc::new(stored), since }
    }

    fn is_held(&self) -> bool {
        Arc::strong_count(&self.stored) > 1
    }
}

impl Stored {
    /// Says that the file cannot be read: it is not offered any more, and may be sent again.
    pub(super) fn report_damage(&self) {
        self.is_damaged.store(true, Ordering::Relaxed);
    }
}

impl Received {
    /// Which snapshot.
    pub fn id(&self) -> Id {
        self.stored.meta.id
    }

    /// What it is of.
    pub fn meta(&self) -> &Meta {
        &self.stored.meta
    }

    /// What it adds up to.
    pub fn totals(&self) -> Totals {
        self.stored.totals
    }

    /// Its pairs, from the first. They hold the file too.
    pub fn pairs(&self) -> Result<Pairs, EngineError> {
        let name = complete_name(self.id());
        let opened = self.folder.shared.disk.open(&name, OpenMode::Existing);
        let file = opened.map_err(|source| {
            self.stored.report_damage();
            EngineError::Io { action: "open", path: PathBuf::from(name.as_str()), source }
        })?;
        Ok(Pairs::new(file, name, self.stored.clone()))
    }

    fn is_sound(&self) -> bool {
        let is_checked = &self.stored.is_checked;
        if !is_checked.load(Ordering::Relaxed) {
            if let Err(error) = self.read_through() {
                tracing::warn!(id = %self.id(), %error, "a received snapshot is damaged");
                return false;
            }
            is_checked.store(true, Ordering::Relaxed);
        }
        true
    }

    fn read_through(&self) -> Result<(), EngineError> {
        let mut pairs = self.pairs()?;
        while pairs.next_pair()?.is_some() {}
        Ok(())
    }

    /// Says that it has been used: the file goes with a [`Folder::collect`] after the last handle.
    pub fn retire(&self) {
        self.stored.is_retired.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({}, {} bytes)", self.id(), self.totals().bytes)
    }
}

/// What a file says of itself, when its ends are right and its size is what they add up to. What
/// lies between is checked before somebody gets it.
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
    let ends = (head.encoded().len() + TAIL_SIZE) as u64;
    let expected = ends.saturating_add(between).saturating_add(totals.bytes);
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
