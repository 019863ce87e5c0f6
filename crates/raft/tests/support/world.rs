//! A group in one thread, from a seed: nodes with clocks of their own, disks that finish late, and
//! a network that loses, repeats, delays and reorders.
//!
//! Time is a number. What happens next is the earliest event of a queue; every choice is drawn
//! from the seed, so that a seed is a whole run. Among them is what the run is about: a group as
//! it comes, one whose leaders read, mostly by lease, while others are eager to replace them, or
//! one whose members change all the time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kiva_raft::{
    Body, Change, Config, EntryId, Flaws, Leave, Membership, MembershipChange, MemoryLogStore,
    Message, NodeId, Proposed, ReadMode, ReadOutcome, SnapshotOutcome,
};

use super::checker::Checker;
use super::group::{at, id};
use super::peer::Peer;
use super::print;

/// Length of a tick of a clock that goes right.
pub(super) const TICK: u64 = 100;
/// Ticks of a lease, and by how much of a hundred clocks may go wrong with it. Each is close to
/// what `ReadMode::Lease` allows: 95 / 105 is just above 8 / 9, and so on.
const LEASES: [(u32, u64); 3] = [(8, 5), (7, 12), (4, 38)];
/// How long there are faults.
const TROUBLE: u64 = 300 * TICK;
/// How long a group without faults may take until somebody leads it: twenty election timeouts.
const LEADERLESS: u64 = 20 * 10 * TICK;
/// How long a group without faults may take until everybody has applied something new.
const PATIENCE: u64 = 600 * TICK;

/// What is the same in every run of a test.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Bugs on purpose.
    pub(crate) flaws: Flaws,
    /// What is set whatever the seed says.
    pub(crate) adjust: fn(&mut Config),
    /// What all runs are about; the seed decides when there is nothing.
    pub(crate) story: Option<Story>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { flaws: Flaws::NONE, adjust: |_| (), story: None }
    }
}

/// What a run is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Story {
    /// A bit of everything.
    Plain,
    /// Reads, mostly by lease. Leaders are cut off or slow; others campaign as soon as they may.
    Reads,
    /// Changes of members, on nodes that are slow to apply them.
    Members,
}

/// A refusal is for a driver's log: nothing is to be done about it.
pub(super) fn ignore<T, E>(_: Result<T, E>) {}

/// Draws from a seed (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

pub(super) enum Event {
    Tick(NodeId),
    Deliver(Message),
    /// Some writes of this node are done. The number tells the start of the node it belongs to.
    Sync(NodeId, u64),
    Apply(NodeId, u64),
    Restart(NodeId),
    Report(NodeId, NodeId, SnapshotOutcome),
    /// What the log store had not at hand is there.
    Fetched(NodeId),
    Heal,
    /// Nobody hears this node any more.
    Silence(NodeId),
    Client,
    Trouble,
}

/// What a run showed.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) steps: usize,
    pub(crate) committed: u64,
    pub(crate) elections: u64,
    pub(crate) snapshots: u64,
    pub(crate) changes: u64,
    pub(crate) crashes: u64,
    pub(crate) reads: u64,
    pub(crate) leases: u64,
    pub(crate) sleeps: u64,
    /// How long nobody led after the faults had stopped.
    pub(crate) leaderless: u64,
}

/// A group and everything that happens to it.
pub(crate) struct World {
    pub(super) story: Story,
    has_leases: bool,
    pub(super) dice: Dice,
    pub(super) now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    periods: BTreeMap<NodeId, u64>,
    pub(super) starts: BTreeMap<NodeId, u64>,
    pub(super) cut: BTreeSet<(NodeId, NodeId)>,
    /// Whose messages take long, those to it too.
    pub(super) slow: BTreeSet<NodeId>,
    /// Who hears everything late.
    pub(super) hears_late: BTreeSet<NodeId>,
    /// Until when a node applies nothing.
    pub(super) paused: BTreeMap<NodeId, u64>,
    pub(super) checker: Checker,
    pub(super) is_calm: bool,
    loss: u64,
    repeats: u64,
    delay: u64,
    disk: u64,
    names: u64,
    pub(super) summary: Summary,
    trace: bool,
}

