//! The commands of the scripts. They act on a scheduler over a memory engine, with a clock that
//! only `pass` moves, and on regions as their leaders have them.
//!
//! Ids up to 99 are given out at the start, so that scripts may name stores, regions and peers;
//! what the scheduler gives out itself begins at 100. A peer is written `3@1`, peer 3 on store 1,
//! or `3@1-learner`; a range `a/b`, with `_` where it is unbounded; an epoch `1.2`, the version
//! last; a list `x/y/z` or `none`. An instruction is printed as `→ leader region epoch: what`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goldenscript::Argument;
use kiva_base::clock::BoxFuture;
use kiva_base::{
    Clock, ClusterId, Epoch, KeyRange, Moment, Peer, PeerId, PeerRole, Region, RegionId, StoreId,
    Term,
};
use kiva_engine::memory::MemoryEngine;
use kiva_scheduler::operator::{Wanted, WantedKind};
use kiva_scheduler::regions::DownPeer;
use kiva_scheduler::{
    Instruction, Options, Policy, RegionReport, Scheduler, Store, StoreState, StoreStats,
    WantedSettings,
};
use kiva_testkit::script::{Arguments, ScriptError, parse_bytes};

use super::{model, print};

/// Ids that scripts may use.
const IDS: u32 = 99;

