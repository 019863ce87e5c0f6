//! A register on three stores, replicated by `kiva_raft`: the smallest cluster that needs every
//! part of the simulator. A test of those parts, and an example of how a world is put together.
//!
//! Each store has one node, a log that loses what was not synced, and a map that is replayed from
//! the log at every start. Clients send questions over the network, are told who leads, and give up
//! after a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, Key, Moment};
use kiva_raft::{
    Config, EntryId, Index, LogWrite, Membership, MemoryLogStore, Message, Node, NodeId, Payload,
    Proposed, ReadMode, ReadOutcome, Rng as RaftRng, Term,
};
use kiva_testkit::check::{Action, Answer, Value};
use kiva_testkit::sim::calls::{Call, CallId, Calls, within};
use kiva_testkit::sim::{
    Chance, Cluster, Delivery, Fault, Host, Kit, Link, LocalClock, Network, Rng, Stop,
};
use kiva_testkit::workload::{Failed, KvClient, Swap};

const STORES: u64 = 3;
const TICK: Duration = Duration::from_millis(50);
/// What a write to the log takes.
const SYNC: std::ops::Range<Duration> = Duration::from_micros(100)..Duration::from_millis(5);
/// How long a client waits for one answer.
const ATTEMPT: Duration = Duration::from_secs(1);
const ATTEMPTS_MAX: usize = 20;

/// Something that is wrong with the toy, to see whether anybody notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// None.
    None,
    /// A leader answers reads without asking whether it still leads.
    ReadUnconfirmed,
    /// A write is acknowledged when it is proposed.
    AcknowledgeEarly,
    /// Whoever waits at an index is answered by whatever is applied there.
    AnswerByIndex,
    /// A write that is in the log is reported as refused when leadership ends.
    RefuseAppended,
    /// What was synced is lost with the power.
    SyncLies,
    /// Nothing is answered after an election.
    AnswersGetLost,
}

#[derive(Clone, Debug)]
enum Question {
    Act(Key, Action),
    Scan(Key, Key),
}

#[derive(Clone, Debug)]
enum Told {
    Answer(Answer),
    Pairs(Vec<(Key, Value)>),
    /// Not done, now or later. Perhaps this one leads.
    NotLeader(Option<Host>),
}

#[derive(Clone, Debug)]
enum Packet {
    Raft(Box<Message>),
    Question(CallId, Question),
    Told(CallId, Told),
}

/// Who waits for an entry or a read.
#[derive(Clone, Copy)]
struct Waiter {
    client: Host,
    call: CallId,
}

struct Store {
    host: Host,
    id: NodeId,
    clock: LocalClock,
    log: MemoryLogStore,
    rng: Rng,
    starts: u64,
    is_paused: bool,
    process: Option<Process>,
}

/// What a crash takes away.
struct Process {
    node: Node,
    next_tick: Moment,
    inbox: VecDeque<(Host, Packet)>,
    writes: VecDeque<(Moment, LogWrite)>,
    map: BTreeMap<Key, Value>,
    proposed: BTreeMap<EntryId, Waiter>,
    /// Asked for and not confirmed yet, by what they were told from others.
    asked: BTreeMap<Bytes, (Waiter, Question)>,
    confirmed: Vec<(Index, Waiter, Question)>,
}

/// The cluster.
pub(crate) struct Toy {
    bug: Bug,
    rng: Rng,
    time: kiva_testkit::sim::Time,
    network: Network<Packet>,
    /// Between clients and stores. Connections lose and delay, and repeat nothing: a question that
    /// arrives twice would be asked twice.
    door: Network<Packet>,
    stores: Vec<Store>,
    calls: Calls<Question, Told>,
    /// What log entries name: the questions themselves.
    commands: Vec<Action>,
    keys: Vec<Key>,
    leaders: BTreeMap<Term, Host>,
    wrong: Option<String>,
}

/// One thing that can be done.
enum Step {
    Send,
    Deliver,
    Enter,
    Tick(usize),
    Receive(usize),
    Synced(usize),
}

