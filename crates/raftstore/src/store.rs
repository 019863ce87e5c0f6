//! The store loop: how many groups share one disk and one thread.
//!
//! A loop works in rounds. It takes all that waits in its [`Mailbox`], lets the ticks pass that are
//! due, steps every region concerned, and then asks each of them once what is to be done. The
//! round's [`Outbox`] holds one write for the log and one frame per store, whatever the number of
//! regions. While the log writer syncs that write, the next round gathers.
//!
//! ```text
//!   mailbox ──▶ begin ─▶ handle* ─▶ end ──▶ outbox ──▶ log writer ─▶ Synced ──┐
//!      ▲                                      ├──────▶ transport              │
//!      │                                      └──────▶ apply ──────▶ Applied ─┤
//!      └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! It has no thread and no clock: whoever drives it calls the three methods and carries the outbox
//! out. In production that is [`crate::runtime`], in a simulation the world.
//!
//! What is always true:
//!
//! - A region's messages are handled on one loop, that of [`loop_of`].
//! - Ticks that are due pass before a message of the same round is stepped; leases rest on it.
//! - The outbox is a function of the messages, the moments and the seed.

mod mailbox;
mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiva_base::{Epoch, Moment, Peer as PeerName, PeerId, RegionError, RegionId, StoreId};
use kiva_engine::Engine;
use kiva_raft::{Body, EntryId, HardState, Index, OpenError, Term};

pub use mailbox::Mailbox;
pub use message::{Admin, AdminCommand, AfterSync, Outbox, Read, StoreMsg};

use crate::apply::{Applied, ApplyMsg};
use crate::flaw::Flaw;
use crate::limits::LATE_TICKS_MAX;
use crate::log::{Log, Tombstone};
use crate::meta::{self, ApplyState, RegionRecord};
use crate::options::Options;
use crate::peer::{Origin, Peer};
use crate::placement::Step;
use crate::proposal::Promise;
use crate::router::Regions;
use crate::transport::{Content, Envelope, Feedback};

/// The loop that a region lives on.
pub fn loop_of(region: RegionId, loops: usize) -> usize {
    // Multiplied first: ids of neighbours differ by small steps that may share a factor with the
    // number of loops.
    let spread = region.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(spread).unwrap_or_default() % loops.max(1)
}

/// One store loop, without its thread.
///
/// Invariants:
/// - Every peer is listed in `regions` exactly while it is not doomed.
/// - `touched` holds the peers that something happened to since [`Store::begin`].
pub struct Store {
    id: StoreId,
    options: Options,
    engine: Arc<dyn Engine>,
    log: Log,
    regions: Regions,
    peers: BTreeMap<RegionId, Peer>,
    tombstones: BTreeMap<RegionId, Tombstone>,
    /// Peers with smaller ids lived here before this store lost its memory.
    lost_below: u64,
    touched: BTreeSet<RegionId>,
    next_tick: Moment,
    out: Outbox,
}

/// Why a peer cannot go on where it left off.
#[derive(Debug, thiserror::Error)]
#[error("region {region} cannot be opened on this store: {source}")]
pub struct OpenPeerError {
    /// Which.
    pub region: RegionId,
    /// What is missing.
    pub source: OpenError,
}

impl Store {
    /// A loop without peers; they come with [`Store::adopt`].
    pub fn new(
        id: StoreId,
        options: Options,
        engine: Arc<dyn Engine>,
        log: Log,
        regions: Regions,
        now: Moment,
    ) -> Self {
        let next_tick = now + options.tick;
        Self {
            id,
            options,
            engine,
            log,
            regions,
            peers: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            lost_below: 0,
            touched: BTreeSet::new(),
            next_tick,
            out: Outbox::default(),
        }
    }

    /// Brings a peer to life from its metadata, after a birth and after a restart alike. A peer
    /// that is alone in its group leads at once.
    pub fn adopt(
        &mut self,
        record: Arc<RegionRecord>,
        state: ApplyState,
        now: Moment,
    ) -> Result<(), OpenPeerError> {
        let region = record.region.id;
        let Some(name) = record.region.peer_on(self.id) else { return Ok(()) };
        let log = self.log.region(region);
        let is_restart =
            log.last().index > state.truncated.index || log.hard_state() != HardState::default();
        if log.last().index < state.truncated.index {
            self.out.log.restart(region, state.truncated);
        }
        let is_alone = record.region.peers.len() == 1;
        let origin = Origin { name, region, record: Some(record.clone()), state, log, is_restart };
        let mut peer = Peer::open(origin, self.engine.clone(), &self.options, now)
            .map_err(|source| OpenPeerError { region, source })?;
        if is_alone {
            peer.campaign();
        }
        self.out.apply.push(ApplyMsg::Adopt(record, state));
        self.insert(region, peer);
        Ok(())
    }

