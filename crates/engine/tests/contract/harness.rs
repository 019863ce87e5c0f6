//! How an engine is opened, closed and crashed, and short ways to fill and read one.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::KeyRange;
use kiva_engine::memory::MemoryEngine;
use kiva_engine::tree::{Options, TreeEngine};
use kiva_engine::{
    Cf, Engine, EngineError, Filter, Iter, Order, Snapshot, SortedItem, SortedItems, WriteBatch,
};
use tempfile::TempDir;

/// One kind of engine.
pub(crate) trait Harness: Sized {
    /// Empty.
    fn open_with(filter: Option<Arc<dyn Filter>>) -> Self;

    /// The engine, as everybody above sees it.
    fn engine(&self) -> &Arc<dyn Engine>;

    /// After a clean close.
    fn reopen(self) -> Self;

    /// After a crash that may take what was not flushed.
    fn crash(self) -> Self;

    /// Shows every pair to the filter.
    fn compact(&self);

    fn open() -> Self {
        Self::open_with(None)
    }

    fn write(&self, build: impl FnOnce(&mut WriteBatch)) {
        let mut batch = WriteBatch::new();
        build(&mut batch);
        self.engine().write(&batch).expect("writes");
    }

    fn put(&self, cf: Cf, key: &str, value: &str) {
        self.write(|batch| batch.put(cf, key.as_bytes(), value.as_bytes()));
    }

    fn get(&self, cf: Cf, key: &str) -> Option<String> {
        get(&*self.engine().snapshot(), cf, key)
    }

    /// All pairs of a family, as `key=value` with spaces between.
    fn show(&self, cf: Cf) -> String {
        show(&*self.engine().snapshot(), cf, &KeyRange::ALL, Order::Forward)
    }
}

pub(crate) fn get(snapshot: &dyn Snapshot, cf: Cf, key: &str) -> Option<String> {
    let value = snapshot.get(cf, key.as_bytes()).expect("reads")?;
    Some(String::from_utf8(value.to_vec()).expect("values are text"))
}

pub(crate) fn show(snapshot: &dyn Snapshot, cf: Cf, range: &KeyRange, order: Order) -> String {
    drain(&mut *snapshot.iter(cf, range, order))
}

pub(crate) fn drain(iter: &mut dyn Iter) -> String {
    let mut pairs = Vec::new();
    while let Some((key, value)) = iter.next().expect("iterates") {
        pairs.push(format!("{}={}", key.escape_ascii(), value.escape_ascii()));
    }
    pairs.join(" ")
}

pub(crate) fn range(start: &'static str, end: &'static str) -> KeyRange {
    KeyRange::new(start, end).expect("runs forward")
}

/// Items of a list, and then perhaps an error.
pub(crate) struct Items {
    pub(crate) items: std::vec::IntoIter<SortedItem>,
    pub(crate) fails: bool,
}

impl Items {
    pub(crate) fn new(items: &[(Cf, &str, Option<&str>)]) -> Self {
        let items: Vec<_> = items
            .iter()
            .map(|(cf, key, value)| SortedItem {
                cf: *cf,
                key: Bytes::copy_from_slice(key.as_bytes()),
                value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            })
            .collect();
        Self { items: items.into_iter(), fails: false }
    }
}

impl SortedItems for Items {
    fn next(&mut self) -> Result<Option<SortedItem>, EngineError> {
        match self.items.next() {
            None if self.fails => Err(EngineError::Malformed("the stream broke")),
            item => Ok(item),
        }
    }
}

/// A crash of this one keeps half of what was not flushed.
pub(crate) struct MemoryHarness {
    memory: MemoryEngine,
    engine: Arc<dyn Engine>,
}

impl MemoryHarness {
    fn new(memory: MemoryEngine) -> Self {
        let engine = Arc::new(memory.clone());
        Self { memory, engine }
    }
}

impl Harness for MemoryHarness {
    fn open_with(filter: Option<Arc<dyn Filter>>) -> Self {
        Self::new(match filter {
            Some(filter) => MemoryEngine::with_filter(filter),
            None => MemoryEngine::new(),
        })
    }

    fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    fn reopen(self) -> Self {
        Self::new(self.memory.crash(self.memory.unsynced()))
    }

    fn crash(self) -> Self {
        Self::new(self.memory.crash(self.memory.unsynced() / 2))
    }

    fn compact(&self) {
        self.memory.compact();
    }
}

/// A crash of this one goes on with a copy of the files as they are while it runs: what the system
/// has when the process is killed.
pub(crate) struct TreeHarness {
    directory: TempDir,
    filter: Option<Arc<dyn Filter>>,
    tree: Arc<TreeEngine>,
    engine: Arc<dyn Engine>,
}

impl TreeHarness {
    fn new(directory: TempDir, filter: Option<Arc<dyn Filter>>) -> Self {
        let options = Options { filter: filter.clone(), threads: 1, ..Options::default() };
        let tree = Arc::new(TreeEngine::open(directory.path(), options).expect("opens"));
        let engine = Arc::clone(&tree) as Arc<dyn Engine>;
        Self { directory, filter, tree, engine }
    }
}

impl Harness for TreeHarness {
    fn open_with(filter: Option<Arc<dyn Filter>>) -> Self {
        Self::new(TempDir::new().expect("makes a directory"), filter)
    }

    fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    fn reopen(self) -> Self {
        let Self { directory, filter, tree, engine } = self;
        drop((tree, engine));
        Self::new(directory, filter)
    }

    fn crash(self) -> Self {
        // A copy is no moment: threads of the engine go on. But what `current` names is there as
        // long as it names it.
        let from = self.directory.path();
        let current = || fs::read(from.join("tree/current")).ok();
        let copy = loop {
            let copy = TempDir::new().expect("makes a directory");
            let before = current();
            copy_directory(from, copy.path());
            if current() == before {
                break copy;
            }
        };
        Self::new(copy, self.filter.clone())
    }

    fn compact(&self) {
        self.tree.compact().expect("compacts");
    }
}

/// Copies a directory in use. What goes meanwhile was named by nothing.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("lists") {
        let name = entry.expect("lists").file_name();
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            fs::create_dir(&target).expect("makes a directory");
            copy_directory(&source, &target);
            continue;
        }
        match fs::copy(&source, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => drop(done.expect("copies")),
        }
    }
}