impl Toy {
    pub(crate) fn new(kit: &Kit, bug: Bug) -> Self {
        let id = |number| NodeId::new(number).expect("not zero");
        let members = Membership::new((1..=STORES).map(id), []);
        let mut toy = Self {
            bug,
            rng: kit.rng.stream("toy"),
            time: kit.time.clone(),
            network: Network::new(kit.rng.stream("network"), Link::GOOD),
            door: Network::new(kit.rng.stream("door"), Link::GOOD),
            stores: Vec::new(),
            calls: Calls::default(),
            commands: Vec::new(),
            keys: Vec::new(),
            leaders: BTreeMap::new(),
            wrong: None,
        };
        for number in 1..=STORES {
            toy.stores.push(Store {
                host: Host::store(number),
                id: id(number),
                clock: kit.time.clock(),
                log: MemoryLogStore::new(members.clone()),
                rng: kit.rng.numbered("store", number),
                starts: 0,
                is_paused: false,
                process: None,
            });
        }
        toy.stores.iter_mut().for_each(Store::start);
        toy
    }

    fn position(host: Host) -> Option<usize> {
        match host {
            Host::Store(id) => Some(id.get() as usize - 1),
            _ => None,
        }
    }

    fn store(&mut self, host: Host) -> &mut Store {
        let position = Self::position(host).expect("faults hit stores");
        &mut self.stores[position]
    }

    fn steps(&self, now: Moment) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.calls.has_asked() {
            steps.push(Step::Send);
        }
        if self.network.next_at().is_some_and(|at| at <= now) {
            steps.push(Step::Deliver);
        }
        if self.door.next_at().is_some_and(|at| at <= now) {
            steps.push(Step::Enter);
        }
        for (position, store) in self.stores.iter().enumerate() {
            let Some(process) = store.running() else { continue };
            if store.clock.now() >= process.next_tick {
                steps.push(Step::Tick(position));
            }
            if !process.inbox.is_empty() {
                steps.push(Step::Receive(position));
            }
            if process.writes.front().is_some_and(|(due, _)| *due <= now) {
                steps.push(Step::Synced(position));
            }
        }
        steps
    }

    fn deliver(&mut self, delivery: Option<Delivery<Packet>>) {
        let Some(delivery) = delivery else { return };
        match (Self::position(delivery.to), delivery.message) {
            (Some(position), packet) => {
                if let Some(process) = &mut self.stores[position].process {
                    process.inbox.push_back((delivery.from, packet));
                }
            }
            (None, Packet::Told(call, told)) => self.calls.answer(call, told),
            (None, packet) => panic!("a client is sent {packet:?}"),
        }
    }

    /// One event of a store, then everything it leads to.
    fn round(&mut self, position: usize, kit: &Kit, event: impl FnOnce(&mut Round<'_>)) {
        let store = &mut self.stores[position];
        let process = store.process.as_mut().expect("only those that run have rounds");
        let mut round = Round {
            bug: self.bug,
            host: store.host,
            now: self.time.now(),
            process,
            log: &store.log,
            rng: &mut store.rng,
            commands: &mut self.commands,
            keys: &mut self.keys,
            leaders: &mut self.leaders,
            wrong: &mut self.wrong,
            kit,
            outbox: Vec::new(),
        };
        event(&mut round);
        round.work();
        let (outbox, host, now) = (round.outbox, store.host, self.time.now());
        for (to, packet) in outbox {
            let network = if to.is_client() { &mut self.door } else { &mut self.network };
            network.send(now, host, to, packet);
        }
    }
}

impl Store {
    fn running(&self) -> Option<&Process> {
        self.process.as_ref().filter(|_| !self.is_paused)
    }

    fn start(&mut self) {
        let mut config = Config::new(self.id);
        config.reads = ReadMode::Lease { ticks: 8 };
        config.is_first_start = self.starts == 0;
        self.starts += 1;
        let seed = RaftRng::seeded(self.rng.next_u64());
        let node = Node::open(config, seed, Box::new(self.log.clone()));
        self.process = Some(Process {
            node: node.expect("the log is whole"),
            next_tick: self.clock.now() + TICK,
            inbox: VecDeque::new(),
            writes: VecDeque::new(),
            map: BTreeMap::new(),
            proposed: BTreeMap::new(),
            asked: BTreeMap::new(),
            confirmed: Vec::new(),
        });
    }

