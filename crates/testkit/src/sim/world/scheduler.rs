//! A stand-in for the scheduler: it knows where regions are, hands out steps, and asserts the rules
//! that stores owe it.
//!
//! A violation is a bug of a store, so it is an error here and no reason to refuse quietly.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kiva_base::{Moment, Peer, PeerId, PeerRole, Region, RegionId, StoreId, Term};
use kiva_raftstore::command::PeerChange;
use kiva_raftstore::meta::RegionRecord;
use kiva_raftstore::placement::{RegionReport, Step};

use super::client::Directory;
use crate::sim::Rng;

/// How long a goal may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// What stores have said, and what is to become of it.
pub(super) struct Scheduler {
    known: BTreeMap<RegionId, Known>,
    /// The peers of every version of a group that was reported.
    versions: BTreeMap<(RegionId, u64), BTreeSet<Peer>>,
    directory: Directory,
    stores: Vec<StoreId>,
    peers_made: u64,
    /// Stores that have lost their disks, and which peers were made before that.
    lost: BTreeMap<StoreId, u64>,
    goals: VecDeque<Goal>,
    current: Option<(Goal, Moment, u64)>,
    /// Fewer than this are too few.
    replicas: usize,
}

struct Known {
    record: RegionRecord,
    leader: Peer,
    term: Term,
    pending: Vec<Peer>,
}

/// Something to be brought about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Goal {
    Change(Vec<PeerChange>),
    Transfer(Peer),
}

impl Scheduler {
    pub(super) fn new(
        directory: Directory,
        stores: Vec<StoreId>,
        peers_made: u64,
        replicas: usize,
    ) -> Self {
        Self {
            known: BTreeMap::new(),
            versions: BTreeMap::new(),
            directory,
            stores,
            peers_made,
            lost: BTreeMap::new(),
            goals: VecDeque::new(),
            current: None,
            replicas,
        }
    }

    /// A name for a peer that was never given to another.
    pub(super) fn new_peer(&mut self, store: StoreId, role: PeerRole) -> Peer {
        self.peers_made += 1;
        Peer { id: PeerId::new(self.peers_made).expect("counted from one"), store, role }
    }

    /// The largest id of a peer so far.
    pub(super) fn peers_made(&self) -> u64 {
        self.peers_made
    }

    pub(super) fn has_goals(&self) -> bool {
        self.current.is_some() || !self.goals.is_empty()
    }

    /// Nothing new is begun.
    pub(super) fn drop_goals(&mut self) {
        self.goals.clear();
        self.current = None;
    }

    pub(super) fn record(&self, region: RegionId) -> Option<&RegionRecord> {
        self.known.get(&region).map(|known| &known.record)
    }

    pub(super) fn leader(&self, region: RegionId) -> Option<Peer> {
        self.known.get(&region).map(|known| known.leader)
    }

    /// Whether a store may lose its disk now: only one at a time, and the others can do without.
    pub(super) fn may_lose(&self, region: RegionId) -> bool {
        self.known.get(&region).is_some_and(|known| {
            let RegionRecord { region, membership } = &known.record;
            membership.voters().len() >= 3
                && !membership.is_joint()
                && region.peers.iter().all(|peer| !self.is_lost(peer))
        })
    }

    /// A store has lost its disk, and with it every peer with an id below.
    pub(super) fn lose(&mut self, store: StoreId, below: u64) {
        self.lost.insert(store, below);
    }

    fn is_lost(&self, peer: &Peer) -> bool {
        self.lost.get(&peer.store).is_some_and(|below| peer.id.get() < *below)
    }

