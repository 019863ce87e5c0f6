//! Five nodes on five threads, 100 proposals, and a leader that is killed half-way.
//!
//! ```sh
//! cargo run -p kiva-raft --example five_nodes
//! ```
//!
//! It tells its story on standard output and checks how it ends: every node has applied every
//! proposal once, in the same order. What a driver needs is all here: a thread that owns the node,
//! an inbox, a clock that says "tick", and the loop in [`Driver::work`].

#![expect(clippy::disallowed_methods, reason = "threads and sleeping are what it shows")]
#![expect(clippy::print_stdout, reason = "the story is printed")]

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use kiva_raft::{
    Config, Index, Membership, MemoryLogStore, Message, Node, NodeId, Payload, Rng, RoleName, Term,
};

const NODES: u64 = 5;
const PROPOSALS: u64 = 100;
/// The leader dies after this one.
const KILL_AFTER: u64 = 50;
/// Short enough for a story; a real group has 50 ms.
const TICK: Duration = Duration::from_millis(5);
/// An answer that takes longer than this is asked for again.
const RETRY: Duration = Duration::from_millis(500);
/// A story that does not end within this many retries has gone wrong.
const RETRIES: u32 = 60;

/// What reaches a node's thread.
enum Event {
    Tick,
    Message(Message),
    Propose(u64),
    Kill,
}

/// What a node's thread tells the teller.
enum News {
    Leads { node: NodeId, term: Term },
    Applied { node: NodeId, number: u64, index: Index },
}

/// What a node's thread leaves behind: what it had applied, and its inbox.
type Ended = (Vec<u64>, Receiver<Event>);

/// A node with everything it needs around it.
struct Driver {
    node: Node,
    log: MemoryLogStore,
    outboxes: BTreeMap<NodeId, Sender<Event>>,
    news: Sender<News>,
    /// The state machine: the numbers in the order they were applied first. A client that asks
    /// again because it heard nothing must not be served twice, so repetitions are skipped (Raft
    /// §8).
    applied: Vec<u64>,
}

impl Driver {
    /// Runs until it is killed; returns what it had applied.
    fn run(mut self, inbox: &Receiver<Event>) -> Vec<u64> {
        for event in inbox {
            match event {
                Event::Tick => self.node.tick(),
                // Refusals are for a log file: nothing is to be done about them.
                Event::Message(message) => {
                    let _ = self.node.step(message);
                }
                // A client that asked the wrong node asks again.
                Event::Propose(number) => {
                    let command = Bytes::copy_from_slice(&number.to_be_bytes());
                    let _ = self.node.propose(command);
                }
                Event::Kill => break,
            }
            self.work();
        }
        self.applied
    }

    /// Does what the node wants done, until there is nothing left.
    fn work(&mut self) {
        while let Some(ready) = self.node.ready() {
            if let Some(change) = ready.change
                && change.role == RoleName::Leader
            {
                let news = News::Leads { node: self.node.id(), term: self.node.term() };
                self.tell(news);
            }
            // Free to leave before the disk has anything.
            self.send(ready.messages);
            if let Some(write) = ready.write {
                self.log.write(&write);
                // What promises something about the disk comes out for the receipt only.
                let promises = self.node.on_synced(write.synced());
                self.send(promises);
            }
            for entry in &ready.committed {
                match &entry.payload {
                    Payload::Command(command) => self.apply(entry.index, command),
                    Payload::Empty | Payload::Membership(_) => {}
                }
            }
            if let Some(last) = ready.committed.last() {
                self.node.on_applied(last.index);
            }
        }
    }

    fn apply(&mut self, index: Index, command: &Bytes) {
        let number = <[u8; 8]>::try_from(&command[..]).map(u64::from_be_bytes);
        let number = number.expect("commands are numbers");
        if !self.applied.contains(&number) {
            self.applied.push(number);
        }
        self.tell(News::Applied { node: self.node.id(), number, index });
    }

    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            if let Some(outbox) = self.outboxes.get(&message.to) {
                // To a node that was killed: lost, as on any network.
                drop(outbox.send(Event::Message(message)));
            }
        }
    }

    fn tell(&self, news: News) {
        // The teller stops listening when the story is over.
        drop(self.news.send(news));
    }
}

/// The five threads, and who tells the story.
struct Story {
    inboxes: BTreeMap<NodeId, Sender<Event>>,
    /// Kept for the thread that is started again.
    receivers: BTreeMap<NodeId, Receiver<Event>>,
    logs: BTreeMap<NodeId, MemoryLogStore>,
    threads: BTreeMap<NodeId, JoinHandle<Ended>>,
    tell: Sender<News>,
    news: Receiver<News>,
    leader: Option<(Term, NodeId)>,
    /// How many proposals each node has applied.
    progress: BTreeMap<NodeId, BTreeMap<u64, Index>>,
}