    fn stop(&mut self, stop: Stop, bug: Bug) {
        let Some(process) = self.process.take() else { return };
        // What was handed to the disk and not synced: all of it, or any first part of it.
        let kept = match stop {
            Stop::Orderly | Stop::Killed => process.writes.len(),
            Stop::PowerLost | Stop::DiskLost => self.rng.position(process.writes.len() + 1),
        };
        process.writes.iter().take(kept).for_each(|(_, write)| self.log.write(write));
        if bug == Bug::SyncLies && stop == Stop::PowerLost {
            self.log = MemoryLogStore::new(process.node.membership().clone());
        }
        self.is_paused = false;
    }
}

/// A store at work.
struct Round<'a> {
    bug: Bug,
    host: Host,
    now: Moment,
    process: &'a mut Process,
    log: &'a MemoryLogStore,
    rng: &'a mut Rng,
    commands: &'a mut Vec<Action>,
    keys: &'a mut Vec<Key>,
    leaders: &'a mut BTreeMap<Term, Host>,
    wrong: &'a mut Option<String>,
    kit: &'a Kit,
    outbox: Vec<(Host, Packet)>,
}

impl Round<'_> {
    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            let to = Host::store(message.to.get());
            self.outbox.push((to, Packet::Raft(Box::new(message))));
        }
    }

    fn tell(&mut self, waiter: Waiter, told: Told) {
        self.outbox.push((waiter.client, Packet::Told(waiter.call, told)));
    }

    fn refuse(&mut self, waiter: Waiter) {
        let leader = self.process.node.leader().map(|id| Host::store(id.get()));
        self.tell(waiter, Told::NotLeader(leader));
    }

    fn receive(&mut self) {
        let Some((from, packet)) = self.process.inbox.pop_front() else { return };
        match packet {
            // A refusal is for a driver's log.
            Packet::Raft(message) => drop(self.process.node.step(*message)),
            Packet::Question(call, question) => self.ask(Waiter { client: from, call }, question),
            Packet::Told(..) => panic!("a store asks nobody"),
        }
    }

    fn ask(&mut self, waiter: Waiter, question: Question) {
        if !self.process.node.is_leader() {
            return self.refuse(waiter);
        }
        let is_read = matches!(question, Question::Scan(..) | Question::Act(_, Action::Get));
        if is_read && self.bug == Bug::ReadUnconfirmed {
            let told = self.read(&question);
            return self.tell(waiter, told);
        }
        match question {
            Question::Act(key, action) if !is_read => self.propose(waiter, key, action),
            question => {
                let context = Bytes::from(format!("{:?}", waiter.call));
                match self.process.node.read_index(context.clone()) {
                    Ok(()) => drop(self.process.asked.insert(context, (waiter, question))),
                    Err(_) => self.refuse(waiter),
                }
            }
        }
    }

    fn propose(&mut self, waiter: Waiter, key: Key, action: Action) {
        let number = self.commands.len() as u64;
        let command = Bytes::copy_from_slice(&number.to_be_bytes());
        let Ok(Proposed::Appended(entry)) = self.process.node.propose(command) else {
            return self.refuse(waiter);
        };
        self.commands.push(action.clone());
        self.keys.push(key);
        if self.bug == Bug::AcknowledgeEarly && matches!(action, Action::Put(_)) {
            self.tell(waiter, Told::Answer(Answer::Done));
        }
        self.process.proposed.insert(entry, waiter);
    }

    fn read(&self, question: &Question) -> Told {
        let map = &self.process.map;
        match question {
            Question::Act(key, _) => Told::Answer(Answer::Got(map.get(key).cloned())),
            Question::Scan(start, end) => {
                let pairs = map.range(start.clone()..end.clone());
                Told::Pairs(pairs.map(|(key, value)| (key.clone(), value.clone())).collect())
            }
        }
    }

    /// Everything the node asks for.
    fn work(&mut self) {
        while let Some(ready) = self.process.node.ready() {
            if let Some(change) = ready.change {
                self.on_change(change);
            }
            self.send(ready.messages);
            if let Some(write) = ready.write {
                let last = self.process.writes.back().map_or(self.now, |(due, _)| *due);
                let due = last.max(self.now + self.rng.duration(&SYNC));
                self.process.writes.push_back((due, write));
            }
            for outcome in ready.reads {
                self.on_read(outcome);
            }
            for entry in &ready.committed {
                if let Payload::Command(command) = &entry.payload {
                    self.apply(EntryId { term: entry.term, index: entry.index }, command);
                }
            }
            if let Some(last) = ready.committed.last() {
                self.process.node.on_applied(last.index);
            }
            self.serve_reads();
        }
    }

    fn on_change(&mut self, change: kiva_raft::RoleChange) {
        let term = self.process.node.term();
        self.kit.trace.record(self.now, self.host, format_args!("{:?} in {term}", change.role));
        if !self.process.node.is_leader() {
            if self.bug == Bug::RefuseAppended {
                let waiters = std::mem::take(&mut self.process.proposed);
                waiters.into_values().for_each(|waiter| self.refuse(waiter));
            }
            return;
        }
        let other = *self.leaders.entry(term).or_insert(self.host);
        if other != self.host {
            *self.wrong = Some(format!("{other} and {} lead in term {term}", self.host));
        }
    }

    fn on_read(&mut self, outcome: ReadOutcome) {
        match outcome {
            ReadOutcome::Confirmed { context, index } => {
                if let Some((waiter, question)) = self.process.asked.remove(&context) {
                    self.process.confirmed.push((index, waiter, question));
                }
            }
            ReadOutcome::Refused { context } => {
                if let Some((waiter, _)) = self.process.asked.remove(&context) {
                    self.refuse(waiter);
                }
            }
        }
    }

    fn serve_reads(&mut self) {
        let applied = self.process.node.applied();
        let (due, rest) = std::mem::take(&mut self.process.confirmed)
            .into_iter()
            .partition(|(index, ..)| *index <= applied);
        self.process.confirmed = rest;
        let due: Vec<_> = due;
        for (_, waiter, question) in due {
            let told = self.read(&question);
            self.tell(waiter, told);
        }
    }

    fn apply(&mut self, entry: EntryId, command: &[u8]) {
        let number = command.try_into().map(u64::from_be_bytes).expect("eight bytes") as usize;
        let key = self.keys[number].clone();
        let answer = perform(&mut self.process.map, key, &self.commands[number]);
        // Whoever waits for this index with another term was promised something else, which did
        // not happen and never will.
        let waiting: Vec<_> = self
            .process
            .proposed
            .keys()
            .filter(|other| other.index == entry.index)
            .copied()
            .collect();
        for other in waiting {
            let Some(waiter) = self.process.proposed.remove(&other) else { continue };
            if other == entry || self.bug == Bug::AnswerByIndex {
                if self.bug != Bug::AnswersGetLost || entry.term.0 < 3 {
                    self.tell(waiter, Told::Answer(answer.clone()));
                }
            } else {
                self.refuse(waiter);
            }
        }
    }
}