    /// Draws something to do with a region: another leader, more peers, fewer, others.
    pub(super) fn shake(&mut self, region: RegionId, lot: u64, with_members: bool) {
        let Some(known) = self.known.get(&region) else { return };
        let mut rng = Rng::seeded(lot);
        let peers = known.record.region.peers.clone();
        let leader = known.leader;
        let voters: Vec<_> =
            peers.iter().filter(|peer| peer.role == PeerRole::Voter).copied().collect();
        if !with_members || rng.number(0..3) == 0 {
            self.goals.extend(rng.pick(&voters).map(|voter| Goal::Transfer(*voter)));
            return;
        }
        let Some(&store) = rng.pick(&self.stores.clone()) else { return };
        let there = peers.iter().find(|peer| peer.store == store).copied();
        let way = rng.number(0..4);
        match there {
            Some(peer) if peer.role == PeerRole::Learner => {
                let promoted = Peer { role: PeerRole::Voter, ..peer };
                self.goals.push_back(Goal::Change(vec![PeerChange::Add(promoted)]));
            }
            Some(peer) if way == 0 && voters.len() > 2 && peer.id != leader.id => {
                let demoted = Peer { role: PeerRole::Learner, ..peer };
                self.goals.push_back(Goal::Change(vec![PeerChange::Add(demoted)]));
            }
            Some(peer) if peers.len() > 1 => {
                self.goals.push_back(Goal::Change(vec![PeerChange::Remove(peer)]));
            }
            Some(_) => {}
            None if way == 0 => {
                let peer = self.new_peer(store, PeerRole::Learner);
                self.goals.push_back(Goal::Change(vec![PeerChange::Add(peer)]));
                let promoted = Peer { role: PeerRole::Voter, ..peer };
                self.goals.push_back(Goal::Change(vec![PeerChange::Add(promoted)]));
            }
            None if way == 1 => {
                let peer = self.new_peer(store, PeerRole::Voter);
                let mut changes = vec![PeerChange::Add(peer)];
                let others: Vec<_> =
                    voters.iter().filter(|voter| voter.id != leader.id).copied().collect();
                changes.extend(rng.pick(&others).map(|other| PeerChange::Remove(*other)));
                self.goals.push_back(Goal::Change(changes));
            }
            None => {
                let peer = self.new_peer(store, PeerRole::Voter);
                self.goals.push_back(Goal::Change(vec![PeerChange::Add(peer)]));
            }
        }
    }

    /// A leader reports. What it is to do now, or which rule it broke.
    pub(super) fn on_report(
        &mut self,
        report: RegionReport,
        now: Moment,
    ) -> Result<Option<(StoreId, Step)>, String> {
        let RegionReport { record, leader, term, pending, .. } = report;
        let region = record.region.id;
        self.assert_rules(&record)?;
        let conf_ver = record.region.epoch.conf_ver;
        if let Some(known) = self.known.get(&region) {
            let known_ver = known.record.region.epoch.conf_ver;
            if conf_ver < known_ver || (conf_ver == known_ver && term < known.term) {
                return Ok(None);
            }
        }
        let is_leader_listed = record.region.peers.iter().any(|peer| peer.id == leader.id);
        self.directory.set(record.region.clone(), Some(leader).filter(|_| is_leader_listed));
        let record = RegionRecord::clone(&record);
        self.known.insert(region, Known { record, leader, term, pending });
        Ok(self.next_step(region, now).map(|step| (leader.store, step)))
    }

    fn assert_rules(&mut self, record: &RegionRecord) -> Result<(), String> {
        let region = &record.region;
        let peers: BTreeSet<_> = region.peers.iter().copied().collect();
        let stores: BTreeSet<_> = region.peers.iter().map(|peer| peer.store).collect();
        if stores.len() != peers.len() || peers.is_empty() {
            return Err(format!("region {} has peers {peers:?}", region.id));
        }
        let version = region.epoch.conf_ver;
        let key = (region.id, version);
        if let Some(known) = self.versions.get(&key)
            && *known != peers
        {
            return Err(format!(
                "version {version} of region {} has peers {known:?} and {peers:?}",
                region.id
            ));
        }
        let before = version.checked_sub(1).and_then(|v| self.versions.get(&(region.id, v)));
        if let Some(before) = before {
            let ids: BTreeSet<_> =
                before.symmetric_difference(&peers).map(|peer| peer.id).collect();
            // Leaving a joint configuration may change nobody who is listed.
            if ids.len() > 1 {
                return Err(format!(
                    "version {version} of region {} differs from the one before by {ids:?}",
                    region.id
                ));
            }
        }
        self.versions.insert(key, peers);
        Ok(())
    }

