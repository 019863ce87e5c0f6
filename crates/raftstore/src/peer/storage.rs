//! What consensus reads back: the region's part of the log, and snapshots of `data`.

use std::sync::{Arc, Mutex, PoisonError};

use kiva_base::RegionId;
use kiva_engine::Engine;
use kiva_raft::{
    Entries, EntryId, Index, InitialState, LogError, LogStore, Membership, NodeId, Snapshot, Term,
};

use crate::log::RegionLog;
use crate::meta;

/// What a peer and its [`PeerStore`], which lives inside the node, both know.
pub(super) struct Common {
    /// The last entry that nobody will be sent again.
    pub(super) truncated: EntryId,
    /// The newest view that a snapshot was described from, until it is sent.
    pub(super) view: Option<(EntryId, Arc<dyn kiva_engine::Snapshot>)>,
}

/// The log store of one peer.
pub(super) struct PeerStore {
    pub(super) region: RegionId,
    pub(super) log: RegionLog,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) membership: Membership,
    pub(super) applied: Index,
    pub(super) common: Arc<Mutex<Common>>,
}

impl PeerStore {
    fn truncated(&self) -> EntryId {
        self.common.lock().unwrap_or_else(PoisonError::into_inner).truncated
    }
}

impl LogStore for PeerStore {
    fn initial_state(&self) -> Result<InitialState, LogError> {
        let mut hard_state = self.log.hard_state();
        let last = self.last();
        if hard_state.term < last.term {
            // A region is born behind an entry of a term that nobody was in; and after a crash a
            // snapshot can be in place whose term is not in the log yet. In either case this peer
            // has given no vote in that term.
            hard_state.term = last.term;
            hard_state.vote = None;
        }
        Ok(InitialState { hard_state, membership: self.membership.clone(), applied: self.applied })
    }

    fn first_index(&self) -> Index {
        self.truncated().index.next()
    }

    fn last(&self) -> EntryId {
        let (last, truncated) = (self.log.last(), self.truncated());
        if last.index > truncated.index { last } else { truncated }
    }

    fn term(&self, index: Index) -> Result<Term, LogError> {
        let truncated = self.truncated();
        match index.cmp(&truncated.index) {
            std::cmp::Ordering::Equal => Ok(truncated.term),
            std::cmp::Ordering::Less => Err(LogError::Compacted { first: truncated.index.next() }),
            std::cmp::Ordering::Greater => self.log.term(index),
        }
    }

    fn entries(&self, first: Index, end: Index, bytes_max: usize) -> Result<Entries, LogError> {
        let truncated = self.truncated();
        if first <= truncated.index {
            return Err(LogError::Compacted { first: truncated.index.next() });
        }
        self.log.entries(first, end, bytes_max)
    }

    /// Describes what `data` holds now. The view is kept for whoever sends it; building costs
    /// nothing until then.
    fn snapshot(&self, _to: NodeId, index: Index) -> Result<Snapshot, LogError> {
        let view = self.engine.snapshot();
        let loaded = meta::load_region(&*view, self.region)
            .and_then(|record| Ok(record.zip(meta::load_apply_state(&*view, self.region)?)));
        let (record, state) = match loaded {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return Err(LogError::Pending),
            Err(error) => {
                tracing::error!(region_id = self.region.get(), %error, "no snapshot");
                return Err(LogError::Pending);
            }
        };
        if state.applied.index < index {
            return Err(LogError::Pending);
        }
        let data = meta::encode_region(&record).into();
        let mut common = self.common.lock().unwrap_or_else(PoisonError::into_inner);
        common.view = Some((state.applied, view));
        Ok(Snapshot { last: state.applied, membership: record.membership, data })
    }
}
