//! A cluster of the product in one thread: stores, a scheduler and clients, from one seed.
//!
//! Every store is the product's own code: its loop, its apply loop, its log on a simulated disk,
//! `data` in the memory engine, and the executor that serves commands. What is simulated is what
//! lies below and between them: disks, clocks, the network, and the scheduler.
//!
//! ```text
//!   clients ──door──▶ store 1 ◀──frames, streams──▶ store 2 …      every arrow is a Network
//!   scheduler ◀─door─▶   │
//!                     Process ── log ─▶ MemoryDisk
//!                        └─────── data ▶ MemoryEngine
//! ```
//!
//! One step of a world is one of: deliver a frame, a piece of a snapshot or a word; run one round
//! of one store; let its log writer write or sync; let it apply; let it do one task or tidy up. In
//! between, faults happen and clients are polled ([`super::play`]).

mod check;
mod client;
mod machine;
mod message;
mod plan;
mod process;
mod scheduler;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kiva_base::{
    Clock, Epoch, KeyRange, Moment, Peer, PeerId, PeerRole, Region, RegionId, StoreId,
};
use kiva_engine::Engine;
use kiva_raftstore::options::Options;
use kiva_raftstore::transport::Content;
use kiva_raftstore::wire;

pub use self::plan::{Work, run};

use self::check::{Check, data_of};
use self::client::{Directory, WorldClient, serve};
use self::machine::Machine;
use self::message::{Piece, Reply, Request, Word};
use self::process::Sent;
use self::scheduler::Scheduler;
use super::calls::{Call, CallId, Calls};
use super::{
    Chance, Cluster, Delivery, Fault, Host, Kit, Link, LocalClock, Network, Rng, Stop, Time,
};
use crate::workload::KvClient;

/// The one region that there is in the beginning.
const REGION: RegionId = RegionId::new(1).expect("not zero");

/// The scheduler's name.
const SCHEDULER: Host = Host::Scheduler(1);

/// What a cluster is like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many stores; each has a peer of the first region.
    pub stores: u64,
    /// Settings of all peers. Every life of a store draws its own seed.
    pub options: Options,
    /// Bytes of a file of the log: small, so that files are dropped and used again.
    pub segment_size: u64,
    /// Bytes of entries that the log keeps in memory.
    pub log_cache_bytes: usize,
    /// Bytes of a chunk of a snapshot: small, so that it takes many.
    pub chunk_size: usize,
    /// Whether stores apply in a step of its own.
    pub applies_apart: bool,
    /// Whether the world shakes the members of groups too, not only their leaders.
    pub churns: bool,
}

impl Setup {
    /// Drawn: three or five stores, with short or long logs.
    pub fn draw(rng: &Rng) -> Self {
        let mut rng = rng.stream("setup");
        let mut options = Options::new(0);
        options.report_ticks = 4;
        options.doubt_ticks = 60;
        options.compact_ticks = 1 + rng.number(0..40);
        options.log_entries_max = [10, 100, 100, 128_000][rng.position(4)];
        Self {
            stores: if rng.happens(Chance::percent(30)) { 5 } else { 3 },
            options,
            segment_size: [4096, 16_384, 65_536][rng.position(3)],
            log_cache_bytes: [0, 4096, 1 << 20][rng.position(3)],
            chunk_size: [64, 300, 4096][rng.position(3)],
            applies_apart: rng.happens(Chance::percent(50)),
            churns: false,
        }
    }
}

type Replies = Arc<Mutex<VecDeque<(Host, Host, CallId, Reply)>>>;

/// The cluster.
pub struct World {
    setup: Setup,
    rng: Rng,
    time: Time,
    machines: Vec<Machine>,
    frames: Network<Bytes>,
    /// For snapshots: connections that lose and delay, and neither repeat nor reorder.
    streams: Network<Piece>,
    /// Between everybody and the scheduler, and clients and stores.
    door: Network<Word>,
    scheduler: Scheduler,
    directory: Directory,
    calls: Calls<Request, Reply>,
    replies: Replies,
    check: Check,
    streams_made: u64,
    is_calm: bool,
}