    /// What is known of peers that are gone for good.
    pub fn bury(&mut self, tombstones: impl IntoIterator<Item = (RegionId, Tombstone)>) {
        self.tombstones.extend(tombstones);
    }

    /// Peers with ids below this take no part, also those that nothing is known of: the log is
    /// older than it once was, so nobody knows what they have promised. A message to one of them
    /// must not bring it back with an empty memory and a vote to give.
    pub fn refuse_below(&mut self, id: u64) {
        self.lost_below = id;
    }

    /// Buries a peer that has forgotten what it promised. Its log goes, so that a newer peer
    /// does not begin with it; its data stays until then or until the next start.
    pub fn bury_lost(&mut self, region: RegionId, peer: PeerName, epoch: Epoch) {
        let tombstone = Tombstone { peer_id_max: peer.id, epoch };
        self.bury([(region, tombstone)]);
        self.out.log.tombstone(region, peer.id, epoch);
        self.out.after_sync.push(AfterSync::Tombstone { region, peer, tombstone });
    }

    /// Begins a round at `now`: ticks that are due pass.
    pub fn begin(&mut self, now: Moment) {
        let mut late = 0;
        while now >= self.next_tick {
            let nominal = match self.options.flaws.has(Flaw::LeaseAfterPause) {
                true => now,
                false => self.next_tick,
            };
            self.next_tick = nominal + self.options.tick;
            late += 1;
            if late > LATE_TICKS_MAX {
                self.next_tick = now + self.options.tick;
                break;
            }
            for (region, peer) in &mut self.peers {
                let doubt = peer.tick(nominal, &self.options);
                if doubt.is_some()
                    && let Some(record) = peer.record()
                {
                    self.out.doubts.push((record.clone(), peer.name()));
                }
                self.touched.insert(*region);
            }
        }
    }

    /// When the next tick is due.
    pub fn next_tick(&self) -> Moment {
        self.next_tick
    }

    /// Handles one message.
    pub fn handle(&mut self, message: StoreMsg, now: Moment) {
        match message {
            StoreMsg::Propose(region, write) => match self.touch(region) {
                Some(peer) => peer.gather(write),
                None => {
                    let gone = region_not_found(region);
                    Promise::new(write.waiter, write.guard).resolve(Err(gone.into()));
                }
            },
            StoreMsg::Read(region, read) => match self.touch(region) {
                Some(peer) => peer.read(read),
                None => {
                    let _ = read.waiter.send(Err(region_not_found(region)));
                }
            },
            StoreMsg::Admin(region, admin) => match self.touch(region) {
                Some(peer) => peer.admin(admin),
                None => {
                    let _ = admin.waiter.send(Err(region_not_found(region).into()));
                }
            },
            StoreMsg::Envelope(envelope) => {
                if let Some((peer, message)) = self.receive(&envelope, now) {
                    peer.step(envelope.from, envelope.epoch, message.clone());
                }
            }
            StoreMsg::Snapshot(envelope, file) => self.receive_snapshot(&envelope, file, now),
            StoreMsg::Feedback(feedback) => self.on_feedback(&feedback),
            StoreMsg::Synced(due) => due.into_iter().for_each(|due| self.on_synced(due)),
            StoreMsg::Applied(applied) => {
                applied.into_iter().for_each(|applied| self.on_applied(applied));
            }
            StoreMsg::Step(step) => self.take(step),
            StoreMsg::Inspect(region, asker) => {
                if let Some(peer) = self.peers.get(&region) {
                    let _ = asker.send(peer.status());
                }
            }
        }
    }

    /// Ends the round: what is to be done now.
    pub fn end(&mut self) -> Outbox {
        while let Some(region) = self.touched.pop_first() {
            let Some(peer) = self.peers.get_mut(&region) else { continue };
            peer.end_round(&self.options, &mut self.out);
        }
        std::mem::take(&mut self.out)
    }

    /// The peers here, for whoever checks invariants.
    pub fn statuses(&self) -> impl Iterator<Item = crate::peer::PeerStatus> {
        self.peers.values().map(Peer::status)
    }

    /// Whether nobody waits for anything here.
    pub fn is_idle(&self) -> bool {
        self.peers.values().all(Peer::is_idle)
    }

