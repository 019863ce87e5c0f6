//! What is on the disk: a state, commands that change it, and their records.
//!
//! A command is plain data: what was decided, with nothing left to decide. To carry it out is to
//! write its records and to [`apply`](State::apply) it, both of which are the same whenever and
//! wherever it is done. That is what a log entry will carry once the scheduler is replicated.
//!
//! The layout of keys and records is in `docs/formats.md`, section "Scheduler".

use std::collections::BTreeMap;

use bytes::Bytes;
use kiva_base::{ClusterId, KeyRange, Moment, RegionId, StoreId, Timestamp};
use kiva_engine::{Cf, Order, Snapshot, WriteBatch};

use crate::amnesia::StoreLog;
use crate::cluster::{Cluster, Policy, StoreCondition};
use crate::error::OpenError;
use crate::gc::{Hold, SafePoints};
use crate::regions::{RegionReport, Regions};
use crate::settings::Settings;
use crate::store::{Store, StoreStats, StoreView};
use crate::wire;

/// How the cluster began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Birth {
    /// Its id.
    pub cluster: ClusterId,
    /// What must agree in it.
    pub settings: Settings,
    /// When, in Unix milliseconds.
    pub born_ms: u64,
}

/// One change of what is on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// The first start.
    Bear(Birth),
    /// The first store brings the first region.
    Bootstrap {
        /// The store.
        store: Store,
        /// The region of all keys.
        region: Box<RegionReport>,
    },
    /// Timestamps below this time may be handed out.
    MoveWindow {
        /// Unix milliseconds.
        end_ms: u64,
    },
    /// Ids below this one may be handed out.
    ReserveIds {
        /// The first that may not.
        end: u64,
    },
    /// A store joins, or says something new about itself, or is found to be gone.
    PutStore(Store),
    /// A store has said something new about its log.
    PutLog(StoreId, StoreLog),
    /// The scheduler is to have other ways.
    PutPolicy(Policy),
    /// Old versions below this may be collected.
    MoveSafePoint(Timestamp),
    /// A service holds the safe point back.
    Hold(Hold),
    /// A service lets go of it.
    Release(Bytes),
    /// What leaders reported, as it was when the command was made. Saved behind the reports, so
    /// that routing works at once after a restart.
    SaveRegions {
        /// Regions as they are.
        saved: Vec<RegionReport>,
        /// Regions that are no more.
        gone: Vec<RegionId>,
    },
}

/// Everything that is on the disk, and what heartbeats add to it in memory.
#[derive(Clone, Debug)]
pub struct State {
    birth: Birth,
    is_bootstrapped: bool,
    window_end_ms: u64,
    ids_end: u64,
    safe_points: SafePoints,
    policy: Policy,
    stores: BTreeMap<StoreId, StoreView>,
    logs: BTreeMap<StoreId, StoreLog>,
    regions: Regions,
}

impl State {
    /// The state of a cluster that is born now.
    pub fn new(birth: Birth) -> Self {
        Self {
            birth,
            is_bootstrapped: false,
            window_end_ms: 0,
            ids_end: 0,
            safe_points: SafePoints::default(),
            policy: Policy::default(),
            stores: BTreeMap::new(),
            logs: BTreeMap::new(),
            regions: Regions::default(),
        }
    }

    /// How the cluster began.
    pub fn birth(&self) -> Birth {
        self.birth
    }

    /// Whether a first store has brought the first region.
    pub fn is_bootstrapped(&self) -> bool {
        self.is_bootstrapped
    }

    /// The end of the window of timestamps, in Unix milliseconds.
    pub fn window_end_ms(&self) -> u64 {
        self.window_end_ms
    }

    /// The end of the range of ids.
    pub fn ids_end(&self) -> u64 {
        self.ids_end
    }

    /// Up to where old versions may be collected.
    pub fn safe_points(&self) -> &SafePoints {
        &self.safe_points
    }

    /// The stores by id.
    pub fn stores(&self) -> &BTreeMap<StoreId, StoreView> {
        &self.stores
    }

    /// The regions.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The regions, for a report.
    pub fn regions_mut(&mut self) -> &mut Regions {
        &mut self.regions
    }

    /// A store has reported.
    pub fn on_store_heartbeat(
        &mut self,
        store: StoreId,
        stats: StoreStats,
        wall_ms: u64,
        now: Moment,
    ) {
        if let Some(view) = self.stores.get_mut(&store) {
            view.stats = stats;
            view.last_heartbeat_ms = wall_ms;
        }
        self.on_store_heard(store, now);
    }