/// One thing that can be done.
enum Step {
    Ask,
    Answer,
    Frame,
    Piece,
    Word,
    Round(usize),
    Write(usize),
    Sync(usize),
    Apply(usize),
    Task(usize),
    Tidy(usize),
    Break(usize),
}

impl World {
    /// A cluster that has just been founded: its first region has a peer on every store.
    pub fn new(kit: &Kit, setup: Setup) -> Self {
        let ids: Vec<_> =
            (1..=setup.stores).map(|id| StoreId::new(id).expect("from one")).collect();
        let directory = Directory::default();
        let scheduler = Scheduler::new(directory.clone(), ids.clone(), setup.stores, 1);
        let mut world = Self {
            rng: kit.rng.stream("world"),
            time: kit.time.clone(),
            machines: Vec::new(),
            frames: Network::new(kit.rng.stream("frames"), Link::GOOD),
            streams: Network::new(kit.rng.stream("streams"), Link::GOOD),
            door: Network::new(kit.rng.stream("door"), Link::GOOD),
            scheduler,
            directory,
            calls: Calls::default(),
            replies: Replies::default(),
            check: Check::default(),
            streams_made: 0,
            is_calm: false,
            setup,
        };
        let peers = ids.iter().map(|store| Peer {
            id: PeerId::new(store.get()).expect("not zero"),
            store: *store,
            role: PeerRole::Voter,
        });
        let peers = peers.collect();
        let region = Region { id: REGION, range: KeyRange::ALL, epoch: Epoch::FIRST, peers };
        world.directory.set(region.clone(), None);
        for id in ids {
            let rng = kit.rng.numbered("machine", id.get());
            let mut machine = Machine::new(id, kit.time.clock(), rng);
            machine.bootstrap(region.clone());
            machine.start(&world.setup, kit.time.now(), &mut world.check);
            world.machines.push(machine);
        }
        world
    }

    /// How many applied entries each log still has, for whoever checks that logs are cut.
    pub fn log_lengths(&self) -> Vec<u64> {
        let processes = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        let states = processes.flat_map(|process| process.apply.states());
        states.map(|(_, state)| state.applied.index.since(state.truncated.index)).collect()
    }

    fn position(host: Host) -> Option<usize> {
        match host {
            Host::Store(id) => Some(id.get() as usize - 1),
            _ => None,
        }
    }

    fn machine(&mut self, host: Host) -> &mut Machine {
        let position = Self::position(host).expect("faults hit stores");
        &mut self.machines[position]
    }

    /// Goes through what can be done now, until `take` has had enough.
    fn each_step(&self, now: Moment, take: &mut dyn FnMut(Step) -> bool) -> bool {
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        let has_replies = !self.replies.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        (self.calls.has_asked() && take(Step::Ask))
            || (has_replies && take(Step::Answer))
            || (is_due(self.frames.next_at()) && take(Step::Frame))
            || (is_due(self.streams.next_at()) && take(Step::Piece))
            || (is_due(self.door.next_at()) && take(Step::Word))
            || self.machines.iter().enumerate().any(|(position, machine)| {
                let Some(process) = machine.running() else { return false };
                (process.can_round(machine.clock.now()) && take(Step::Round(position)))
                    || (process.can_write() && take(Step::Write(position)))
                    || (is_due(process.sync_due()) && take(Step::Sync(position)))
                    || (process.can_apply() && take(Step::Apply(position)))
                    || (process.can_run_task() && take(Step::Task(position)))
                    || (process.tidy_at <= now && take(Step::Tidy(position)))
                    || (is_due(process.stream_due()) && take(Step::Break(position)))
            })
    }

    fn note(&self, kit: &Kit, host: Host, event: std::fmt::Arguments<'_>) {
        kit.trace.record(self.time.now(), host, event);
    }