impl World {
    /// Runs the group of this seed to its end; panics where something does not hold.
    pub(crate) fn run(seed: u64, trace: bool, plan: &Plan) -> Summary {
        let mut world = Self::born(seed, trace, plan);
        while world.now < TROUBLE {
            world.step();
        }
        world.calm_down();
        let first = world.checker.committed();
        let mut proposed: Option<EntryId> = None;
        let end = world.now + PATIENCE;
        while world.now < end {
            world.step();
            world.check_leader(end - PATIENCE);
            if world.is_done(&mut proposed) {
                return world.finish();
            }
        }
        panic!("nothing was applied everywhere after {first}, {proposed:?}: {}", world.describe());
    }

    fn born(seed: u64, trace: bool, plan: &Plan) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x1234_5678);
        let count = dice.pick(&[3, 3, 5, 5, 7]);
        let drawn = dice.pick(&[Story::Plain, Story::Plain, Story::Reads, Story::Members]);
        let story = plan.story.unwrap_or(drawn);
        let spares = dice.below(3) + if story == Story::Members { 2 } else { 0 };
        let voters = if dice.percent(80) { count } else { count - 1 };
        let members = Membership::new((1..=voters).map(id), (voters + 1..=count).map(id));
        let start = dice.pick(&[EntryId::ZERO, at(5, 5)]);
        let (lease, skew) = if story == Story::Plain { LEASES[0] } else { dice.pick(&LEASES) };
        let mut config = Self::settings(&mut dice, story, lease);
        config.flaws = plan.flaws;
        (plan.adjust)(&mut config);
        let mut world = Self {
            story,
            has_leases: matches!(config.reads, ReadMode::Lease { .. }),
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            peers: BTreeMap::new(),
            periods: BTreeMap::new(),
            starts: BTreeMap::new(),
            cut: BTreeSet::new(),
            slow: BTreeSet::new(),
            hears_late: BTreeSet::new(),
            paused: BTreeMap::new(),
            checker: Checker::default(),
            is_calm: false,
            loss: dice.pick(&[0, 2, 10, 25]),
            repeats: dice.pick(&[0, 5, 20]),
            delay: dice.pick(&[5, 30, 150, 400]),
            disk: dice.pick(&[1, 20, 100, 600]),
            names: 0,
            summary: Summary::default(),
            trace,
            dice,
        };
        for number in 1..=count + spares {
            let store = match (start, number <= count) {
                (EntryId::ZERO, _) => MemoryLogStore::new(members.clone()),
                (start, true) => MemoryLogStore::starting_at(start, members.clone()),
                (_, false) => MemoryLogStore::new(Membership::default()),
            };
            let node = id(number);
            let peer = Peer::open(Config { id: node, ..config.clone() }, store, seed)
                .expect("the node starts");
            world.checker.started(node, &peer);
            world.peers.insert(node, peer);
            world.starts.insert(node, 0);
            // Clocks at the edges are the interesting ones.
            let period = match world.dice.below(3) {
                0 => TICK - skew,
                1 => TICK + skew,
                _ => TICK - skew + world.dice.below(2 * skew + 1),
            };
            world.periods.insert(node, period);
            world.after(period, Event::Tick(node));
        }
        world.after(1, Event::Client);
        world.after(20 * TICK, Event::Trouble);
        world
    }

    fn settings(dice: &mut Dice, story: Story, lease: u32) -> Config {
        let mut config = Config::new(id(1));
        config.pre_vote = dice.percent(70);
        config.check_quorum = dice.percent(if story == Story::Reads { 90 } else { 70 });
        if config.check_quorum && dice.percent(if story == Story::Reads { 80 } else { 60 }) {
            config.reads = ReadMode::Lease { ticks: lease };
        }
        config.forward_proposals = dice.percent(30);
        config.eager_commit = dice.percent(30);
        config.append_bytes_max = dice.pick(&[1, 20, 1024 * 1024]);
        config.inflight_messages_max = dice.pick(&[1, 2, 4, 256]);
        config.inflight_bytes_max = dice.pick(&[0, 50, 16 * 1024 * 1024]);
        config.apply_bytes_max = dice.pick(&[0, 20, 1024 * 1024]);
        config.applying_bytes_max = dice.pick(&[0, 50, 16 * 1024 * 1024]);
        config.uncommitted_bytes_max = dice.pick(&[100, 64 * 1024 * 1024]);
        config.tail_bytes_max = dice.pick(&[0, 30, 1024 * 1024]);
        config
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay.max(1), self.sequence), event);
    }

    #[expect(clippy::print_stdout, reason = "a seed that is replayed is to be read")]
    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>7} {}", self.now, line());
        }
    }

    fn step(&mut self) {
        let ((now, _), event) = self.queue.pop_first().expect("clocks never stop");
        self.now = now;
        self.summary.steps += 1;
        match event {
            Event::Tick(node) => {
                let period = self.periods[&node];
                self.after(period, Event::Tick(node));
                self.with(node, |peer| peer.node().tick());
                // While a lease may be running this is refused, so it can be tried all the time.
                let zeal = if self.has_leases { 60 } else { 6 };
                if self.story == Story::Reads && !self.is_calm && self.dice.percent(zeal) {
                    self.with(node, |peer| ignore(peer.node().campaign()));
                }
            }
            Event::Deliver(message) => {
                self.say(|| format!("deliver {}", print::message(&message)));
                let to = message.to;
                self.with(to, |peer| ignore(peer.node().step(message)));
            }
            Event::Sync(node, start) if self.starts[&node] == start => self.sync(node),
            Event::Apply(node, start) if self.starts[&node] == start => self.apply(node),
            Event::Sync(..) | Event::Apply(..) => {}
            Event::Restart(node) => self.restart(node),
            Event::Report(node, other, outcome) => {
                self.with(node, |peer| peer.node().report_snapshot(other, outcome));
            }
            Event::Fetched(node) => {
                self.peers[&node].log.set_slow(false);
                self.with(node, |peer| peer.node().on_log_fetched());
            }
            Event::Heal => {
                self.cut.clear();
                self.slow.clear();
                self.hears_late.clear();
            }
            Event::Silence(node) => {
                let all: Vec<NodeId> = self.peers.keys().copied().collect();
                self.cut_off(node, &all, true, false);
            }
            Event::Client => self.client(),
            Event::Trouble => self.trouble(),
        }
        for (node, peer) in &self.peers {
            if let Some(index) = peer.node.as_ref().and_then(kiva_raft::Node::lease_read) {
                self.checker.leases(*node, index);
            }
        }
    }

    /// Does something to a node that is up, and what follows from it.
    pub(super) fn with(&mut self, node: NodeId, act: impl FnOnce(&mut Peer)) {
        let peer = self.peers.get_mut(&node).expect("the node exists");
        if peer.node.is_none() {
            return;
        }
        act(peer);
        self.checker.look(&self.peers, node);
        // A driver may be busy with something else for a while.
        if self.is_calm || !self.dice.percent(10) {
            self.drain(node);
        }
    }

    fn drain(&mut self, node: NodeId) {
        loop {
            let peer = self.peers.get_mut(&node).expect("the node exists");
            let Some(mut ready) = peer.node().ready() else { return };
            let start = self.starts[&node];
            if let Some(write) = &ready.write {
                self.checker.writes(node, write);
                let line = print::write(write);
                let delay = self.dice.below(self.disk);
                self.after(delay, Event::Sync(node, start));
                self.say(|| format!("{node} writes {line}"));
            }
            if !ready.committed.is_empty() {
                let delay = self.dice.below(20);
                self.after(delay, Event::Apply(node, start));
            }
            self.peers.get_mut(&node).expect("the node exists").absorb(&mut ready);
            if let Some(change) = &ready.change {
                self.say(|| format!("{node} becomes {}", print::role(change)));
            }
            for outcome in &ready.reads {
                if let ReadOutcome::Confirmed { context, index } = outcome {
                    self.say(|| format!("{node} reads {}", print::read(outcome)));
                    self.checker.confirms(node, context, *index);
                }
            }
            self.send(node, ready.messages);
            self.checker.look(&self.peers, node);
        }
    }

    fn send(&mut self, node: NodeId, messages: Vec<Message>) {
        for message in messages {
            self.checker.leaves(&message, &self.peers[&node]);
            let is_snapshot = matches!(message.body, Body::Snapshot(_));
            self.summary.snapshots += u64::from(is_snapshot);
            let is_cut = self.cut.contains(&(message.from, message.to));
            let is_down = self.peers.get(&message.to).is_none_or(|peer| peer.node.is_none());
            let is_lost = is_cut || is_down || (!self.is_calm && self.dice.percent(self.loss));
            let lost = if is_lost { " (lost)" } else { "" };
            self.say(|| format!("{}{lost}", print::message(&message)));
            // A few are so late that another leader may be elected meanwhile.
            let is_late = !self.is_calm && self.dice.percent(3);
            let (from, to) = (message.from, message.to);
            let is_slow = self.slow.contains(&from) || self.slow.contains(&to);
            let delay = self.dice.below(match is_late {
                true => 30 * TICK,
                false if self.hears_late.contains(&to) => 24 * TICK,
                false if is_slow => 12 * TICK,
                false => self.delay,
            });
            if is_snapshot {
                let outcome = if is_lost { SnapshotOutcome::Failed } else { SnapshotOutcome::Sent };
                let late = self.dice.below(2 * self.delay);
                self.after(late, Event::Report(from, to, outcome));
            }
            if is_lost {
                if self.dice.percent(5) {
                    self.peers.get_mut(&from).expect("it sent").node().report_unreachable(to);
                }
                continue;
            }
            if !self.is_calm && self.dice.percent(self.repeats) {
                let late = self.dice.below(4 * self.delay);
                self.after(late, Event::Deliver(message.clone()));
            }
            self.after(delay, Event::Deliver(message));
        }
    }

    fn sync(&mut self, node: NodeId) {
        let outstanding = self.peers[&node].writes.len() as u64;
        if outstanding == 0 {
            return;
        }
        // Several finish at once now and then.
        let count = if self.dice.percent(70) { 1 } else { 1 + self.dice.below(outstanding) };
        self.say(|| format!("{node} synced {count} of {outstanding}"));
        let peer = self.peers.get_mut(&node).expect("the node exists");
        let messages = peer.sync(count as usize);
        let state = peer.state;
        if state.applied > kiva_raft::Index::ZERO {
            self.checker.state(node, state);
        }
        self.send(node, messages);
        self.with(node, |_| ());
        if !self.peers[&node].writes.is_empty() {
            let (delay, start) = (self.dice.below(self.disk), self.starts[&node]);
            self.after(delay, Event::Sync(node, start));
        }
    }

    fn apply(&mut self, node: NodeId) {
        let until = self.paused.get(&node).copied().unwrap_or(0);
        if self.now < until && !self.is_calm {
            let start = self.starts[&node];
            return self.after(until - self.now, Event::Apply(node, start));
        }
        while self.is_calm || !self.dice.percent(20) {
            let peer = self.peers.get_mut(&node).expect("the node exists");
            let done = peer.apply(1);
            let state = peer.state;
            let Some(applied) = done.first() else { return };
            self.say(|| format!("{node} applies {}", print::entry(&applied.entry)));
            self.checker.applies(node, &applied.entry, state);
            if let Some(Ok(_)) = applied.members {
                self.summary.changes += 1;
            }
            self.checker.look(&self.peers, node);
        }
        self.with(node, |_| ());
        let (delay, start) = (self.dice.below(50), self.starts[&node]);
        self.after(delay, Event::Apply(node, start));
    }

    /// Somebody wants something.
    fn client(&mut self) {
        let wait = self.dice.below(40);
        self.after(wait, Event::Client);
        let all: Vec<NodeId> = self.peers.keys().copied().collect();
        let leaders: Vec<NodeId> = all.iter().copied().filter(|node| self.leads(*node)).collect();
        let anybody = self.dice.pick(&all);
        let node = match leaders.is_empty() || self.dice.percent(20) {
            true => anybody,
            false => self.dice.pick(&leaders),
        };
        if self.peers[&node].node.is_none() {
            return;
        }
        let choice = self.dice.below(100);
        let name = self.name();
        match choice {
            _ if self.is_calm => {}
            0..25 if self.story == Story::Members => self.change_members(node, &all),
            0..25 if self.story == Story::Reads => self.read(node, name),
            0..45 => self.with(node, |peer| ignore(peer.node().propose(name))),
            45..75 => self.read(node, name),
            75..88 => {
                let target = self.dice.pick(&all);
                self.say(|| format!("transfer from {node} to {target}"));
                self.with(node, |peer| ignore(peer.node().transfer_leadership(target)));
            }
            88..93 => self.change_members(node, &all),
            93..98 => self.compact(node),
            98 => match self.dice.below(3) {
                0 => self.with(node, |peer| peer.node().announce_commit()),
                1 => self.sleep(&all),
                _ => all.iter().for_each(|node| self.with(*node, |peer| peer.node().wake())),
            },
            _ => {
                self.say(|| format!("{anybody} campaigns"));
                self.with(anybody, |peer| ignore(peer.node().campaign()));
            }
        }
    }

    fn read(&mut self, node: NodeId, name: Bytes) {
        self.checker.asks(name.clone());
        self.with(node, |peer| ignore(peer.node().read_index(name)));
    }

    fn name(&mut self) -> Bytes {
        self.names += 1;
        format!("p{}", self.names).into()
    }

    pub(super) fn leads(&self, node: NodeId) -> bool {
        self.peers[&node].node.as_ref().is_some_and(kiva_raft::Node::is_leader)
    }

    fn change_members(&mut self, node: NodeId, all: &[NodeId]) {
        let steps = if self.dice.percent(60) { 1 } else { 1 + self.dice.below(3) };
        let mut changes = Vec::new();
        for _ in 0..steps {
            let target = self.dice.pick(all);
            changes.push(match self.dice.below(5) {
                0..2 => Change::AddVoter(target),
                2 => Change::AddLearner(target),
                _ => Change::Remove(target),
            });
        }
        if self.story == Story::Members && self.dice.percent(50) {
            // Others altogether: the halves of a joint configuration share few nodes.
            changes = all.iter().map(|node| Change::Remove(*node)).collect();
            for _ in 0..3 {
                changes.push(Change::AddVoter(self.dice.pick(all)));
            }
        }
        let context = Bytes::new();
        let change = match self.dice.below(4) {
            0 => MembershipChange::Leave { context },
            1 => MembershipChange::Joint { changes, leave: Leave::OnRequest, context },
            2 => MembershipChange::Joint { changes, leave: Leave::Automatic, context },
            _ => MembershipChange::new(changes, context),
        };
        self.say(|| format!("{node} is asked for {}", print::change(&change)));
        self.with(node, |peer| ignore(peer.node().propose_membership(change)));
    }

    /// Lets the timers of an idle group stand still; of those that find it idle.
    fn sleep(&mut self, all: &[NodeId]) {
        for node in all {
            let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.node.is_some()) else {
                continue;
            };
            if peer.node().quiesce().is_ok() {
                self.summary.sleeps += 1;
                self.say(|| format!("{node} sleeps"));
            }
        }
    }

    /// Flushes the state machine, and drops what of the log it no longer needs.
    pub(super) fn compact(&mut self, node: NodeId) {
        let is_short = self.dice.percent(70);
        self.with(node, |peer| {
            if let Some(snapshot) = peer.build_snapshot()
                && is_short
            {
                peer.store.compact(snapshot.last.index).expect("what is applied is in the log");
            }
            peer.node().on_log_fetched();
        });
    }

    fn calm_down(&mut self) {
        self.is_calm = true;
        self.cut.clear();
        self.slow.clear();
        self.hears_late.clear();
        (self.delay, self.disk) = (20, 20);
        let all: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in all {
            self.restart(node);
            self.compact(node);
            self.after(1, Event::Fetched(node));
            self.with(node, |peer| peer.node().wake());
        }
    }

    /// Somebody leads soon after the faults have stopped (at `since`).
    fn check_leader(&mut self, since: u64) {
        let all: Vec<NodeId> = self.peers.keys().copied().collect();
        if self.summary.leaderless == 0 && all.iter().any(|node| self.leads(*node)) {
            self.summary.leaderless = (self.now - since).max(1);
        }
        let leaderless = self.summary.leaderless;
        assert!(
            leaderless > 0 || self.now < since + LEADERLESS,
            "nobody leads: {}",
            self.describe()
        );
    }

    /// Whether something that was proposed after the faults is applied on every member.
    fn is_done(&mut self, proposed: &mut Option<EntryId>) -> bool {
        let leads = |peer: &&mut Peer| peer.node.as_ref().is_some_and(|node| node.is_leader());
        let leader = self
            .peers
            .values_mut()
            .filter(leads)
            .max_by_key(|peer| peer.node.as_ref().map(kiva_raft::Node::term));
        let Some(leader) = leader else { return false };
        let leader_id = leader.config.id;
        let term = leader.node().term();
        if proposed.is_none_or(|id| id.term != term) {
            let Ok(Proposed::Appended(id)) = leader.node().propose(Bytes::from_static(b"last"))
            else {
                return false;
            };
            *proposed = Some(id);
            self.drain(leader_id);
        }
        let members = self.peers[&leader_id].node.as_ref().map(|node| node.membership().members());
        let members = members.unwrap_or_default();
        let index = proposed.expect("proposed above").index;
        if self.peers[&leader_id].state.applied < index {
            return false;
        }
        if !self.peers[&leader_id].config.check_quorum {
            // Without check-quorum a node that was removed and does not know disturbs the others
            // for ever (§6); its driver has to end it.
            let gone: Vec<NodeId> =
                self.peers.keys().copied().filter(|node| !members.contains(node)).collect();
            for node in gone {
                self.peers.get_mut(&node).expect("the node exists").crash(0);
                *self.starts.get_mut(&node).expect("the node exists") += 1;
            }
        }
        members.iter().all(|node| self.peers[node].state.applied >= index)
    }

    fn finish(mut self) -> Summary {
        for peer in self.peers.values_mut() {
            let elections =
                peer.node.as_ref().map_or(0, |node| node.status().counters.elections_won);
            self.summary.elections += elections;
        }
        self.summary.committed = self.checker.committed().0;
        self.summary.reads = self.checker.reads_checked;
        self.summary.leases = self.checker.leases_checked;
        self.summary
    }

    fn describe(&self) -> String {
        let nodes = self.peers.values().filter_map(|peer| peer.node.as_ref());
        let lines: Vec<String> = nodes.flat_map(|node| print::status(&node.status())).collect();
        format!("\n{}\n{:#?}", lines.join("\n"), self.peers.values().next().map(|p| &p.config))
    }
}