    /// A store was heard of.
    pub fn on_store_heard(&mut self, store: StoreId, now: Moment) {
        if let Some(view) = self.stores.get_mut(&store) {
            view.last_heard = Some(now);
        }
    }

    /// What is known of the logs of stores.
    pub fn log(&self, store: StoreId) -> StoreLog {
        self.logs.get(&store).copied().unwrap_or_default()
    }

    /// What of the scheduler's ways can be changed.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The stores as placement sees them at `now`. Silence is counted from `opened` where a store
    /// has not been heard of since.
    pub fn cluster(&self, opened: Moment, now: Moment) -> Cluster {
        let condition = |view: &StoreView| {
            let tally = self.regions.tally(view.store.id);
            StoreCondition {
                state: view.store.state,
                health: view.health(opened, now, self.policy),
                lost_below: self.log(view.store.id).lost_below,
                peers: tally.peers,
                size_bytes: tally.size_bytes,
                arriving: 0,
                stats: view.stats,
            }
        };
        Cluster {
            replicas: self.birth.settings.replicas as usize,
            policy: self.policy,
            stores: self.stores.iter().map(|(&id, view)| (id, condition(view))).collect(),
        }
    }

    /// Carries out a command whose records are on the disk.
    pub fn apply(&mut self, command: Command) {
        match command {
            Command::Bear(birth) => self.birth = birth,
            Command::Bootstrap { store, region } => {
                assert!(!self.is_bootstrapped, "a cluster is bootstrapped once");
                self.is_bootstrapped = true;
                self.put_store(store);
                let observed = self.regions.observe(*region);
                assert!(observed.is_ok(), "before the first region there is none: {observed:?}");
                // It came with this command's records.
                self.regions.on_loaded([]);
            }
            Command::MoveWindow { end_ms } => self.window_end_ms = end_ms,
            Command::ReserveIds { end } => self.ids_end = end,
            Command::PutStore(store) => self.put_store(store),
            Command::PutLog(store, log) => {
                self.logs.insert(store, log);
            }
            Command::PutPolicy(policy) => self.policy = policy,
            Command::MoveSafePoint(safe_point) => self.safe_points.move_to(safe_point),
            Command::Hold(hold) => self.safe_points.put(hold),
            Command::Release(service) => self.safe_points.remove(&service),
            // Memory is ahead of it.
            Command::SaveRegions { .. } => {}
        }
    }

    fn put_store(&mut self, store: Store) {
        let view = match self.stores.get(&store.id) {
            Some(known) => StoreView { store, ..known.clone() },
            None => StoreView {
                store,
                last_heartbeat_ms: 0,
                last_heard: None,
                stats: StoreStats::default(),
            },
        };
        self.stores.insert(view.store.id, view);
    }
}

const BIRTH: &[u8] = b"s/birth";
const BOOTSTRAPPED: &[u8] = b"s/bootstrapped";
const WINDOW: &[u8] = b"s/window";
const IDS: &[u8] = b"s/ids";
const SAFE_POINT: &[u8] = b"s/safe-point";
const HOLD: &[u8] = b"s/hold/";
const POLICY: &[u8] = b"s/policy";
const STORE: &[u8] = b"s/store/";
const LOG: &[u8] = b"s/log/";
const REGION: &[u8] = b"s/region/";

/// Every record begins with the version of its layout.
const VERSION: u8 = 1;

impl Command {
    /// The records that change with it, in one batch.
    pub fn records(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        let mut put = |key: &[u8], body: &[u8]| {
            let mut record = vec![VERSION];
            record.extend_from_slice(body);
            batch.put(Cf::Local, key, &record);
        };
        match self {
            Self::Bear(birth) => put(BIRTH, &wire::encode_birth(birth)),
            Self::Bootstrap { store, region } => {
                put(BOOTSTRAPPED, &[]);
                put(&numbered(STORE, store.id.get()), &wire::encode_store(store));
                put(&numbered(REGION, region.region.id.get()), &wire::encode_region(region));
            }
            Self::MoveWindow { end_ms } => put(WINDOW, &end_ms.to_be_bytes()),
            Self::ReserveIds { end } => put(IDS, &end.to_be_bytes()),
            Self::PutStore(store) => {
                put(&numbered(STORE, store.id.get()), &wire::encode_store(store))
            }
            Self::PutLog(store, log) => put(&numbered(LOG, store.get()), &wire::encode_log(*log)),
            Self::PutPolicy(policy) => put(POLICY, &wire::encode_policy(*policy)),
            Self::MoveSafePoint(safe_point) => put(SAFE_POINT, &safe_point.0.to_be_bytes()),
            Self::Hold(hold) => {
                let body = [hold.safe_point.0.to_be_bytes(), hold.expires.to_be_bytes()].concat();
                put(&[HOLD, &hold.service[..]].concat(), &body);
            }
            Self::Release(service) => batch.delete(Cf::Local, &[HOLD, &service[..]].concat()),
            Self::SaveRegions { saved, gone } => {
                for report in saved {
                    put(&numbered(REGION, report.region.id.get()), &wire::encode_region(report));
                }
                for id in gone {
                    batch.delete(Cf::Local, &numbered(REGION, id.get()));
                }
            }
        }
        batch
    }
}