    fn take_up(&mut self, step: Step, kit: &mut Kit) {
        let now = self.time.now();
        match step {
            Step::Ask => {
                while let Some(Call { id, from, to, question }) = self.calls.next_asked() {
                    self.door.send(now, from, to, Word::Asked(id, Box::new(question)));
                }
            }
            Step::Answer => {
                let replies = std::mem::take(
                    &mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner),
                );
                for (from, to, call, reply) in replies {
                    self.door.send(now, from, to, Word::Told(call, reply));
                }
            }
            Step::Frame => self.deliver_frame(now, kit),
            Step::Piece => self.deliver_piece(now, kit),
            Step::Word => self.deliver_word(now, kit),
            Step::Round(position) => self.round(position, kit),
            Step::Write(position) => {
                let due = self.machines[position].sync_due(now);
                self.with(position, kit, "writes its log", |process, _| process.write_log(due));
            }
            Step::Sync(position) => {
                self.machines[position].arm();
                self.with(position, kit, "syncs its log", |process, _| process.sync_log());
            }
            Step::Apply(position) => {
                self.with(position, kit, "applies", |process, check| process.apply(check));
            }
            Step::Task(position) => {
                self.with(position, kit, "does a task", |process, check| process.run_task(check));
            }
            Step::Tidy(position) => {
                let machine = &mut self.machines[position];
                let next = machine.next_tidy(now);
                let local = machine.clock.now();
                let mut rng = Rng::seeded(machine.rng().next_u64());
                self.with(position, kit, "tidies up", |process, _| {
                    process.tidy_at = next;
                    process.tidy(local, &mut rng)
                });
            }
            Step::Break(position) => {
                self.with(position, kit, "breaks a stream", |process, _| {
                    process.break_streams(now);
                    Ok(())
                });
            }
        }
    }

    /// One thing that a process does. An error is its end.
    fn with(
        &mut self,
        position: usize,
        kit: &mut Kit,
        what: &str,
        act: impl FnOnce(&mut process::Process, &mut Check) -> Result<(), process::Ended>,
    ) {
        let host = self.machines[position].host;
        self.note(kit, host, format_args!("{what}"));
        let process = self.machines[position].process.as_mut().expect("it runs");
        if let Err(error) = act(process, &mut self.check) {
            self.end(position, error, kit);
        }
    }

    fn end(&mut self, position: usize, error: process::Ended, kit: &mut Kit) {
        let host = self.machines[position].host;
        self.note(kit, host, format_args!("ends: {error}"));
        self.machines[position].fail(error, &mut self.check);
        self.cut_off(host, kit);
    }

    /// Nobody is there any more: what was on its way is lost, and who was served hears nothing.
    fn cut_off(&mut self, host: Host, kit: &mut Kit) {
        self.frames.lose_messages_to(host);
        self.streams.lose_messages_to(host);
        self.door.lose_messages_to(host);
        kit.executor.drop_owned_by(host);
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        replies.retain(|(from, ..)| *from != host);
    }

    fn round(&mut self, position: usize, kit: &mut Kit) {
        let now = self.time.now();
        let machine = &mut self.machines[position];
        let (host, local) = (machine.host, machine.clock.now());
        let process = machine.process.as_mut().expect("it runs");
        let chunk_size = self.setup.chunk_size;
        let sent = process.round(local, now, &mut self.streams_made, chunk_size, &mut self.check);
        match sent {
            Ok(sent) => {
                self.send(host, sent);
                self.look_at(position, kit);
            }
            Err(error) => self.end(position, error, kit),
        }
    }

    /// What a store is after a round.
    fn look_at(&mut self, position: usize, kit: &Kit) {
        let machine = &self.machines[position];
        let Some(process) = &machine.process else { return };
        for status in process.store.statuses() {
            let (peer, raft) = (&status.peer, &status.raft);
            kit.trace.record(
                self.time.now(),
                machine.host,
                format_args!(
                    "peer {} {:?} term {} commit {} last {} applied {}",
                    peer.id,
                    raft.role,
                    raft.hard_state.term,
                    raft.hard_state.commit,
                    raft.last,
                    status.state.applied.index
                ),
            );
            self.check.on_round(machine.id, &status);
        }
        if !process.router.holds_lease(REGION) {
            return;
        }
        for other in &self.machines {
            let holds = |process: &process::Process| process.router.holds_lease(REGION);
            if other.id != machine.id && other.process.as_ref().is_some_and(holds) {
                let (one, other) = (machine.host, other.host);
                self.check.fail(format!("{one} and {other} hold a lease at the same time"));
            }
        }
    }

    fn send(&mut self, from: Host, sent: Sent) {
        let now = self.time.now();
        for (to, frame) in sent.frames {
            self.frames.send(now, from, Host::Store(to), frame);
        }
        for (to, piece) in sent.pieces {
            self.streams.send(now, from, Host::Store(to), piece);
        }
        for report in sent.reports {
            self.door.send(now, from, SCHEDULER, Word::Report(report));
        }
        for (record, peer) in sent.doubts {
            self.door.send(now, from, SCHEDULER, Word::Doubt(record, peer));
        }
    }

    fn deliver_frame(&mut self, now: Moment, kit: &Kit) {
        let Some(Delivery { from, to, message, .. }) = self.frames.deliver(now) else { return };
        let envelopes = wire::decode_frame(message).expect("a frame of ours decodes");
        let names: Vec<_> = envelopes
            .iter()
            .map(|envelope| match &envelope.content {
                Content::Raft(message) => message.body.name(),
                Content::Removed => "Removed",
            })
            .collect();
        self.note(kit, to, format_args!("gets from {from}: {names:?}"));
        if let Some(process) = &self.machine(to).process {
            process.inbox.deliver(envelopes);
        }
    }

    fn deliver_piece(&mut self, now: Moment, kit: &Kit) {
        let Some(Delivery { from, to, message, .. }) = self.streams.deliver(now) else { return };
        let Host::Store(from) = from else { return };
        self.note(kit, to, format_args!("gets a piece of stream {}", message.stream));
        let machine = self.machine(to);
        let local = machine.clock.now();
        let Some(process) = &mut machine.process else { return };
        let sent = process.on_piece(from, message, local, now);
        self.send(to, sent);
    }

    fn deliver_word(&mut self, now: Moment, kit: &mut Kit) {
        let Some(Delivery { from, to, message, .. }) = self.door.deliver(now) else { return };
        match message {
            Word::Asked(call, request) => self.serve(from, to, call, *request, kit),
            Word::Told(call, reply) => self.calls.answer(call, reply),
            Word::Report(report) => match self.scheduler.on_report(report, now) {
                Ok(Some((store, step))) => {
                    self.note(kit, SCHEDULER, format_args!("wants {step:?}"));
                    self.door.send(now, SCHEDULER, Host::Store(store), Word::Step(step));
                }
                Ok(None) => {}
                Err(error) => self.check.fail(error),
            },
            Word::Doubt(record, peer) => {
                if let Some(step) = self.scheduler.on_doubt(&record, peer) {
                    self.note(kit, SCHEDULER, format_args!("says {step:?}"));
                    self.door.send(now, SCHEDULER, Host::Store(peer.store), Word::Step(step));
                }
            }
            Word::Step(step) => {
                if let Some(process) = &self.machine(to).process {
                    process.router.take(step);
                }
            }
        }
    }

    fn serve(&mut self, client: Host, host: Host, call: CallId, request: Request, kit: &mut Kit) {
        self.note(kit, host, format_args!("is asked by {client}: {:?}", request.question));
        let Some(process) = &self.machine(host).process else { return };
        let executor = process.executor.clone();
        let replies = Arc::clone(&self.replies);
        kit.executor.start(host, "request", async move {
            let reply = serve(&executor, request).await;
            let mut replies = replies.lock().unwrap_or_else(PoisonError::into_inner);
            replies.push_back((host, client, call, reply));
        });
    }

    fn calm(&mut self, kit: &mut Kit) {
        let now = self.time.now();
        self.is_calm = true;
        self.frames.heal();
        self.streams.heal();
        self.set_links(&Link::GOOD);
        self.scheduler.drop_goals();
        for machine in &mut self.machines {
            if machine.is_paused {
                kit.executor.resume(machine.host);
                machine.is_paused = false;
            }
            machine.clock.set_drift(0);
            machine.recover(now);
            machine.start(&self.setup, now, &mut self.check);
        }
    }

    fn set_links(&mut self, link: &Link) {
        self.frames.set_usual(link.clone());
        let steady = Link { repeat: Chance::NEVER, overtake: Chance::NEVER, ..link.clone() };
        self.streams.set_usual(steady.clone());
        self.door.set_usual(Link { overtake: link.overtake, ..steady });
    }

    /// Whether the group is sure to do without one of its disks: all of it is here and the same,
    /// nothing is in its logs that is not applied, and nobody is about to change it.
    fn may_lose_a_disk(&self) -> bool {
        let Some(record) = self.scheduler.record(REGION) else { return false };
        let is_even = |machine: &Machine| {
            machine.running().is_some_and(|process| {
                process.store.statuses().all(|status| {
                    let is_same = status.record.as_ref().is_some_and(|it| **it == *record);
                    is_same && status.raft.last == status.state.applied.index
                })
            })
        };
        self.machines.iter().all(is_even)
            && !self.scheduler.has_goals()
            && self.scheduler.may_lose(REGION)
    }

    /// Asks the scheduler to bring something about.
    fn shake(&mut self, lot: u64) {
        self.scheduler.shake(REGION, lot, self.setup.churns);
    }
}

