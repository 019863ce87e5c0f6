//! [`MemoryDisk`]: a disk that remembers what was synced, and breaks when it is told to.
//!
//! What a [crash](MemoryDisk::crash) leaves is drawn, and can be as bad as the contract of
//! [`Disk`] allows:
//!
//! ```text
//!          synced      since then             after a crash, for example
//! sectors  A B C D     write X Y over B C     A X C D    A B Y D    A X Y D
//! size     4           6, then 8              4          6          8
//! names    a b         rename b c, remove a   a b        a c        c
//! ```
//!
//! Every sector and every size is drawn by itself. Names change in their order, as journals of file
//! systems have it, and apart from the bytes: a new name may survive before anything that was
//! written to its file does.
//!
//! There is one lock. Nothing depends on addresses, time or hashing, so equal calls give equal
//! answers.

mod contents;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use self::contents::Contents;
use super::{Counters, Disk, DiskFile, FileName, OpenMode, Space};

/// A disk without a folder, which can crash on demand. A clone is another handle to it.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    shared: Arc<Mutex<State>>,
}

/// What can be made to fail. All but reading changes something, and is a place to crash at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Operation {
    /// [`Disk::open`] of a new file.
    Create,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_names`].
    SyncNames,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::sync`].
    Sync,
    /// [`DiskFile::allocate`].
    Allocate,
    /// [`DiskFile::truncate`].
    Truncate,
}

/// - Every number in `names` and `older_names` has its file, and every file is in one of them or
///   open.
#[derive(Default)]
struct State {
    files: BTreeMap<u64, Node>,
    files_made: u64,
    names: Names,
    /// What the names were before each change since the last sync of names, oldest first.
    older_names: Vec<Names>,
    /// No limit when there is none.
    capacity: Option<u64>,
    failing: BTreeSet<Operation>,
    operations: u64,
    /// How many operations succeed before the crash.
    crash_at: Option<u64>,
    crashed: bool,
    counters: Counters,
}

/// Which file a name means.
type Names = BTreeMap<FileName, u64>;

#[derive(Default)]
struct Node {
    contents: Contents,
    handles: usize,
}

/// What becomes of an operation.
enum Fate {
    Done,
    /// It fails, and the disk goes on.
    Fails,
    /// It is the one that a crash interrupts: done, and not synced. Nobody hears of it.
    Crashes,
}

impl MemoryDisk {
    /// Empty, without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is found after a crash. This disk is gone then: whatever is asked of it fails.
    ///
    /// `draw(n)` gives a number below `n`. The larger it is, the more has survived: always 0 is a
    /// crash that leaves nothing unsynced, and always `n - 1` one that leaves everything.
    ///
    /// # Panics
    /// When a drawn number is too large.
    #[must_use]
    pub fn crash(&self, draw: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut draw = |count| {
            let drawn = draw(count);
            assert!(drawn < count, "{drawn} was drawn of {count}");
            drawn
        };
        let state = &mut *self.lock();
        state.crashed = true;
        let names = match state.older_names.len() {
            0 => &state.names,
            older => state.older_names.get(draw(older + 1)).unwrap_or(&state.names),
        };
        let mut found = State {
            names: names.clone(),
            files_made: state.files_made,
            capacity: state.capacity,
            ..State::default()
        };
        for number in names.values() {
            let contents = state.files[number].contents.crash(&mut draw);
            found.files.insert(*number, Node { contents, handles: 0 });
        }
        Self { shared: Arc::new(Mutex::new(found)) }
    }

    /// Lets `count` more operations succeed. The one after that is interrupted by a crash: what it
    /// does may survive like anything unsynced, its caller gets an error, and so does everybody
    /// who asks for anything afterwards. Go on with what [`crash`](Self::crash) finds.
    pub fn crash_after(&self, count: u64) {
        let mut state = self.lock();
        state.crash_at = Some(state.operations + count);
    }

    /// Whether it has crashed.
    pub fn is_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// How many operations there were at which it could have crashed.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Makes the next operation of this kind fail.
    ///
    /// A write that fails has written its first half. What a failed sync should have made durable
    /// stays readable and will never be durable, also when a later sync succeeds: that is what
    /// systems do. The others have done nothing.
    pub fn fail_next(&self, operation: Operation) {
        self.lock().failing.insert(operation);
    }