    fn insert(&mut self, region: RegionId, peer: Peer) {
        self.regions.insert(region, peer.slot().clone());
        self.peers.insert(region, peer);
        self.touched.insert(region);
    }

    fn touch(&mut self, region: RegionId) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(&region).filter(|peer| !peer.is_doomed())?;
        self.touched.insert(region);
        Some(peer)
    }

    /// The peer that a message is for, if it is to be stepped.
    fn receive<'a, 'b>(
        &'a mut self,
        envelope: &'b Envelope,
        now: Moment,
    ) -> Option<(&'a mut Peer, &'b kiva_raft::Message)> {
        let Envelope { region, from, to, epoch, content } = envelope;
        let is_lost =
            to.id.get() < self.lost_below && !self.options.flaws.has(Flaw::VoteAfterAmnesia);
        if to.store != self.id || is_lost {
            return None;
        }
        let message = match content {
            Content::Raft(message) => message,
            Content::Removed => {
                self.on_removed(*region, *to, *epoch);
                return None;
            }
        };
        if self.tombstones.get(region).is_some_and(|tombstone| tombstone.covers(to.id)) {
            return None;
        }
        let known = self.peers.get_mut(region);
        match known {
            Some(peer) if peer.name().id < to.id => {
                // The group has a newer peer on this store, so this one was removed. What follows
                // will find it gone.
                peer.doom(&mut self.out);
                self.regions.remove(*region);
                return None;
            }
            Some(peer) if peer.is_doomed() || peer.name().id > to.id => return None,
            Some(peer) => {
                let record = peer.record();
                let is_stranger = record.is_some_and(|record| {
                    record.region.peers.iter().all(|listed| listed.id != from.id)
                        && epoch.conf_ver <= record.region.epoch.conf_ver
                });
                if is_stranger && !peer.may_dismiss() {
                    return None;
                }
                if is_stranger {
                    let epoch = record.map(|record| record.region.epoch).unwrap_or_default();
                    let from_here = peer.name();
                    self.out.envelopes.push((
                        from.store,
                        Envelope {
                            region: *region,
                            from: from_here,
                            to: *from,
                            epoch,
                            content: Content::Removed,
                        },
                    ));
                    return None;
                }
            }
            None => {
                if !may_create(&message.body) {
                    return None;
                }
                let name = PeerName { role: to.role, ..*to };
                if let Err(error) = self.adopt_new(*region, name, now) {
                    tracing::error!(region_id = region.get(), %error, "no peer was made");
                    return None;
                }
            }
        }
        Some((self.touch(*region)?, message))
    }

    fn adopt_new(
        &mut self,
        region: RegionId,
        name: PeerName,
        now: Moment,
    ) -> Result<(), OpenPeerError> {
        let log = self.log.region(region);
        // It may have lived before: what it voted is in the log, though it never had data.
        let is_restart = log.hard_state() != HardState::default();
        let origin = Origin { name, region, record: None, state: NOTHING, log, is_restart };
        let peer = Peer::open(origin, self.engine.clone(), &self.options, now)
            .map_err(|source| OpenPeerError { region, source })?;
        self.insert(region, peer);
        Ok(())
    }

    fn receive_snapshot(
        &mut self,
        envelope: &Envelope,
        file: crate::snapshot::Received,
        now: Moment,
    ) {
        let region = envelope.region;
        let Content::Raft(message) = &envelope.content else { return };
        let Body::Snapshot(snapshot) = &message.body else { return };
        let record = match meta::decode_region(region, &snapshot.data) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(region_id = region.get(), %error, "a snapshot is refused");
                return;
            }
        };
        if let Some(other) = self.regions.overlapping(region, &record.region.range) {
            tracing::info!(
                region_id = region.get(),
                other = other.get(),
                "a snapshot has to wait: another region here has keys of it"
            );
            return;
        }
        if let Some((peer, message)) = self.receive(envelope, now) {
            let (from, epoch) = (envelope.from, envelope.epoch);
            peer.step_snapshot(from, epoch, message.clone(), snapshot.last, file);
        }
    }

    fn on_feedback(&mut self, feedback: &Feedback) {
        match feedback {
            Feedback::Unreachable(store) => {
                self.peers.values_mut().for_each(|peer| peer.report_unreachable(*store));
            }
            Feedback::SnapshotSent { region, to, arrived } => {
                if let Some(peer) = self.touch(*region) {
                    peer.report_snapshot(*to, *arrived);
                }
            }
        }
    }

    fn on_synced(&mut self, due: AfterSync) {
        match due {
            AfterSync::Receipt { region, peer, receipt } => {
                let Some(known) = self.peers.get_mut(&region) else { return };
                if known.name().id == peer.id {
                    known.on_synced(receipt, &mut self.out);
                    self.touched.insert(region);
                }
            }
            AfterSync::Commit { region, peer, commit } => {
                let Some(known) = self.peers.get_mut(&region) else { return };
                if known.name().id == peer.id {
                    known.on_commit_saved(commit, &mut self.out);
                    self.touched.insert(region);
                }
            }
            AfterSync::Tombstone { region, peer, tombstone } => {
                self.tombstones.insert(region, tombstone);
                if let Some(known) = self.peers.get(&region)
                    && known.name().id == peer.id
                {
                    self.out.tasks.push(known.clear());
                }
            }
        }
    }

    fn on_applied(&mut self, applied: Applied) {
        let region = match &applied {
            Applied::Entries { region, .. } | Applied::Cleared { region } => *region,
            Applied::Installed { record, .. } => record.region.id,
        };
        let Some(peer) = self.peers.get_mut(&region) else { return };
        match applied {
            Applied::Cleared { .. } => {
                self.peers.remove(&region);
                self.log.forget(region);
            }
            Applied::Installed { ref record, state } => {
                if !peer.is_doomed() {
                    self.out.log.restart(record.region.id, state.applied);
                }
                peer.on_applied(applied, &mut self.out);
                self.touched.insert(region);
            }
            Applied::Entries { .. } => {
                // One that was removed goes when somebody says that the group knows.
                peer.on_applied(applied, &mut self.out);
                self.touched.insert(region);
                self.commit_flaws(region);
            }
        }
    }

    /// What bugs do that were put in on purpose.
    fn commit_flaws(&mut self, region: RegionId) {
        let flaws = self.options.flaws;
        let Some(peer) = self.peers.get_mut(&region) else { return };
        if flaws.has(Flaw::CompactBeforeDurable) {
            self.log.compact(region, peer.status().state.truncated.index);
            while let Ok(Some(_)) = self.log.collect() {}
        }
        if flaws.has(Flaw::RemovedGoesAtOnce) && peer.is_removed() {
            peer.doom(&mut self.out);
            self.regions.remove(region);
        }
    }

    /// Somebody says that a peer here was removed. It is believed when its group has moved on
    /// since the peer last heard of a change, or the peer knows.
    fn on_removed(&mut self, region: RegionId, name: PeerName, epoch: Epoch) {
        let Some(peer) = self.peers.get_mut(&region) else { return };
        let is_news = peer.epoch().conf_ver < epoch.conf_ver || peer.is_removed();
        let is_meant = peer.name().id == name.id && is_news;
        if is_meant && !peer.is_leader() {
            peer.doom(&mut self.out);
            self.regions.remove(region);
        }
    }

    fn take(&mut self, step: Step) {
        let region = step.region();
        let (epoch, command) = match step {
            Step::ChangePeers { epoch, changes, .. } => {
                (Some(epoch), AdminCommand::ChangePeers(changes))
            }
            Step::TransferLeader { to, .. } => (None, AdminCommand::TransferLeader(to)),
            Step::Removed { peer, epoch, .. } => {
                self.on_removed(region, peer, epoch);
                return;
            }
        };
        let Some(peer) = self.touch(region) else { return };
        let Some(record) = peer.record() else { return };
        let epoch = epoch.unwrap_or(record.region.epoch);
        // The scheduler sees what came of it in the next report.
        let (waiter, _) = futures_channel::oneshot::channel();
        peer.admin(Admin { epoch, command, waiter });
    }
}

/// A peer without data stands before the first entry.
const NOTHING: ApplyState = ApplyState {
    applied: EntryId::new(Term(0), Index(0)),
    truncated: EntryId::new(Term(0), Index(0)),
};

fn region_not_found(region: RegionId) -> RegionError {
    RegionError::RegionNotFound { region: region.get() }
}

/// Whether a message may bring a peer to life: those that a group sends to a member it has not
/// heard of. An answer, or an append in the middle of things, is left over from a former life.
fn may_create(body: &Body) -> bool {
    match body {
        Body::PreVote { .. } | Body::Vote { .. } | Body::Snapshot(_) => true,
        // A leader that knows nothing of its follower has nothing to tell it to commit.
        Body::Heartbeat { commit, .. } => *commit == Index::ZERO,
        _ => false,
    }
}

impl Tombstone {
    /// Whether a peer of this id is gone for good.
    pub fn covers(&self, peer: PeerId) -> bool {
        peer <= self.peer_id_max
    }
}