impl Cluster for World {
    fn hosts(&self) -> Vec<Host> {
        self.machines.iter().map(|machine| machine.host).collect()
    }

    fn client(&mut self, number: u64) -> (Arc<dyn KvClient>, Arc<dyn Clock>) {
        let clock: LocalClock = self.time.clock();
        let client = WorldClient {
            host: Host::Client(number),
            directory: self.directory.clone(),
            calls: self.calls.clone(),
            clock: clock.clone(),
            state: Mutex::default(),
        };
        (Arc::new(client), Arc::new(clock))
    }

    fn can_step(&self, now: Moment) -> bool {
        self.each_step(now, &mut |_| true)
    }

    fn step(&mut self, kit: &mut Kit) {
        let mut steps = Vec::new();
        self.each_step(kit.time.now(), &mut |step| {
            steps.push(step);
            false
        });
        let lot = self.rng.position(steps.len());
        self.take_up(steps.swap_remove(lot), kit);
    }

    fn next_at(&self) -> Option<Moment> {
        let machines = self.machines.iter().filter_map(|machine| {
            let process = machine.running()?;
            let tick = machine.clock.true_time_of(process.store.next_tick());
            let dues = [process.sync_due(), process.stream_due(), Some(process.tidy_at)];
            dues.into_iter().flatten().chain([tick]).min()
        });
        let networks = [self.frames.next_at(), self.streams.next_at(), self.door.next_at()];
        machines.chain(networks.into_iter().flatten()).min()
    }