fn perform(map: &mut BTreeMap<Key, Value>, key: Key, action: &Action) -> Answer {
    match action {
        Action::Get => Answer::Got(map.get(&key).cloned()),
        Action::Put(value) => {
            map.insert(key, value.clone());
            Answer::Done
        }
        Action::Delete => {
            map.remove(&key);
            Answer::Done
        }
        Action::CompareAndSwap { expected, new } => {
            let previous = map.get(&key).cloned();
            let swapped = previous == *expected;
            if swapped {
                map.insert(key, new.clone());
            }
            Answer::Compared { swapped, previous }
        }
    }
}

impl Cluster for Toy {
    fn hosts(&self) -> Vec<Host> {
        self.stores.iter().map(|store| store.host).collect()
    }

    fn client(&mut self, number: u64) -> (Arc<dyn KvClient>, Arc<dyn Clock>) {
        let clock = self.time.clock();
        let client = ToyClient {
            host: Host::Client(number),
            hosts: self.hosts(),
            calls: self.calls.clone(),
            clock: clock.clone(),
            turns: AtomicUsize::new(number as usize),
        };
        (Arc::new(client), Arc::new(clock))
    }

    fn can_step(&self, now: Moment) -> bool {
        !self.steps(now).is_empty()
    }

    fn step(&mut self, kit: &mut Kit) {
        let now = kit.time.now();
        let mut steps = self.steps(now);
        let lot = self.rng.position(steps.len());
        match steps.swap_remove(lot) {
            Step::Send => {
                while let Some(Call { id, from, to, question }) = self.calls.next_asked() {
                    self.door.send(now, from, to, Packet::Question(id, question));
                }
            }
            Step::Deliver => {
                let delivery = self.network.deliver(now);
                self.deliver(delivery);
            }
            Step::Enter => {
                let delivery = self.door.deliver(now);
                self.deliver(delivery);
            }
            Step::Tick(position) => {
                let clock = self.stores[position].clock.clone();
                self.round(position, kit, |round| {
                    // Missed ticks are made up for.
                    while round.process.next_tick <= clock.now() {
                        round.process.next_tick = round.process.next_tick + TICK;
                        round.process.node.tick();
                    }
                });
            }
            Step::Receive(position) => self.round(position, kit, |round| round.receive()),
            Step::Synced(position) => self.round(position, kit, |round| {
                let Some((_, write)) = round.process.writes.pop_front() else { return };
                round.log.write(&write);
                let messages = round.process.node.on_synced(write.synced());
                round.send(messages);
            }),
        }
    }

