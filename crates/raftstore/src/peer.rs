//! One replica: its consensus, its waiters, its standing, and its life from birth to tombstone.
//!
//! ```text
//!   a message from a group ──▶ Empty ──snapshot──▶ Whole ◀── data, after a restart or a birth
//!                                │                  │ ▲
//!                                │       Installing ◀─┘ │ a snapshot is durable in `data`, then
//!                                │                  └───┘ the log starts again behind it
//!                                └───── removed ────┴──▶ Doomed ──tombstone──▶ cleared
//! ```
//!
//! A peer decides nothing about disks and sockets: it fills the round's [`Outbox`].
//!
//! What is always true:
//!
//! - The writes of a peer reach the log in the order in which consensus asked for them; while a
//!   snapshot is being installed they wait behind it.
//! - Every waiter is told once, and when the peer ends it is told that.
//! - `slot` says what the peer was at the end of the last round; a lease is taken back before a
//!   message that ends it leaves.

mod farewell;
mod propose;
mod ready;
mod storage;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_channel::oneshot;
use kiva_base::{Epoch, KeyRange, Moment, Peer as PeerName, RegionError, RegionId};
use kiva_engine::Engine;
use kiva_raft::{
    Config, EntryId, Index, LogWrite, Node, NodeId, OpenError, ReadMode, Receipt, RoleName,
    SnapshotOutcome, Status,
};

use crate::apply::{Applied, ApplyMsg, MemberChange};
use crate::flaw::{Flaw, Flaws};
use crate::limits::{ENTRY_OVERHEAD, ENTRY_SIZE_MAX, PROPOSAL_TICKS_MAX};
use crate::log::{RegionLog, Tombstone};
use crate::meta::{self, ApplyState, RegionRecord, node_id};
use crate::options::Options;
use crate::proposal::{Proposals, Write};
use crate::read::{Slot, Standing};
use crate::snapshot::Received;
use crate::store::{AfterSync, Outbox};
use crate::task::Task;
use farewell::Farewells;
use storage::{Common, PeerStore};

/// One replica of a region.
pub(crate) struct Peer {
    name: PeerName,
    region: RegionId,
    /// `None` while it has no data yet.
    record: Option<Arc<RegionRecord>>,
    node: Node,
    slot: Arc<Slot>,
    phase: Phase,
    /// How far it is applied, as the apply loop last said.
    state: ApplyState,
    common: Arc<Mutex<Common>>,
    /// Members of the group that the record does not list, as their messages gave them: those who
    /// write to a peer that has no data yet.
    strangers: BTreeMap<NodeId, PeerName>,
    /// The newest epoch that a message to this peer came with. While it has no data this is all it
    /// knows of when it became a member.
    heard: Epoch,
    proposals: Proposals,
    flaws: Flaws,
    farewells: Farewells,
    /// What has to be cleared when it is doomed.
    left: Vec<KeyRange>,
    /// Writes of this round, to be merged into entries at its end.
    gathered: Vec<Write>,
    reads: Reads,
    /// A snapshot whose data is here, until consensus takes it or something newer.
    incoming: Option<(EntryId, Received)>,
    clock: Ticks,
    /// What the scheduler was last told of the others.
    told: Followers,
    /// Who was silent at the last look, and at which tick that was first seen.
    silent: Vec<(PeerName, u64)>,
}

/// Members that a leader has to say something about.
#[derive(Clone, PartialEq, Eq, Default)]
struct Followers {
    /// Silent for longer than an election timeout.
    down: Vec<PeerName>,
    /// Still being sent what they lack.
    pending: Vec<PeerName>,
}

/// What a peer is doing besides taking part.
enum Phase {
    /// Nothing else.
    Settled,
    /// Waiting for `data` to hold a snapshot; what consensus wants written meanwhile waits too,
    /// the snapshot's own write first.
    Installing(VecDeque<LogWrite>),
    /// Removed: takes no part any more.
    Doomed,
}

/// Reads that cannot rest on a lease.
#[derive(Default)]
struct Reads {
    /// Of this round: one question to the group for all.
    asked: Vec<ReadWaiter>,
    /// Asked, by number of the question.
    open: BTreeMap<u64, (u64, Vec<ReadWaiter>)>,
    /// Confirmed, and waiting until that index is applied.
    confirmed: Vec<(Index, ReadWaiter)>,
    next: u64,
}

type ReadWaiter = oneshot::Sender<Result<(), RegionError>>;

/// What a peer knows of time.
struct Ticks {
    /// Since this peer was made.
    count: u64,
    /// The nominal moment of the last one.
    nominal: Moment,
    interval: Duration,
    /// Since a leader was last known.
    without_leader: u64,
    /// Until the region is reported again.
    until_report: u64,
    /// The count when the followers were last looked at.
    looked: u64,
}