    fn commit(&mut self, fault: &Fault, kit: &mut Kit) {
        let now = self.time.now();
        match fault {
            Fault::Stop(host, Stop::DiskLost) if !self.may_lose_a_disk() => {
                self.note(kit, *host, format_args!("keeps its disk, which the group needs"));
                self.commit(&Fault::Stop(*host, Stop::PowerLost), kit);
            }
            Fault::Stop(host, stop) => {
                let position = Self::position(*host).expect("faults hit stores");
                let machine = &mut self.machines[position];
                machine.stop(*stop, &mut self.check);
                if *stop == Stop::DiskLost {
                    let below = self.scheduler.peers_made() + 1;
                    machine.forget_below(below);
                    self.scheduler.lose(machine.id, below);
                }
                self.cut_off(*host, kit);
            }
            Fault::Start(host) => {
                kit.executor.resume(*host);
                let position = Self::position(*host).expect("faults hit stores");
                self.machines[position].start(&self.setup, now, &mut self.check);
            }
            Fault::Pause(host) => {
                // Nobody stands still who is not there.
                if self.machine(*host).process.is_some() {
                    self.machine(*host).is_paused = true;
                    kit.executor.pause(*host);
                }
            }
            Fault::Resume(host) => {
                self.machine(*host).is_paused = false;
                kit.executor.resume(*host);
            }
            Fault::Partition(one, other) => {
                self.frames.heal();
                self.streams.heal();
                self.frames.partition(one, other);
                self.streams.partition(one, other);
            }
            Fault::Cut(from, to) => {
                self.frames.cut(*from, *to);
                self.streams.cut(*from, *to);
            }
            Fault::Heal => {
                self.frames.heal();
                self.streams.heal();
            }
            Fault::Links(link) => self.set_links(link),
            Fault::WallJump(host, by) => self.machine(*host).clock.jump_wall(*by),
            Fault::Drift(host, millionths) => self.machine(*host).clock.set_drift(*millionths),
            Fault::Disk(host, trouble) => self.machine(*host).trouble(*trouble, now),
            Fault::DiskWell(host) => {
                let position = Self::position(*host).expect("faults hit stores");
                let machine = &mut self.machines[position];
                machine.recover(now);
                if machine.failed.is_some() {
                    kit.executor.resume(*host);
                    machine.start(&self.setup, now, &mut self.check);
                }
            }
            Fault::Shake(lot) => self.shake(*lot),
            Fault::Calm => self.calm(kit),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.check.verdict()
    }

    fn is_quiet(&self, kit: &Kit) -> bool {
        let Some(record) = self.scheduler.record(REGION) else { return false };
        if self.scheduler.has_goals() || record.membership.is_joint() {
            return false;
        }
        let is_member = |peer: &Peer| record.region.peers.iter().any(|it| it.id == peer.id);
        let mut applied = Vec::new();
        for machine in &self.machines {
            let Some(process) = machine.running() else { return false };
            if !process.is_idle() {
                return false;
            }
            for status in process.store.statuses() {
                // Who never had data has nothing to clear away.
                if !is_member(&status.peer) && status.record.is_some() {
                    return false;
                }
                if is_member(&status.peer) {
                    applied.push(status.state.applied.index);
                }
            }
        }
        applied.len() == record.region.peers.len()
            && applied.windows(2).all(|pair| pair[0] == pair[1])
            && kit.executor.count_of(|host| !host.is_client()) == 0
    }

    fn check_quiet(&self) -> Result<(), String> {
        let record = self.scheduler.record(REGION).ok_or("nobody ever reported")?;
        let mut found = Vec::new();
        for machine in &self.machines {
            let view = machine.engine.snapshot();
            let data = data_of(&*view, &record.region.range);
            let nothing =
                data_of(&*kiva_engine::memory::MemoryEngine::new().snapshot(), &KeyRange::ALL);
            let regions =
                kiva_raftstore::meta::load_regions(&*view).map_err(|error| error.to_string())?;
            match record.region.peer_on(machine.id) {
                Some(_) => found.push((machine.host, data)),
                None if data != nothing || !regions.is_empty() => {
                    let host = machine.host;
                    return Err(format!("{host} has data or metadata of a peer that is gone"));
                }
                None => {}
            }
        }
        match found.iter().find(|(_, data)| *data != found[0].1) {
            Some((host, _)) => Err(format!("{host} and {} hold different data", found[0].0)),
            None => Ok(()),
        }
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for machine in &self.machines {
            match &machine.process {
                Some(process) => {
                    text += &format!(
                        "{} {}\n",
                        machine.host,
                        if process.is_idle() { "idle" } else { "busy" }
                    );
                    for status in process.store.statuses() {
                        text += &format!("    {status:?}\n");
                    }
                }
                None => text += &format!("{} is down: {:?}\n", machine.host, machine.failed),
            }
        }
        let record = self.scheduler.record(REGION);
        text += &format!("scheduler: {record:?}, leader {:?}\n", self.scheduler.leader(REGION));
        text
    }
}