    fn next_at(&self) -> Option<Moment> {
        let stores = self.stores.iter().filter_map(|store| {
            let process = store.running()?;
            let tick = store.clock.true_time_of(process.next_tick);
            Some(process.writes.front().map_or(tick, |(due, _)| tick.min(*due)))
        });
        stores.chain(self.network.next_at()).chain(self.door.next_at()).min()
    }

    fn commit(&mut self, fault: &Fault, kit: &mut Kit) {
        let bug = self.bug;
        match fault {
            Fault::Stop(host, stop) => {
                self.store(*host).stop(*stop, bug);
                self.network.lose_messages_to(*host);
                self.door.lose_messages_to(*host);
                kit.executor.drop_owned_by(*host);
            }
            Fault::Start(host) => self.store(*host).start(),
            Fault::Pause(host) => self.store(*host).is_paused = true,
            Fault::Resume(host) => self.store(*host).is_paused = false,
            Fault::Partition(one, other) => {
                self.network.heal();
                self.network.partition(one, other);
            }
            Fault::Cut(from, to) => self.network.cut(*from, *to),
            Fault::Heal => self.network.heal(),
            Fault::Links(link) => {
                self.network.set_usual(link.clone());
                self.door.set_usual(Link { repeat: Chance::NEVER, ..link.clone() });
            }
            Fault::WallJump(host, by) => self.store(*host).clock.jump_wall(*by),
            Fault::Drift(host, millionths) => self.store(*host).clock.set_drift(*millionths),
            // Its disk has a latency and no other character.
            Fault::Disk(..) | Fault::DiskWell(_) => {}
            Fault::Shake(lot) => {
                let position = (lot % STORES) as usize;
                let target = self.stores[((lot >> 32) % STORES) as usize].id;
                if self.stores[position].running().is_some() {
                    self.round(position, kit, |round| {
                        // Refused where it does not lead.
                        let _ = round.process.node.transfer_leadership(target);
                    });
                }
            }
            Fault::Calm => {
                self.network.heal();
                self.network.set_usual(Link::GOOD);
                self.door.set_usual(Link::GOOD);
                for store in &mut self.stores {
                    store.is_paused = false;
                    store.clock.set_drift(0);
                    if store.process.is_none() {
                        store.start();
                    }
                }
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    fn check_quiet(&self) -> Result<(), String> {
        let processes = self.stores.iter().filter_map(|store| store.process.as_ref());
        let newest = processes.clone().max_by_key(|process| process.node.applied());
        let differs = |process: &&Process| {
            let same_index = newest.is_some_and(|n| n.node.applied() == process.node.applied());
            same_index && newest.is_some_and(|newest| newest.map != process.map)
        };
        match processes.clone().find(differs) {
            Some(process) => Err(format!("replicas differ at {}", process.node.applied())),
            None => Ok(()),
        }
    }

    fn describe(&self) -> String {
        let describe = |store: &Store| match &store.process {
            Some(process) => format!("{} {:?}\n", store.host, process.node.status()),
            None => format!("{} is down\n", store.host),
        };
        self.stores.iter().map(describe).collect()
    }
}

/// Asks one store after the other until one answers that it leads.
struct ToyClient {
    host: Host,
    hosts: Vec<Host>,
    calls: Calls<Question, Told>,
    clock: LocalClock,
    turns: AtomicUsize,
}

impl ToyClient {
    async fn ask(&self, question: Question) -> Result<Told, Failed> {
        let is_read = matches!(question, Question::Scan(..) | Question::Act(_, Action::Get));
        // Another one each time: who was cut off and believes that it leads is asked too.
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let mut to = self.hosts[turn % self.hosts.len()];
        for attempt in 0..ATTEMPTS_MAX {
            let answer = self.calls.ask(self.host, to, question.clone());
            match within(&self.clock, ATTEMPT, answer).await {
                Some(Told::NotLeader(Some(leader))) if leader != to => to = leader,
                Some(Told::NotLeader(_)) => {
                    to = self.hosts[attempt % self.hosts.len()];
                    self.clock.sleep(TICK).await;
                }
                Some(told) => return Ok(told),
                // Nobody knows whether it happened; a read may be asked for again.
                None if is_read => to = self.hosts[attempt % self.hosts.len()],
                None => return Err(Failed::Unknown),
            }
        }
        Err(Failed::Refused)
    }

    async fn act(&self, key: Key, action: Action) -> Result<Answer, Failed> {
        match self.ask(Question::Act(key, action)).await? {
            Told::Answer(answer) => Ok(answer),
            told => panic!("asked for one key and told {told:?}"),
        }
    }
}

impl KvClient for ToyClient {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Value>, Failed>> {
        Box::pin(async move {
            match self.act(key, Action::Get).await? {
                Answer::Got(value) => Ok(value),
                answer => panic!("a get is answered {answer:?}"),
            }
        })
    }

    fn put(&self, key: Key, value: Value) -> BoxFuture<'_, Result<(), Failed>> {
        Box::pin(async move { self.act(key, Action::Put(value)).await.map(drop) })
    }

    fn delete(&self, key: Key) -> BoxFuture<'_, Result<(), Failed>> {
        Box::pin(async move { self.act(key, Action::Delete).await.map(drop) })
    }

    fn compare_and_swap(
        &self,
        key: Key,
        expected: Option<Value>,
        new: Value,
    ) -> BoxFuture<'_, Result<Swap, Failed>> {
        Box::pin(async move {
            match self.act(key, Action::CompareAndSwap { expected, new }).await? {
                Answer::Compared { swapped, previous } => Ok(Swap { swapped, previous }),
                // By the bug that answers whoever waits at the index.
                _ => Err(Failed::Unknown),
            }
        })
    }

    fn scan(
        &self,
        range: std::ops::Range<Key>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Value)>, Failed>> {
        Box::pin(async move {
            match self.ask(Question::Scan(range.start, range.end)).await? {
                Told::Pairs(mut pairs) => {
                    pairs.truncate(limit);
                    Ok(pairs)
                }
                told => panic!("a scan is told {told:?}"),
            }
        })
    }
}