/// A clock that only the script moves.
#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Moment {
        Moment::after_start(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }

    fn wall_ms(&self) -> u64 {
        1_000_000 + self.0.load(Ordering::Relaxed)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A scheduler, and what the leaders of regions know.
pub(crate) struct Runner {
    engine: MemoryEngine,
    clock: Arc<HandClock>,
    scheduler: Scheduler,
    leaders: BTreeMap<u64, RegionReport>,
    /// The last instruction for each region.
    told: BTreeMap<u64, Instruction>,
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, ScriptError> {
        let args = Arguments::of(command);
        let lines = match command.name.as_str() {
            "cluster" => self.cluster(args)?,
            "join" => self.join(args)?,
            "beat" => self.beat(args)?,
            "pass" => self.pass(args)?,
            "log" => self.log(args)?,
            "report" => self.report(args)?,
            "obey" => self.obey(args)?,
            "patrol" => self.patrol()?,
            "maintain" => self.maintain()?,
            "want" => self.want(args)?,
            "restart" => self.restart()?,
            "policy" => self.policy(args)?,
            "operators" => self.scheduler.operators().iter().map(print::operator).collect(),
            "find" => self.find(args)?,
            "regions" => self.regions()?,
            "stores" => self.stores()?,
            name => return Err(format!("unknown command {name}").into()),
        };
        Ok(lines.join("\n"))
    }
}

impl Runner {
    pub(crate) fn new() -> Self {
        let (engine, clock) = (MemoryEngine::new(), Arc::new(HandClock::default()));
        let scheduler = open(&engine, &clock, None);
        scheduler.ids(IDS).unwrap();
        Self { engine, clock, scheduler, leaders: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// cluster STORE… [replicas=N]: a new cluster of these stores. Region 10 has all keys, and its
    /// only peer, 11, is on the first of them. Checks have begun, the others have just joined.
    fn cluster(&mut self, mut args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let replicas = args.number_or("replicas", 3)?;
        let ids: Vec<StoreId> = rest(args)?;
        let [first, others @ ..] = &ids[..] else {
            return Err("a cluster has a store".into());
        };
        *self = Self { engine: MemoryEngine::new(), ..Self::new() };
        self.scheduler = open(&self.engine, &self.clock, Some(replicas));
        self.scheduler.ids(IDS)?;
        let peer = Peer { id: id(11)?, store: *first, role: PeerRole::Voter };
        let region = RegionReport::new(Region {
            id: RegionId::new(10).unwrap(),
            range: KeyRange::ALL,
            epoch: Epoch::FIRST,
            peers: vec![peer],
        });
        self.scheduler.bootstrap(store(*first), region.clone())?;
        self.send(RegionReport { term: Term(6), ..region });
        let told = self.patrol()?;
        for other in others {
            self.scheduler.put_store(store(*other))?;
        }
        Ok(told)
    }

    /// join STORE [address=STORE]: a store joins, at its own address or at that of another.
    fn join(&mut self, mut args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let address = args.text("address").map(str::to_owned);
        let id: StoreId = parse(args.next("a store")?)?;
        args.finish()?;
        let at: StoreId = address.map_or(Ok(id), |text| parse(&text))?;
        let newcomer = Store { address: store(at).address, ..store(id) };
        Ok(refused(self.scheduler.put_store(newcomer)))
    }

    /// beat STORE… [capacity=N] [available=N] [busy=true]: stores report that they live.
    fn beat(&mut self, mut args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let stats = StoreStats {
            capacity: args.number_or("capacity", 0)?,
            available: args.number_or("available", 0)?,
            is_busy: args.flag("busy")?,
            ..StoreStats::default()
        };
        let mut lines = Vec::new();
        for store in rest::<StoreId>(args)? {
            lines.extend(refused(self.scheduler.on_store_heartbeat(store.get(), stats)));
        }
        Ok(lines)
    }

    /// pass SECONDS [alive=STORE/…]: time passes, and these stores report afterwards.
    fn pass(&mut self, mut args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let alive = list::<StoreId>(args.text("alive"))?;
        let seconds: u64 = args.next("seconds")?.parse()?;
        args.finish()?;
        self.clock.0.fetch_add(seconds * 1_000, Ordering::Relaxed);
        for store in alive {
            self.scheduler.on_store_heartbeat(store.get(), StoreStats::default())?;
        }
        Ok(Vec::new())
    }

    /// log STORE POSITION [start=true]: a store says how far its log is.
    fn log(&mut self, mut args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let is_start = args.flag("start")?;
        let store: StoreId = parse(args.next("a store")?)?;
        let position = args.next("a position")?.parse()?;
        args.finish()?;
        Ok(match self.scheduler.report_log(store.get(), position, is_start) {
            Ok(log) => vec![format!("position={} lost_below={}", log.position, log.lost_below)],
            Err(refusal) => vec![refusal.to_string()],
        })
    }

    /// report REGION [range=RANGE] [epoch=EPOCH] [peers=PEER/…] [leader=PEER ID] [term=N]
    /// [pending=PEER ID/…] [down=PEER ID-SECONDS/…] [size=N] [joint=true]: a leader reports its
    /// region as it was, but for what is given. A refused report is forgotten by its leader.
    fn report(&mut self, mut args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let (range, epoch) = (args.text("range"), args.text("epoch"));
        let (peers, leader, term) = (args.text("peers"), args.text("leader"), args.text("term"));
        let (pending, down) = (args.text("pending"), args.text("down"));
        let (size, is_joint) = (args.text("size"), args.flag("joint")?);
        let region: u64 = args.next("a region")?.parse()?;
        args.finish()?;
        let new = || {
            RegionReport::new(Region {
                id: RegionId::new(region).unwrap(),
                range: KeyRange::ALL,
                epoch: Epoch::FIRST,
                peers: Vec::new(),
            })
        };
        let mut report = self.leaders.get(&region).cloned().unwrap_or_else(new);
        report.term = term.map_or(Ok(report.term.max(Term(6))), |term| term.parse().map(Term))?;
        report.is_joint = is_joint;
        if let Some(range) = range {
            let (start, end) = range.split_once('/').ok_or("a range is written a/b")?;
            let bound = |text| if text == "_" { Ok(Vec::new()) } else { parse_bytes(text) };
            let bounds = (bound(start)?, bound(end)?);
            report.region.range = KeyRange::new(bounds.0, bounds.1).ok_or("no range")?;
        }
        if let Some(epoch) = epoch {
            let (conf_ver, version) = epoch.split_once('.').ok_or("an epoch is written 1.2")?;
            report.region.epoch = Epoch { conf_ver: conf_ver.parse()?, version: version.parse()? };
        }
        if let Some(peers) = peers {
            report.region.peers = items(peers).map(parse_peer).collect::<Result<_, _>>()?;
            let first = report.region.peers.first().copied();
            let same = |leader: &Peer| report.region.peers.iter().any(|peer| peer.id == leader.id);
            report.leader = report.leader.filter(same).or(first);
        }
        if let Some(leader) = leader {
            report.leader = Some(member(&report, leader)?);
        }
        if let Some(pending) = pending {
            let pending = items(pending).map(|id| member(&report, id));
            report.pending = pending.collect::<Result<_, _>>()?;
        }
        if let Some(down) = down {
            let parse = |text: &str| -> Result<DownPeer, ScriptError> {
                let (id, seconds) = text.split_once('-').ok_or("down is written PEER-SECONDS")?;
                Ok(DownPeer { peer: member(&report, id)?, seconds: seconds.parse()? })
            };
            report.down = items(down).map(parse).collect::<Result<_, _>>()?;
        }
        if let Some(size) = size {
            report.size_bytes = size.parse()?;
        }
        Ok(self.send(report))
    }

    /// obey REGION [pending=true] [all=true]: the leader does what it was last told, and reports.
    /// With `all` it goes on until it is told nothing more. New peers are behind with `pending`.
    fn obey(&mut self, mut args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let (is_pending, all) = (args.flag("pending")?, args.flag("all")?);
        let region: u64 = args.next("a region")?.parse()?;
        args.finish()?;
        let mut lines = Vec::new();
        while let Some(instruction) = self.told.remove(&region) {
            let report = self.leaders.get(&region).ok_or("no leader knows it")?;
            let Some(reports) = model::obey(report, &instruction, is_pending) else {
                lines.push("passed over".to_owned());
                break;
            };
            for report in reports {
                lines.push(print::region(&report));
                self.told.remove(&region);
                lines.extend(self.send(report));
            }
            if !all {
                break;
            }
        }
        Ok(lines)
    }

    /// patrol: the keeper's round, which saves what was put off first.
    fn patrol(&mut self) -> Result<Vec<String>, ScriptError> {
        self.scheduler.maintain()?;
        let told = self.scheduler.patrol();
        Ok(told.into_iter().map(|instruction| self.hear(instruction)).collect())
    }

    /// maintain: the keeper saves what was put off.
    fn maintain(&mut self) -> Result<Vec<String>, ScriptError> {
        self.scheduler.maintain()?;
        Ok(Vec::new())
    }

    /// want transfer-leader|add-peer|remove-peer REGION STORE: an operator by hand.
    fn want(&mut self, mut args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let kind = match args.next("a kind")? {
            "transfer-leader" => WantedKind::TransferLeader,
            "add-peer" => WantedKind::AddPeer,
            "remove-peer" => WantedKind::RemovePeer,
            kind => return Err(format!("unknown kind {kind}").into()),
        };
        let (region, store) = (args.next("a region")?.parse()?, args.next("a store")?.parse()?);
        args.finish()?;
        Ok(match self.scheduler.add_operator(Wanted { kind, region, store }) {
            Ok((view, instruction)) => {
                let told = instruction.map(|instruction| self.hear(instruction));
                [print::operator(&view)].into_iter().chain(told).collect()
            }
            Err(refusal) => vec![refusal.to_string()],
        })
    }

    /// restart: the scheduler is killed and started again.
    fn restart(&mut self) -> Result<Vec<String>, ScriptError> {
        self.engine = self.engine.crash(0);
        self.scheduler = open(&self.engine, &self.clock, None);
        Ok(Vec::new())
    }

    /// policy [store_down=SECONDS]
    fn policy(&mut self, mut args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let store_down = Duration::from_secs(args.required("store_down")?.parse()?);
        args.finish()?;
        self.scheduler.set_policy(Policy { store_down })?;
        Ok(Vec::new())
    }

    /// find KEY…: the regions that hold them.
    fn find(&mut self, args: Arguments<'_>) -> Result<Vec<String>, ScriptError> {
        let mut lines = Vec::new();
        for key in rest::<String>(args)? {
            let found = self.scheduler.region_by_key(&parse_bytes(&key)?)?;
            let found = found.map_or("no region".to_owned(), |report| print::region(&report));
            lines.push(format!("{key}: {found}"));
        }
        Ok(lines)
    }

    /// regions: all, in key order.
    fn regions(&mut self) -> Result<Vec<String>, ScriptError> {
        let found = self.scheduler.regions(&KeyRange::ALL, usize::MAX)?;
        Ok(found.iter().map(|report| print::region(report)).collect())
    }

    /// stores: all, and what they have of the regions.
    fn stores(&mut self) -> Result<Vec<String>, ScriptError> {
        let stores = self.scheduler.stores();
        let found = stores.iter().map(|view| self.scheduler.describe_store(view.store.id.get()));
        Ok(found.collect::<Result<Vec<_>, _>>()?.iter().map(print::store).collect())
    }

    fn send(&mut self, report: RegionReport) -> Vec<String> {
        match self.scheduler.on_region_heartbeat(report.clone()) {
            Ok(instruction) => {
                self.leaders.insert(report.region.id.get(), report);
                instruction.map(|instruction| self.hear(instruction)).into_iter().collect()
            }
            Err(refusal) => vec![refusal.to_string()],
        }
    }

    fn hear(&mut self, instruction: Instruction) -> String {
        let line = print::instruction(&instruction);
        self.told.insert(instruction.region.get(), instruction);
        line
    }
}

fn open(engine: &MemoryEngine, clock: &Arc<HandClock>, replicas: Option<u32>) -> Scheduler {
    let options = Options {
        cluster_id_if_new: ClusterId::new(7).unwrap(),
        settings: WantedSettings { replicas, ..WantedSettings::default() },
    };
    Scheduler::open(Arc::new(engine.clone()), clock.clone(), options).unwrap()
}

fn store(id: StoreId) -> Store {
    Store {
        id,
        address: format!("store-{id}:1"),
        peer_address: String::new(),
        status_address: String::new(),
        state: StoreState::Up,
        labels: Vec::new(),
        version: "8.5.0".to_owned(),
        start_timestamp: 0,
    }
}

fn refused<T, E: std::fmt::Display>(outcome: Result<T, E>) -> Vec<String> {
    outcome.err().map(|refusal| refusal.to_string()).into_iter().collect()
}

/// Something that scripts name by one word.
trait Word: Sized {
    fn read(text: &str) -> Option<Self>;
}

impl Word for StoreId {
    fn read(text: &str) -> Option<Self> {
        Self::new(text.parse().ok()?)
    }
}

impl Word for String {
    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

fn parse<T: Word>(text: &str) -> Result<T, ScriptError> {
    T::read(text).ok_or_else(|| format!("what is {text}?").into())
}

fn rest<T: Word>(args: Arguments<'_>) -> Result<Vec<T>, ScriptError> {
    let word = |argument: &Argument| match argument {
        Argument::Positional(text) => parse(text),
        argument => Err(format!("unknown argument {argument}").into()),
    };
    args.rest().map(word).collect()
}

fn list<T: Word>(text: Option<&str>) -> Result<Vec<T>, ScriptError> {
    text.into_iter().flat_map(items).map(parse).collect()
}

/// The words of a list.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split('/').filter(|word| *word != "none")
}

fn id(number: u64) -> Result<PeerId, ScriptError> {
    PeerId::new(number).ok_or_else(|| "zero names nothing".into())
}

fn parse_peer(text: &str) -> Result<Peer, ScriptError> {
    let (text, role) = match text.strip_suffix("-learner") {
        Some(text) => (text, PeerRole::Learner),
        None => (text, PeerRole::Voter),
    };
    let (number, store) = text.split_once('@').ok_or("a peer is written 3@1")?;
    Ok(Peer { id: id(number.parse()?)?, store: parse(store)?, role })
}

/// The peer of a region with this id.
fn member(report: &RegionReport, text: &str) -> Result<Peer, ScriptError> {
    let id = id(text.parse()?)?;
    let found = report.region.peers.iter().copied().find(|peer| peer.id == id);
    found.ok_or_else(|| format!("the region has no peer {id}").into())
}