impl Story {
    fn new() -> Self {
        let ids: Vec<NodeId> = (1..=NODES).filter_map(NodeId::new).collect();
        let members = Membership::new(ids.iter().copied(), []);
        let (tell, news) = channel();
        let (mut inboxes, mut receivers) = (BTreeMap::new(), BTreeMap::new());
        for &id in &ids {
            let (sender, receiver) = channel();
            inboxes.insert(id, sender);
            receivers.insert(id, receiver);
        }
        let logs = ids.iter().map(|&id| (id, MemoryLogStore::new(members.clone()))).collect();
        Self {
            inboxes,
            receivers,
            logs,
            threads: BTreeMap::new(),
            tell,
            news,
            leader: None,
            progress: BTreeMap::new(),
        }
    }

    /// Starts a node from its log. The state machine is in memory and begins empty: every
    /// committed entry is applied again.
    fn start(&mut self, id: NodeId) {
        let log = self.logs[&id].clone();
        let node = Node::open(Config::new(id), Rng::seeded(2_026), Box::new(log.clone()))
            .expect("the log can be read");
        let driver = Driver {
            node,
            log,
            outboxes: self.inboxes.clone(),
            news: self.tell.clone(),
            applied: Vec::new(),
        };
        let inbox = self.receivers.remove(&id).expect("the node is not running");
        // What was sent to it while it was dead is lost.
        while inbox.try_recv().is_ok() {}
        let run = move || {
            let applied = driver.run(&inbox);
            (applied, inbox)
        };
        self.threads.insert(id, std::thread::spawn(run));
    }

    /// Ends a node's thread. Its log stays; what it had in memory is gone.
    fn kill(&mut self, id: NodeId) -> Vec<u64> {
        self.send(id, Event::Kill);
        let thread = self.threads.remove(&id).expect("the node is running");
        let (applied, inbox) = thread.join().expect("nodes do not panic");
        self.receivers.insert(id, inbox);
        applied
    }

    fn send(&self, id: NodeId, event: Event) {
        // A node that was killed hears nothing.
        drop(self.inboxes[&id].send(event));
    }

    /// Takes one piece of news. Returns whether there was one in time.
    fn listen(&mut self) -> bool {
        let Ok(news) = self.news.recv_timeout(RETRY) else { return false };
        match news {
            News::Leads { node, term } => {
                println!("node {node} leads term {term}");
                self.leader = self.leader.max(Some((term, node)));
            }
            News::Applied { node, number, index } => {
                self.progress.entry(node).or_default().insert(number, index);
            }
        }
        true
    }

    /// Listens until something is so; does `otherwise` each time nothing was heard for a while.
    fn until(&mut self, is_so: impl Fn(&Self) -> bool, otherwise: impl Fn(&Self)) {
        let mut retries = 0;
        while !is_so(self) {
            if !self.listen() {
                retries += 1;
                assert!(retries < RETRIES, "the story does not go on");
                otherwise(self);
            }
        }
    }

    /// One proposal, until the leader it was given to has applied it.
    fn propose(&mut self, number: u64) {
        let ask = |story: &Self| {
            if let Some((_, leader)) = story.leader {
                story.send(leader, Event::Propose(number));
            }
        };
        ask(self);
        self.until(|story| story.progress.values().any(|done| done.contains_key(&number)), ask);
        if number.is_multiple_of(10) {
            let (_, leader) = self.leader.expect("somebody applied it");
            let index = self.progress.values().find_map(|done| done.get(&number));
            println!(
                "proposal {number} is applied, at index {}, led by {leader}",
                index.expect("it was applied")
            );
        }
    }
}

fn main() {
    let mut story = Story::new();
    let ids: Vec<NodeId> = story.inboxes.keys().copied().collect();
    ids.iter().for_each(|&id| story.start(id));
    println!("{NODES} nodes start as followers; nobody leads");

    let clocks = story.inboxes.clone();
    let (stop, stopped) = channel::<()>();
    let clock = std::thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
            clocks.values().for_each(|inbox| drop(inbox.send(Event::Tick)));
        }
    });

    story.until(|story| story.leader.is_some(), |_| ());
    (1..=KILL_AFTER).for_each(|number| story.propose(number));
    let (term, dead) = story.leader.take().expect("somebody leads");
    story.kill(dead);
    story.progress.remove(&dead);
    println!("node {dead}, the leader of term {term}, is killed");
    story.until(|story| story.leader.is_some_and(|(newer, _)| newer > term), |_| ());
    (KILL_AFTER + 1..=PROPOSALS).for_each(|number| story.propose(number));

    println!("node {dead} starts again, with its log and an empty state");
    story.start(dead);
    let has_all = |done: &BTreeMap<u64, Index>| done.len() as u64 == PROPOSALS;
    let everybody = |story: &Story| {
        story.progress.len() as u64 == NODES && story.progress.values().all(has_all)
    };
    story.until(everybody, |_| ());

    drop(stop);
    let expected: Vec<u64> = (1..=PROPOSALS).collect();
    for id in ids {
        let applied = story.kill(id);
        assert_eq!(applied, expected, "node {id} applied every proposal once, in order");
        println!("node {id} has applied {} proposals, each once", applied.len());
    }
    clock.join().expect("the clock does not panic");
}