    /// Limits what all files may hold together; what would exceed it fails as `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = Some(bytes);
    }

    /// Damages a file where it lies, unnoticed, as far as crashes can go back.
    ///
    /// # Panics
    /// When there is no such file or it does not reach so far, or `bit` is above 7.
    pub fn flip_bit(&self, name: &FileName, offset: u64, bit: u8) {
        assert!(bit < 8, "a byte has no bit {bit}");
        let state = &mut *self.lock();
        let number = state.names.get(name).unwrap_or_else(|| panic!("there is no {name}"));
        let contents = &mut state.files.get_mut(number).expect("a name has its file").contents;
        let size = contents.size();
        assert!(offset < size, "{name} has {size} bytes, there is none at {offset}");
        contents.flip_bit(offset, bit);
    }

    /// What it has done since it was made.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked has said what was wrong; handles that are dropped then go on.
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &FileName, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let state = &mut *self.lock();
        state.alive()?;
        let number = match (state.names.get(name).copied(), mode) {
            (Some(number), OpenMode::Existing) => number,
            (None, OpenMode::New) => state.create(name)?,
            (None, OpenMode::Existing) => return Err(not_found(name)),
            (Some(_), OpenMode::New) => {
                return Err(error(io::ErrorKind::AlreadyExists, format!("{name} exists")));
            }
        };
        state.files.get_mut(&number).expect("a name has its file").handles += 1;
        Ok(Arc::new(MemoryFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &FileName, to: &FileName) -> io::Result<()> {
        let state = &mut *self.lock();
        state.alive()?;
        if !state.names.contains_key(from) {
            return Err(not_found(from));
        }
        let from = from.clone();
        let to = to.clone();
        state.change_names(Operation::Rename, |names| {
            let number = names.remove(&from).expect("looked up above");
            names.insert(to, number);
        })
    }

    fn remove(&self, name: &FileName) -> io::Result<()> {
        let state = &mut *self.lock();
        state.alive()?;
        if !state.names.contains_key(name) {
            return Err(not_found(name));
        }
        state.change_names(Operation::Remove, |names| {
            names.remove(name);
        })
    }

    fn list(&self) -> io::Result<Vec<FileName>> {
        let state = self.lock();
        state.alive()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_names(&self) -> io::Result<()> {
        let state = &mut *self.lock();
        state.alive()?;
        state.counters.name_syncs += 1;
        match state.begin(Operation::SyncNames) {
            Fate::Done => {}
            Fate::Fails => return Err(made_to_fail()),
            Fate::Crashes => return Err(crashed()),
        }
        state.older_names.clear();
        state.tidy();
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.lock();
        state.alive()?;
        Ok(Space { total: state.capacity.unwrap_or(u64::MAX), free: state.free() })
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }

    fn begin(&mut self, operation: Operation) -> Fate {
        if operation != Operation::Read {
            if self.crash_at.is_some_and(|at| self.operations >= at) {
                self.crashed = true;
                return Fate::Crashes;
            }
            self.operations += 1;
        }
        if self.failing.remove(&operation) { Fate::Fails } else { Fate::Done }
    }

    fn create(&mut self, name: &FileName) -> io::Result<u64> {
        let number = self.files_made;
        self.files_made += 1;
        self.files.insert(number, Node::default());
        let made = self.change_names(Operation::Create, |names| {
            names.insert(name.clone(), number);
        });
        if made.is_err() {
            self.tidy();
        }
        made.map(|()| number)
    }

    fn change_names(
        &mut self,
        operation: Operation,
        change: impl FnOnce(&mut Names),
    ) -> io::Result<()> {
        let fate = self.begin(operation);
        if matches!(fate, Fate::Fails) {
            return Err(made_to_fail());
        }
        self.older_names.push(self.names.clone());
        change(&mut self.names);
        if matches!(fate, Fate::Crashes) { Err(crashed()) } else { Ok(()) }
    }

    /// What may still be written. A file that was removed takes its room until it is closed.
    fn free(&self) -> u64 {
        let Some(capacity) = self.capacity else {
            return u64::MAX;
        };
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let takes_room =
            |(number, node): &(&u64, &Node)| node.handles > 0 || named.contains(number);
        let used: u64 =
            self.files.iter().filter(takes_room).map(|(_, node)| node.contents.size()).sum();
        capacity.saturating_sub(used)
    }

    /// Forgets the files that nobody can find or has open.
    fn tidy(&mut self) {
        let tables = self.older_names.iter().chain([&self.names]);
        let named: BTreeSet<u64> = tables.flat_map(BTreeMap::values).copied().collect();
        self.files.retain(|number, node| node.handles > 0 || named.contains(number));
    }

    fn contents(&mut self, number: u64) -> &mut Contents {
        &mut self.files.get_mut(&number).expect("an open file is kept").contents
    }
}

/// An open file of a disk in memory.
struct MemoryFile {
    disk: MemoryDisk,
    number: u64,
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = &mut *self.disk.lock();
        state.alive()?;
        match state.begin(Operation::Read) {
            Fate::Done => {}
            Fate::Fails => return Err(made_to_fail()),
            Fate::Crashes => return Err(crashed()),
        }
        if state.contents(self.number).read(offset, buffer) {
            Ok(())
        } else {
            let what = format!("no {} bytes at {offset}", buffer.len());
            Err(error(io::ErrorKind::UnexpectedEof, what))
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.disk.lock();
        state.alive()?;
        state.counters.writes += 1;
        state.counters.written_bytes += bytes.len() as u64;
        let fate = state.begin(Operation::Write);
        let end_max = state.end_max(self.number);
        let contents = state.contents(self.number);
        match fate {
            Fate::Done if offset.saturating_add(bytes.len() as u64) > end_max => {
                // As much as fits has been written when a disk turns out to be full.
                let fits = end_max.saturating_sub(offset) as usize;
                contents.write(offset, &bytes[..fits]);
                Err(full())
            }
            Fate::Done => {
                contents.write(offset, bytes);
                Ok(())
            }
            Fate::Fails => {
                contents.write(offset, &bytes[..bytes.len() / 2]);
                Err(made_to_fail())
            }
            Fate::Crashes => {
                contents.write(offset, bytes);
                Err(crashed())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.lock();
        state.alive()?;
        state.counters.syncs += 1;
        match state.begin(Operation::Sync) {
            Fate::Done => {
                state.contents(self.number).sync();
                Ok(())
            }
            Fate::Fails => {
                state.contents(self.number).fail_sync();
                Err(made_to_fail())
            }
            Fate::Crashes => Err(crashed()),
        }
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.lock();
        state.alive()?;
        Ok(state.contents(self.number).size())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let state = &mut *self.disk.lock();
        state.alive()?;
        let fate = state.begin(Operation::Allocate);
        if matches!(fate, Fate::Fails) {
            return Err(made_to_fail());
        }
        if size > state.end_max(self.number) {
            return Err(full());
        }
        state.contents(self.number).grow(size);
        if matches!(fate, Fate::Crashes) { Err(crashed()) } else { Ok(()) }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let state = &mut *self.disk.lock();
        state.alive()?;
        let fate = state.begin(Operation::Truncate);
        if matches!(fate, Fate::Fails) {
            return Err(made_to_fail());
        }
        state.contents(self.number).truncate(size);
        if matches!(fate, Fate::Crashes) { Err(crashed()) } else { Ok(()) }
    }
}

impl State {
    /// How far a file may reach before the disk is full.
    fn end_max(&mut self, number: u64) -> u64 {
        let free = self.free();
        self.contents(number).size().saturating_add(free)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if let Some(node) = state.files.get_mut(&self.number) {
            node.handles -= 1;
            if node.handles == 0 {
                state.tidy();
            }
        }
    }
}

fn error(kind: io::ErrorKind, what: String) -> io::Error {
    io::Error::new(kind, what)
}

fn not_found(name: &FileName) -> io::Error {
    error(io::ErrorKind::NotFound, format!("there is no {name}"))
}

fn full() -> io::Error {
    error(io::ErrorKind::StorageFull, "the disk is full".into())
}

fn made_to_fail() -> io::Error {
    error(io::ErrorKind::Other, "made to fail".into())
}

fn crashed() -> io::Error {
    error(io::ErrorKind::Other, "the disk has crashed".into())
}

#[cfg(test)]
mod tests;