fn numbered(prefix: &[u8], id: u64) -> Vec<u8> {
    [prefix, &id.to_be_bytes()[..]].concat()
}

/// The state that a snapshot holds; `None` when no cluster was born there.
pub fn load(snapshot: &dyn Snapshot) -> Result<Option<State>, OpenError> {
    let Some(birth) = snapshot.get(Cf::Local, BIRTH)? else {
        return Ok(None);
    };
    let birth = body(&birth)
        .and_then(|body| wire::decode_birth(body).map_err(sentence))
        .map_err(|reason| damaged(BIRTH, reason))?;
    let mut state = State::new(birth);
    state.is_bootstrapped = snapshot.get(Cf::Local, BOOTSTRAPPED)?.is_some();
    state.window_end_ms = load_number(snapshot, WINDOW)?;
    state.ids_end = load_number(snapshot, IDS)?;
    state.safe_points.move_to(Timestamp(load_number(snapshot, SAFE_POINT)?));
    each(snapshot, HOLD, |key, body| {
        let (safe_point, expires) = body.split_at_checked(8).ok_or("it is too short")?;
        state.safe_points.put(Hold {
            service: Bytes::copy_from_slice(key),
            safe_point: Timestamp(number(safe_point)?),
            expires: number(expires)?,
        });
        Ok(())
    })?;
    each(snapshot, STORE, |_, body| {
        state.put_store(wire::decode_store(body).map_err(sentence)?);
        Ok(())
    })?;
    each(snapshot, LOG, |key, body| {
        let id = StoreId::new(number(key)?).ok_or("a store has no id")?;
        state.logs.insert(id, wire::decode_log(body).map_err(sentence)?);
        Ok(())
    })?;
    if let Some(record) = snapshot.get(Cf::Local, POLICY)? {
        state.policy = body(&record)
            .and_then(|body| wire::decode_policy(body).map_err(sentence))
            .map_err(|reason| damaged(POLICY, reason))?;
    }
    let mut on_disk = Vec::new();
    each(snapshot, REGION, |_, body| {
        let report = wire::decode_region(body).map_err(sentence)?;
        // Regions are saved behind the reports and not all at once, so one may be there that a
        // newer one has replaced.
        on_disk.push(report.region.id);
        let _ = state.regions.observe(report);
        Ok(())
    })?;
    state.regions.on_loaded(on_disk);
    Ok(Some(state))
}

/// The number under a key, 0 when there is none.
fn load_number(snapshot: &dyn Snapshot, key: &[u8]) -> Result<u64, OpenError> {
    match snapshot.get(Cf::Local, key)? {
        Some(record) => body(&record).and_then(number).map_err(|reason| damaged(key, reason)),
        None => Ok(0),
    }
}

/// Shows `take` the rest of each key that begins with `prefix`, and its record's body.
fn each(
    snapshot: &dyn Snapshot,
    prefix: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), OpenError> {
    let range = KeyRange::prefix(prefix.to_vec());
    let mut records = snapshot.iter(Cf::Local, &range, Order::Forward);
    while let Some((key, record)) = records.next()? {
        body(&record)
            .and_then(|body| take(&key[prefix.len()..], body))
            .map_err(|reason| damaged(&key, reason))?;
    }
    Ok(())
}

fn body(record: &[u8]) -> Result<&[u8], String> {
    match record {
        [VERSION, body @ ..] => Ok(body),
        [other, ..] => Err(format!("its layout is version {other}, this program knows {VERSION}")),
        [] => Err("it is empty".to_owned()),
    }
}

fn number(bytes: &[u8]) -> Result<u64, String> {
    let bytes = <[u8; 8]>::try_from(bytes).map_err(|_| "a number in it has not eight bytes")?;
    Ok(u64::from_be_bytes(bytes))
}

fn sentence(error: impl std::error::Error) -> String {
    error.to_string()
}