impl Ticks {
    /// Whether it is time to look who has been silent: a little less often than consensus forgets
    /// who was active, so that two looks in a row never both come right after that.
    fn look(&mut self, election_ticks: u32) -> bool {
        let is_time = self.count >= self.looked + u64::from(election_ticks) + 3;
        if is_time {
            self.looked = self.count;
        }
        is_time
    }
}

/// What a person may ask about a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub peer: PeerName,
    /// Its region; `None` while it has no data.
    pub record: Option<Arc<RegionRecord>>,
    /// Its consensus.
    pub raft: Status,
    /// How far it is applied.
    pub state: ApplyState,
    /// Whether a snapshot is being installed.
    pub is_installing: bool,
}

/// What a peer is made from, by birth, restart and message alike.
pub(crate) struct Origin {
    pub(crate) name: PeerName,
    pub(crate) region: RegionId,
    /// `None` for one that a message brought to life.
    pub(crate) record: Option<Arc<RegionRecord>>,
    pub(crate) state: ApplyState,
    pub(crate) log: RegionLog,
    /// Whether it may have voted in an earlier life of the process.
    pub(crate) is_restart: bool,
}

impl Peer {
    pub(crate) fn open(
        origin: Origin,
        engine: Arc<dyn Engine>,
        options: &Options,
        now: Moment,
    ) -> Result<Self, OpenError> {
        let Origin { name, region, record, state, log, is_restart } = origin;
        let common = Arc::new(Mutex::new(Common { truncated: state.truncated, view: None }));
        let membership =
            record.as_ref().map(|record| record.membership.clone()).unwrap_or_default();
        let store = PeerStore {
            region,
            log,
            engine,
            membership,
            applied: state.applied.index,
            common: common.clone(),
        };
        let config = Config {
            heartbeat_ticks: options.heartbeat_ticks,
            election_ticks: options.election_ticks,
            entry_bytes_max: ENTRY_SIZE_MAX + ENTRY_OVERHEAD,
            reads: ReadMode::Lease { ticks: options.lease_ticks },
            is_first_start: !is_restart,
            applied: state.applied.index,
            ..Config::new(node_id(name.id))
        };
        let rng = kiva_raft::Rng::seeded(options.seed ^ region.get().rotate_left(32));
        let node = Node::open(config, rng, Box::new(store))?;
        let standing = Standing {
            region: Arc::new(region_or_nothing(region, record.as_deref())),
            peer: name,
            term: kiva_base::Term(node.term().0),
            leader: None,
            is_settled: false,
        };
        let clock = Ticks {
            count: 0,
            nominal: now,
            interval: options.tick,
            without_leader: 0,
            until_report: 0,
            looked: 0,
        };
        Ok(Self {
            name,
            region,
            record,
            node,
            slot: Arc::new(Slot::new(standing)),
            phase: Phase::Settled,
            state,
            common,
            strangers: BTreeMap::new(),
            heard: Epoch::default(),
            proposals: Proposals::new(options.flaws),
            flaws: options.flaws,
            farewells: Farewells::default(),
            left: Vec::new(),
            gathered: Vec::new(),
            reads: Reads::default(),
            incoming: None,
            clock,
            told: Followers::default(),
            silent: Vec::new(),
        })
    }

