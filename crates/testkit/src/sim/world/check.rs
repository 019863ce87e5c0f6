//! What must hold in every run, looked at whenever something happened that could break it.
//!
//! | invariant | looked at |
//! |---|---|
//! | one leader per region and term | after every round |
//! | one vote per peer and term, no promise forgotten | when a message leaves, a store starts |
//! | truncated ≤ applied ≤ commit ≤ last, applied ≤ durable; none goes back | after a round |
//! | committed entries never change | before they are applied |
//! | the applied index and its data are one | after they are applied |
//! | equal applied indexes, equal data | after they are applied, and in the end |
//! | one lease at a time | after every round |

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};

use kiva_base::map::Seeded;
use kiva_base::{KeyRange, PeerId, RegionId, StoreId};
use kiva_engine::{Cf, Engine, Order};
use kiva_raft::{Body, Entries, Index, NodeId, Payload, RoleName, Term};
use kiva_raftstore::apply::{Applied, Apply};
use kiva_raftstore::meta::{self, ApplyState};
use kiva_raftstore::peer::PeerStatus;
use kiva_raftstore::transport::{Content, Envelope};

/// Data is compared at every index that is a multiple of this.
const COMPARED_EVERY: u64 = 8;

/// Everything that was seen, to compare what is seen next with.
#[derive(Default)]
pub(super) struct Check {
    leaders: BTreeMap<(RegionId, Term), PeerId>,
    votes: BTreeMap<(RegionId, PeerId, Term), NodeId>,
    /// The highest term in which a peer has promised something.
    promised: BTreeMap<(RegionId, PeerId), Term>,
    committed: BTreeMap<(RegionId, Index), (Term, u64)>,
    seen: BTreeMap<(StoreId, RegionId, PeerId), Seen>,
    data: BTreeMap<(RegionId, Index), (StoreId, u64)>,
    wrong: Option<String>,
    /// How often two replicas were found to hold the same data.
    pub(super) compared: u64,
}

/// What was seen of a peer in this life of its process.
#[derive(Clone, Copy)]
struct Seen {
    term: Term,
    vote: Option<NodeId>,
    commit: Index,
    state: ApplyState,
}