    /// The next goal that still makes sense. Many were drawn when the group was another one, and
    /// an id is never used again.
    fn next_goal(&mut self, region: &Region) -> Option<Goal> {
        let is_listed = |peer: &Peer| region.peers.iter().any(|it| it.id == peer.id);
        let was_listed =
            |peer: &Peer| self.versions.values().flatten().any(|it: &Peer| it.id == peer.id);
        let makes_sense = |goal: &Goal| match goal {
            Goal::Transfer(to) => is_listed(to),
            Goal::Change(changes) => changes.iter().all(|change| match change {
                PeerChange::Add(peer) => is_listed(peer) || !was_listed(peer),
                PeerChange::Remove(peer) => is_listed(peer),
            }),
        };
        let first = self.goals.iter().position(makes_sense);
        let end = first.map_or(self.goals.len(), |first| first + 1);
        self.goals.drain(..end).next_back().filter(|_| first.is_some())
    }

    fn next_step(&mut self, region: RegionId, now: Moment) -> Option<Step> {
        let known = self.known.get(&region)?;
        let (record, leader) = (known.record.clone(), known.leader);
        let epoch = record.region.epoch;
        if let Some((goal, until, conf_ver)) = &self.current {
            let is_reached = match goal {
                Goal::Change(_) => epoch.conf_ver != *conf_ver && !record.membership.is_joint(),
                Goal::Transfer(to) => leader.id == to.id,
            };
            if is_reached || now >= *until {
                self.current = None;
            }
        }
        if self.current.is_none() {
            let lost = record.region.peers.iter().find(|peer| self.is_lost(peer));
            let missing = self
                .stores
                .iter()
                .find(|store| {
                    record.region.peers.len() < self.replicas
                        && record.region.peer_on(**store).is_none()
                })
                .copied();
            let goal = match (lost, missing) {
                (Some(lost), _) => Some(Goal::Change(vec![PeerChange::Remove(*lost)])),
                (None, Some(store)) if self.goals.is_empty() => {
                    let peer = self.new_peer(store, PeerRole::Voter);
                    Some(Goal::Change(vec![PeerChange::Add(peer)]))
                }
                _ => self.next_goal(&record.region),
            };
            self.current = goal.map(|goal| (goal, now + PATIENCE, epoch.conf_ver));
        }
        let known = &self.known[&region];
        let (goal, _, conf_ver) = self.current.as_ref()?;
        match goal {
            Goal::Change(_) if *conf_ver != epoch.conf_ver => None,
            Goal::Change(changes) => {
                // Who lacks data does not vote yet.
                let is_early = changes.iter().any(|change| match change {
                    PeerChange::Add(peer) => known.pending.iter().any(|it| it.id == peer.id),
                    PeerChange::Remove(_) => false,
                });
                let changes = changes.clone();
                (!is_early).then_some(Step::ChangePeers { region, epoch, changes })
            }
            Goal::Transfer(to) => Some(Step::TransferLeader { region, to: *to }),
        }
    }

    /// A peer that has heard of no leader for long asks whether it still exists.
    pub(super) fn on_doubt(&self, record: &RegionRecord, peer: Peer) -> Option<Step> {
        let region = record.region.id;
        let known = &self.known.get(&region)?.record.region;
        let is_gone = known.epoch.conf_ver >= record.region.epoch.conf_ver
            && known.peers.iter().all(|listed| listed.id != peer.id);
        is_gone.then_some(Step::Removed { region, peer, epoch: known.epoch })
    }
}
