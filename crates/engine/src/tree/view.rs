//! What can be read at one moment, found without the library's lock.
//!
//! A moment is a sequence number: it sees every operation with a smaller one. A state is what the
//! tree consists of: memtables, and the tables of one version. The two go together, because a state
//! that came later may have merged away what an older moment needs. So there is one pair that is
//! current, and a reader takes it and keeps it:
//!
//! ```text
//! write     the moment moves on, the state stays: it shares the active memtable
//! seal      the state gets another active memtable
//! flush     the state loses memtables and gets tables
//! merge     the state gets other tables
//! ```
//!
//! The library can do this itself: it keeps old states, and serves a number from the last one that
//! began before it. But it looks them up under a lock that it holds while it syncs a manifest, and
//! all reads would wait for the disk at every flush.
//!
//! Invariants:
//! - The pair is only replaced by whoever holds the writer's lock, so no batch is ever cut by it.
//! - The moment never moves back.
//! - A state has every operation below its moment, in a memtable, in a table or in both.

use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lsm_tree::table::filter::standard_bloom::Builder as Bloom;
use lsm_tree::{AbstractTree, InternalValue, KvPair, Memtable, SeqNo, Tree};

/// Keys from the first bound to the second.
pub(super) type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Pairs in key order, from both ends.
pub(super) type Pairs = Box<dyn DoubleEndedIterator<Item = lsm_tree::Result<KvPair>> + Send>;

type Lookup = dyn Fn(&[u8], SeqNo) -> lsm_tree::Result<Option<InternalValue>> + Send + Sync;
type Scan = dyn Fn(Range<'_>, SeqNo) -> Pairs + Send + Sync;

/// Memtables and tables that belong together.
struct State {
    /// Newest first.
    memtables: Vec<Arc<Memtable>>,
    /// Looks a key up in the tables. A closure, since the library's type has no public name.
    tables: Box<Lookup>,
    /// Merges memtables and tables.
    scan: Box<Scan>,
}

/// A moment with its state.
#[derive(Clone)]
pub(super) struct View {
    state: Arc<State>,
    moment: SeqNo,
}

/// The newest view of an engine. A plain mutex: it is held for a few instructions.
pub(super) struct Current(Mutex<View>);

impl Current {
    /// Everything below `moment`. `memtables` are newest first, and may hold some whose content is
    /// in tables already.
    pub(super) fn new(tree: &Tree, memtables: Vec<Arc<Memtable>>, moment: SeqNo) -> Self {
        Self(Mutex::new(View { state: State::of(tree, memtables), moment }))
    }

    /// The newest view.
    pub(super) fn get(&self) -> View {
        self.lock().clone()
    }

    /// The newest moment.
    pub(super) fn moment(&self) -> SeqNo {
        self.lock().moment
    }

    /// Makes everything below `moment` readable. For whoever holds the writer's lock.
    pub(super) fn publish(&self, moment: SeqNo) {
        self.lock().advance(moment);
    }

    /// The same with the tree as it is now.
    pub(super) fn renew(&self, tree: &Tree, memtables: Vec<Arc<Memtable>>, moment: SeqNo) {
        let state = State::of(tree, memtables);
        let mut view = self.lock();
        view.advance(moment);
        let old = std::mem::replace(&mut view.state, state);
        drop(view);
        // What nobody else reads goes now: memory, and files.
        drop(old);
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        // Every step leaves the pair whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(tree: &Tree, memtables: Vec<Arc<Memtable>>) -> Arc<Self> {
        // Two looks at the library. A merge may come between them, which changes no content.
        let version = tree.current_version();
        let whole = tree.get_version_history_lock().latest_version();
        let tables = move |key: &[u8], moment: SeqNo| {
            let hash = Bloom::get_hash(key);
            for run in version.iter_levels().flat_map(|level| level.iter()) {
                if let Some(table) = run.get_for_key(key)
                    && let Some(found) = table.get(key, moment, hash)?
                {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        let scan = move |range: Range<'_>, moment: SeqNo| {
            let items =
                Tree::create_internal_range::<&[u8], _>(whole.clone(), &range, moment, None);
            Box::new(items.map(|item| item.map(|item| (item.key.user_key, item.value)))) as Pairs
        };
        Arc::new(Self { memtables, tables: Box::new(tables), scan: Box::new(scan) })
    }
}

impl View {
    /// The value of a stored key.
    pub(super) fn get(&self, key: &[u8]) -> lsm_tree::Result<Option<Bytes>> {
        let Self { state, moment } = self;
        let in_memory = state.memtables.iter().find_map(|memtable| memtable.get(key, *moment));
        let found = match in_memory {
            Some(found) => Some(found),
            None => (state.tables)(key, *moment)?,
        };
        Ok(found.filter(|found| !found.is_tombstone()).map(|found| found.value.into()))
    }

    /// The pairs of a range of stored keys.
    pub(super) fn range(&self, range: Range<'_>) -> Pairs {
        (self.state.scan)(range, self.moment)
    }

    fn advance(&mut self, moment: SeqNo) {
        let before = self.moment;
        assert!(before <= moment, "the newest moment went from {before} back to {moment}");
        self.moment = moment;
    }
}