    pub(crate) fn name(&self) -> PeerName {
        self.name
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(crate) fn record(&self) -> Option<&Arc<RegionRecord>> {
        self.record.as_ref()
    }

    pub(crate) fn is_doomed(&self) -> bool {
        matches!(self.phase, Phase::Doomed)
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.node.is_leader()
    }

    /// Whether nobody waits for a write or a read here.
    pub(crate) fn is_idle(&self) -> bool {
        self.gathered.is_empty() && self.proposals.is_empty() && self.reads.is_empty()
    }

    pub(crate) fn status(&self) -> PeerStatus {
        PeerStatus {
            peer: self.name,
            record: self.record.clone(),
            raft: self.node.status(),
            state: self.state,
            is_installing: matches!(self.phase, Phase::Installing(_)),
        }
    }

    /// Holds an election now; a peer that is alone in its group wins it at once.
    pub(crate) fn campaign(&mut self) {
        if let Err(error) = self.node.campaign() {
            tracing::debug!(region_id = self.region.get(), %error, "no election");
        }
    }

    /// Lets the tick of this nominal moment pass.
    pub(crate) fn tick(&mut self, nominal: Moment, options: &Options) -> Option<Doubt> {
        if self.is_doomed() {
            return None;
        }
        self.clock.nominal = nominal;
        self.clock.count += 1;
        self.node.tick();
        // A leader finds out what becomes of its entries. Whoever was deposed hears it from the new
        // leader, who is elected within two timeouts, or is cut off from it for who knows how long.
        let patience = match self.node.is_leader() {
            true => PROPOSAL_TICKS_MAX,
            false => 2 * u64::from(options.election_ticks),
        };
        let old = self.clock.count.saturating_sub(patience);
        self.proposals.give_up(old);
        self.reads.give_up(old, self.region);
        self.clock.until_report = self.clock.until_report.saturating_sub(1);
        if self.node.is_leader() && self.clock.count.is_multiple_of(options.compact_ticks) {
            self.maybe_compact_log(options);
        }
        if self.node.leader().is_some() {
            self.clock.without_leader = 0;
            return None;
        }
        self.clock.without_leader += 1;
        self.clock.without_leader.is_multiple_of(options.doubt_ticks).then_some(Doubt)
    }

    /// A message of consensus from a peer of the group.
    pub(crate) fn step(&mut self, from: PeerName, epoch: Epoch, message: kiva_raft::Message) {
        if self.is_doomed() {
            return;
        }
        self.heard = self.heard.max(epoch);
        self.learn(from);
        let (region_id, peer_id) = (self.region.get(), self.name.id.get());
        let name = message.body.name();
        if let Err(error) = self.node.step(message) {
            tracing::debug!(region_id, peer_id, message = name, %error, "not taken");
        }
    }

    /// A snapshot whose data is here.
    pub(crate) fn step_snapshot(
        &mut self,
        from: PeerName,
        epoch: Epoch,
        message: kiva_raft::Message,
        last: EntryId,
        file: Received,
    ) {
        // One is enough: while it waits to be installed a second one would be refused anyway.
        if self.is_doomed() || matches!(self.phase, Phase::Installing(_)) {
            return;
        }
        self.incoming = Some((last, file));
        self.step(from, epoch, message);
    }

    fn learn(&mut self, from: PeerName) {
        let is_listed = self
            .record
            .as_ref()
            .is_some_and(|record| record.region.peers.iter().any(|peer| peer.id == from.id));
        if !is_listed {
            self.strangers.insert(node_id(from.id), from);
        }
    }

    pub(crate) fn report_unreachable(&mut self, store: kiva_base::StoreId) {
        let Some(record) = &self.record else { return };
        if let Some(peer) = record.region.peer_on(store) {
            self.node.report_unreachable(node_id(peer.id));
        }
    }

    pub(crate) fn report_snapshot(&mut self, to: PeerName, arrived: bool) {
        let outcome = if arrived { SnapshotOutcome::Sent } else { SnapshotOutcome::Failed };
        self.node.report_snapshot(node_id(to.id), outcome);
    }

    /// Shows a receipt; what it opens goes out.
    pub(crate) fn on_synced(&mut self, receipt: Receipt, out: &mut Outbox) {
        if self.is_doomed() {
            return;
        }
        let opened = self.node.on_synced(receipt);
        self.send(opened, out);
    }

    /// What the apply loop has done.
    pub(crate) fn on_applied(&mut self, applied: Applied, out: &mut Outbox) {
        if self.is_doomed() {
            return;
        }
        match applied {
            Applied::Entries { state, changes, .. } => {
                // A snapshot that was installed since knows more.
                if state.applied.index < self.state.applied.index {
                    return;
                }
                self.state = state;
                changes.into_iter().for_each(|change| self.on_member_change(change));
                self.node.on_applied(state.applied.index);
                self.truncate();
                self.release_held(out);
            }
            Applied::Installed { record, state } => {
                out.apply.push(ApplyMsg::Adopt(record.clone(), state));
                self.state = state;
                self.record = Some(record);
                self.truncate();
                self.proposals.skip(state.applied.index);
                self.strangers.clear();
                let waiting = match std::mem::replace(&mut self.phase, Phase::Settled) {
                    Phase::Installing(waiting) => waiting,
                    Phase::Settled | Phase::Doomed => {
                        unreachable!("a snapshot was installed that nobody waits for")
                    }
                };
                waiting.into_iter().for_each(|write| self.log(write, out));
            }
            Applied::Cleared { .. } => unreachable!("only doomed peers are cleared"),
        }
    }

    fn on_member_change(&mut self, change: MemberChange) {
        match change.record {
            Some(record) => {
                let membership = self
                    .node
                    .apply_membership(change.index)
                    .expect("the apply loop judged by the same rule");
                assert_eq!(*membership, record.membership, "members of region {}", self.region);
                if let Some(before) = self.record.replace(record.clone()) {
                    let stays =
                        |peer: &PeerName| record.region.peers.iter().any(|it| it.id == peer.id);
                    let peers = before.region.peers.iter();
                    let gone = peers.filter(|peer| peer.id != self.name.id && !stays(peer));
                    self.farewells.add(change.index, gone.copied().collect());
                }
                self.clock.until_report = 0;
            }
            None => self.node.refuse_membership(change.index),
        }
    }

    fn truncate(&mut self) {
        self.common.lock().unwrap_or_else(PoisonError::into_inner).truncated = self.state.truncated;
    }

    /// Ends this peer: waiters are told, a tombstone is written, and once that stands the data
    /// goes.
    pub(crate) fn doom(&mut self, out: &mut Outbox) {
        if self.is_doomed() {
            return;
        }
        let (region_id, peer_id) = (self.region.get(), self.name.id.get());
        tracing::info!(region_id, peer_id, "removed");
        self.slot.end_lease();
        self.left = self.record.iter().map(|record| record.region.range.clone()).collect();
        if let Phase::Installing(waiting) = &self.phase
            && !self.flaws.has(Flaw::SnapshotLeftBehind)
        {
            // The task may put it there yet, before it clears away.
            let snapshot = waiting.front().and_then(|write| write.snapshot.as_ref());
            let record = snapshot.and_then(|it| meta::decode_region(self.region, &it.data).ok());
            self.left.extend(record.map(|record| record.region.range));
        }
        self.phase = Phase::Doomed;
        self.incoming = None;
        let gone = RegionError::RegionNotFound { region: region_id };
        self.refuse_gathered(&gone);
        self.proposals.abandon();
        self.reads.refuse_all(&gone);
        let epoch = self.epoch();
        let tombstone = Tombstone { peer_id_max: self.name.id, epoch };
        out.apply.push(ApplyMsg::Drop(self.region));
        match self.flaws.has(Flaw::NoTombstone) {
            true => out.log.remove(self.region),
            false => out.log.tombstone(self.region, self.name.id, epoch),
        }
        let (region, peer) = (self.region, self.name);
        out.after_sync.push(AfterSync::Tombstone { region, peer, tombstone });
    }

    /// What is to be cleared once the tombstone stands.
    pub(crate) fn clear(&self) -> Task {
        let ranges = self.left.clone();
        Task::Clear { region: self.region, ranges }
    }

    /// Whether the peer was removed from its group by a change that is applied here.
    pub(crate) fn is_removed(&self) -> bool {
        self.record
            .as_ref()
            .is_some_and(|record| !record.region.peers.iter().any(|peer| peer.id == self.name.id))
    }

    /// An epoch in which it was a member: that of its data, or, while it has none, of the group
    /// that brought it to life. A member that lags may not have heard of it yet, and must not be
    /// believed when it says that there is no such peer.
    pub(crate) fn epoch(&self) -> Epoch {
        self.record.as_ref().map_or(self.heard, |record| record.region.epoch)
    }

    /// Puts what the peer is now where readers look. Called at the end of a round, before its
    /// messages leave.
    fn publish(&mut self) {
        let term = self.node.term();
        let is_settled = self.node.is_leader()
            && (self.state.applied.term == term || self.flaws.has(Flaw::ReadUnsettled));
        let leader = self.node.leader().and_then(|id| self.peer_of(id));
        let now = self.slot.standing();
        let region_changed =
            self.record.as_ref().is_some_and(|record| record.region.epoch != now.region.epoch);
        let is_same = now.term.0 == term.0
            && now.leader == leader
            && now.is_settled == is_settled
            && !region_changed;
        if !is_same {
            let region = if region_changed {
                Arc::new(region_or_nothing(self.region, self.record.as_deref()))
            } else {
                now.region.clone()
            };
            let term = kiva_base::Term(term.0);
            self.slot.change(Standing { region, peer: self.name, term, leader, is_settled });
        }
        match self.node.lease_ticks() {
            Some(ticks) if is_settled => {
                self.slot.extend_lease(self.clock.nominal + self.clock.interval * ticks);
            }
            _ if is_settled && self.flaws.has(Flaw::LeaseAcrossTransfer) => {}
            _ => self.slot.end_lease(),
        }
    }

    /// A member by its name in the group.
    fn peer_of(&self, id: NodeId) -> Option<PeerName> {
        let listed = self.record.as_ref().and_then(|record| {
            record.region.peers.iter().find(|peer| node_id(peer.id) == id).copied()
        });
        listed.or_else(|| self.strangers.get(&id).copied())
    }

    fn is_follower(&self) -> bool {
        self.node.role() != RoleName::Leader
    }
}

/// A peer that has heard of no leader for long, and asks whether it still exists.
pub(crate) struct Doubt;

/// A peer without data stands for no key at all, but a range cannot be empty: that it has no
/// leader keeps everybody from asking for one.
fn region_or_nothing(id: RegionId, record: Option<&RegionRecord>) -> kiva_base::Region {
    record.map_or_else(
        || kiva_base::Region {
            id,
            range: KeyRange::ALL,
            epoch: Epoch::default(),
            peers: Vec::new(),
        },
        |record| record.region.clone(),
    )
}
