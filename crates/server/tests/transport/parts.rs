//! Data that is made up while it is read, a disk that is watched, and what holds either up.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use kiva_base::KeyRange;
use kiva_engine::{Cf, EngineError, Iter, Order, Snapshot};
use kiva_raftstore::disk::{Disk, DiskFile, FileName, MemoryDisk, OpenMode, Space};

/// Holds up whoever comes until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    shared: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Default)]
struct GateState {
    came: usize,
    is_open: bool,
}

impl Gate {
    /// Waits until it is open.
    pub(crate) fn pass(&self) {
        let (state, changed) = &*self.shared;
        let mut state = state.lock().unwrap();
        state.came += 1;
        changed.notify_all();
        let _open = changed.wait_while(state, |state| !state.is_open).unwrap();
    }

    /// Returns when somebody stands before it, or has passed.
    pub(crate) fn wait_for_somebody(&self) {
        let (state, changed) = &*self.shared;
        let _came = changed.wait_while(state.lock().unwrap(), |state| state.came == 0).unwrap();
    }

    pub(crate) fn open(&self) {
        let (state, changed) = &*self.shared;
        state.lock().unwrap().is_open = true;
        changed.notify_all();
    }
}

type PairHook = dyn Fn(u64) -> Result<(), EngineError> + Send + Sync;

/// A view of so many pairs of one size, none of which exists before it is read.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) pairs: u64,
    pub(crate) value_size: usize,
    /// Called with the number of a pair before that is read.
    pub(crate) before: Arc<PairHook>,
    pub(crate) read: Arc<AtomicU64>,
}

impl View {
    pub(crate) fn new(pairs: u64, value_size: usize) -> Self {
        let read = Arc::default();
        Self { pairs, value_size, before: Arc::new(|_| Ok(())), read }
    }

    /// The same with something that happens before pair `number` is read.
    pub(crate) fn with(
        mut self,
        number: u64,
        happens: impl Fn() -> Result<(), EngineError> + Send + Sync + 'static,
    ) -> Self {
        self.before = Arc::new(move |pair| if pair == number { happens() } else { Ok(()) });
        self
    }

    /// Bytes of values that were read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::SeqCst)
    }
}

impl Snapshot for View {
    fn get(&self, _: Cf, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(None)
    }

    fn iter(&self, cf: Cf, _: &KeyRange, _: Order) -> Box<dyn Iter> {
        let end = if cf == Cf::Default { self.pairs } else { 0 };
        Box::new(Pairs { view: self.clone(), next: 0, end })
    }
}

struct Pairs {
    view: View,
    next: u64,
    end: u64,
}

impl Iter for Pairs {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        if self.next == self.end {
            return Ok(None);
        }
        (self.view.before)(self.next)?;
        let key = Bytes::copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        self.view.read.fetch_add(self.view.value_size as u64, Ordering::SeqCst);
        Ok(Some((key, vec![self.next as u8; self.view.value_size].into())))
    }
}

type WriteHook = dyn Fn(u64) + Send + Sync;

/// A disk in memory that counts the files that are being made.
#[derive(Clone)]
pub(crate) struct WatchedDisk {
    pub(crate) disk: Arc<MemoryDisk>,
    /// Called with the number of a write, counted over all files, before it is done.
    pub(crate) before_write: Arc<WriteHook>,
    writes: Arc<AtomicU64>,
    /// Made and neither renamed nor removed; and the most there ever were.
    unfinished: Arc<(AtomicUsize, AtomicUsize)>,
}

impl WatchedDisk {
    pub(crate) fn new(before_write: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self {
            disk: Arc::default(),
            before_write: Arc::new(before_write),
            writes: Arc::default(),
            unfinished: Arc::default(),
        }
    }

    /// The most files that were being made at one time.
    pub(crate) fn unfinished_max(&self) -> usize {
        self.unfinished.1.load(Ordering::SeqCst)
    }

    fn finished(&self) {
        self.unfinished.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Disk for WatchedDisk {
    fn open(&self, name: &FileName, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name, mode)?;
        if mode == OpenMode::New {
            let (now, most) = &*self.unfinished;
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        }
        Ok(Arc::new(WatchedFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &FileName, to: &FileName) -> io::Result<()> {
        self.finished();
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &FileName) -> io::Result<()> {
        self.finished();
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<FileName>> {
        self.disk.list()
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

struct WatchedFile {
    disk: WatchedDisk,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for WatchedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (self.disk.before_write)(self.disk.writes.fetch_add(1, Ordering::SeqCst));
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.file.allocate(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.truncate(size)
    }
}