fn damaged(key: &[u8], reason: String) -> OpenError {
    OpenError::Damaged { key: key.escape_ascii().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kiva_base::{Epoch, Peer, PeerId, PeerRole, Region};
    use kiva_engine::Engine;
    use kiva_engine::memory::MemoryEngine;

    use super::*;
    use crate::store::StoreState;

    fn birth() -> Birth {
        Birth { cluster: ClusterId::new(77).unwrap(), settings: Settings::default(), born_ms: 5 }
    }

    fn store(id: u64) -> Store {
        Store {
            id: StoreId::new(id).unwrap(),
            address: format!("store-{id}:1"),
            peer_address: String::new(),
            status_address: "s:2".to_owned(),
            state: Default::default(),
            labels: vec![("zone".to_owned(), "north".to_owned())],
            version: "8.5.0".to_owned(),
            start_timestamp: 9,
        }
    }

    fn region(id: u64, start: &'static str, end: &'static str, version: u64) -> RegionReport {
        RegionReport::new(Region {
            id: RegionId::new(id).unwrap(),
            range: KeyRange::new(start, end).unwrap(),
            epoch: Epoch { conf_ver: 1, version },
            peers: vec![Peer {
                id: PeerId::new(id + 1).unwrap(),
                store: StoreId::new(1).unwrap(),
                role: PeerRole::Voter,
            }],
        })
    }

    /// Carries out commands in memory and on an engine, and loads the latter.
    fn both(commands: impl IntoIterator<Item = Command>) -> (State, State) {
        let engine = MemoryEngine::new();
        let mut state = State::new(birth());
        for command in commands {
            engine.write(&command.records()).unwrap();
            state.apply(command);
        }
        let loaded = load(&*engine.snapshot()).unwrap().expect("it was born");
        (state, loaded)
    }

    /// Covers 3C-info-load.
    #[test]
    fn what_was_saved_is_loaded() {
        let hold = |service, safe_point| {
            Command::Hold(Hold {
                service: Bytes::from_static(service),
                safe_point: Timestamp(safe_point),
                expires: 100,
            })
        };
        let (state, loaded) = both([
            Command::Bear(birth()),
            Command::Bootstrap { store: store(1), region: Box::new(region(2, "", "", 1)) },
            Command::MoveWindow { end_ms: 42 },
            Command::ReserveIds { end: 1_001 },
            Command::PutStore(store(3)),
            Command::PutStore(Store { state: StoreState::Lost, ..store(4) }),
            Command::PutLog(store(3).id, StoreLog { position: 70, lost_below: 9 }),
            Command::PutPolicy(Policy { store_down: Duration::from_millis(1_500) }),
            Command::MoveSafePoint(Timestamp(8)),
            hold(b"one", 10),
            hold(b"two", 9),
            Command::Release(Bytes::from_static(b"two")),
        ]);
        assert_eq!(loaded.birth(), birth());
        assert!(loaded.is_bootstrapped());
        assert_eq!(loaded.window_end_ms(), 42);
        assert_eq!(loaded.ids_end(), 1_001);
        assert_eq!(loaded.stores(), state.stores());
        assert_eq!(loaded.log(store(3).id), StoreLog { position: 70, lost_below: 9 });
        assert_eq!(loaded.policy().store_down, Duration::from_millis(1_500));
        assert_eq!(loaded.safe_points(), state.safe_points());
        assert!(loaded.regions().iter().eq(state.regions().iter()));
    }

    #[test]
    fn a_region_that_was_replaced_is_not_loaded() {
        // The pieces of a split were saved in two rounds, and the second never came.
        let (_, mut loaded) = both([
            Command::Bear(birth()),
            Command::SaveRegions { saved: vec![region(2, "", "", 1)], gone: vec![] },
            Command::SaveRegions { saved: vec![region(4, "m", "", 2)], gone: vec![] },
        ]);
        let found: Vec<_> = loaded.regions().iter().map(|r| r.region.id.get()).collect();
        assert_eq!(found, [4]);
        let old = RegionId::new(2).unwrap();
        assert_eq!(loaded.regions_mut().take_unsaved(9), [old], "its record is to be removed");
    }

    #[test]
    fn an_empty_directory_holds_no_cluster() {
        assert!(load(&*MemoryEngine::new().snapshot()).unwrap().is_none());
    }

    #[test]
    fn a_damaged_record_is_named() {
        for record in [&b""[..], b"\x02", b"\x01\0\0"] {
            let engine = MemoryEngine::new();
            engine.write(&Command::Bear(birth()).records()).unwrap();
            let mut batch = WriteBatch::new();
            batch.put(Cf::Local, WINDOW, record);
            engine.write(&batch).unwrap();
            let error = load(&*engine.snapshot()).unwrap_err().to_string();
            assert!(error.contains("`s/window` is damaged"), "{error}");
        }
    }
}