impl Check {
    pub(super) fn verdict(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    /// Something is wrong; the first such thing counts.
    pub(super) fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// A store has started: what it promised before it knows still.
    pub(super) fn on_start(&mut self, store: StoreId, statuses: impl Iterator<Item = PeerStatus>) {
        self.seen.retain(|(other, ..), _| *other != store);
        for status in statuses {
            let region = region_of(&status);
            let term = status.raft.hard_state.term;
            let promised = region.and_then(|region| self.promised.get(&(region, status.peer.id)));
            if let Some(promised) = promised.filter(|promised| **promised > term) {
                self.fail(format!(
                    "peer {} starts in {term} and has made promises in {promised}",
                    status.peer.id
                ));
            }
        }
    }

    /// A message leaves.
    pub(super) fn on_sent(&mut self, envelope: &Envelope) {
        let Content::Raft(message) = &envelope.content else { return };
        let who = (envelope.region, envelope.from.id);
        let is_promise = match &message.body {
            Body::VoteReply { granted: true } => {
                let vote = (envelope.region, envelope.from.id, message.term);
                let given = *self.votes.entry(vote).or_insert(message.to);
                if given != message.to {
                    self.fail(format!(
                        "peer {} votes for {given} and for {} in {}",
                        envelope.from.id, message.to, message.term
                    ));
                }
                true
            }
            Body::Vote { .. } => {
                let vote = (envelope.region, envelope.from.id, message.term);
                let given = *self.votes.entry(vote).or_insert(message.from);
                if given != message.from {
                    self.fail(format!(
                        "peer {} votes for {given} and for itself in {}",
                        envelope.from.id, message.term
                    ));
                }
                true
            }
            Body::AppendAccepted { .. } => true,
            _ => false,
        };
        if is_promise {
            let term = self.promised.entry(who).or_default();
            *term = (*term).max(message.term);
        }
    }

    /// What a peer is after a round.
    pub(super) fn on_round(&mut self, store: StoreId, status: &PeerStatus) {
        let Some(region) = region_of(status) else { return };
        let peer = status.peer.id;
        let raft = &status.raft;
        let (term, commit) = (raft.hard_state.term, raft.hard_state.commit);
        if raft.role == RoleName::Leader {
            let leader = *self.leaders.entry((region, term)).or_insert(peer);
            if leader != peer {
                self.fail(format!("{leader} and {peer} lead region {region} in {term}"));
            }
        }
        let ApplyState { applied, truncated } = status.state;
        let is_ordered = truncated.index <= applied.index
            && applied.index <= commit
            && commit <= raft.last
            // A snapshot is durable in `data` before the log begins behind it.
            && applied.index <= raft.durable.max(truncated.index);
        if !is_ordered && !status.is_installing {
            self.fail(format!(
                "peer {peer}: truncated {}, applied {}, commit {commit}, durable {}, last {}",
                truncated.index, applied.index, raft.durable, raft.last
            ));
        }
        let vote = raft.hard_state.vote;
        let now = Seen { term, vote, commit, state: status.state };
        if let Some(before) = self.seen.insert((store, region, peer), now) {
            let has_changed_vote =
                before.term == term && before.vote.is_some() && before.vote != vote;
            let goes_back = term < before.term
                || commit < before.commit
                || applied.index < before.state.applied.index
                || truncated.index < before.state.truncated.index;
            if has_changed_vote || goes_back {
                self.fail(format!(
                    "peer {peer} goes back from {}, vote {:?}, commit {}, {:?} to {term}, vote \
                     {vote:?}, commit {commit}, {:?}",
                    before.term, before.vote, before.commit, before.state, status.state
                ));
            }
        }
    }

    /// A peer is about to apply these.
    pub(super) fn on_commit(&mut self, store: StoreId, region: RegionId, entries: &Entries) {
        for entry in entries {
            let found = (entry.term, hash_of(&entry.payload));
            let known = *self.committed.entry((region, entry.index)).or_insert(found);
            if known != found {
                self.fail(format!(
                    "store {store} applies another entry at {} of region {region}: of {}, and {} \
                     was committed",
                    entry.index, entry.term, known.0
                ));
            }
        }
    }

    /// Something was applied.
    pub(super) fn on_applied(&mut self, store: StoreId, engine: &dyn Engine, apply: &Apply) {
        let view = engine.snapshot();
        for (record, state) in apply.states() {
            let region = record.region.id;
            let stored = meta::load_apply_state(&*view, region).ok().flatten();
            if stored != Some(state) {
                self.fail(format!(
                    "store {store} has applied region {region} up to {state:?}, \
                     and stored {stored:?}"
                ));
            }
            if state.applied.index.0.is_multiple_of(COMPARED_EVERY) {
                let data = data_of(&*view, &record.region.range);
                self.compare(store, region, state.applied.index, data);
            }
        }
    }

    /// A task is done.
    pub(super) fn on_task(&mut self, _store: StoreId, _done: &Applied) {}

    /// All replicas that are equally far hold the same data.
    pub(super) fn compare(&mut self, store: StoreId, region: RegionId, at: Index, data: u64) {
        let (other, known) = *self.data.entry((region, at)).or_insert((store, data));
        if other != store {
            self.compared += 1;
        }
        if known != data {
            self.fail(format!(
                "stores {other} and {store} hold different data of region {region} at {at}"
            ));
        }
    }
}

fn region_of(status: &PeerStatus) -> Option<RegionId> {
    status.record.as_ref().map(|record| record.region.id)
}

fn hash_of(payload: &Payload) -> u64 {
    let mut hasher = Seeded::new(0).build_hasher();
    hasher.write(format!("{payload:?}").as_bytes());
    hasher.finish()
}

/// What all families hold in a range, as a number.
pub(super) fn data_of(view: &dyn kiva_engine::Snapshot, range: &KeyRange) -> u64 {
    let mut hasher = Seeded::new(0).build_hasher();
    for cf in [Cf::Default, Cf::Lock, Cf::Write] {
        let mut pairs = view.iter(cf, range, Order::Forward);
        while let Ok(Some((key, value))) = pairs.next() {
            hasher.write_usize(key.len());
            hasher.write(&key);
            hasher.write_usize(value.len());
            hasher.write(&value);
        }
        hasher.write_u8(cf.byte());
    }
    hasher.finish()
}
