//! Writers and readers that go on whatever happens, and the judgement of what they were told.
#![expect(clippy::disallowed_methods, reason = "real processes are watched in real time")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kiva_base::{Key, Moment};
use kiva_client::{Client, Options, RawError, Wire};
use kiva_testkit::check::{Action, Answer, History, Outcome, linearizable};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, PATIENCE};

/// Writers, each with a client and keys of its own. Half of them use the batch stream.
pub(crate) const WRITERS: u64 = 4;
/// Readers of everybody's keys.
const READERS: u64 = 2;
/// Keys of a writer.
const KEYS: u64 = 3;
/// What everybody waits between two operations: the finest time that can be measured, and room for
/// the servers on a machine with few cores.
const PACE: Duration = Duration::from_millis(4);

/// Writers and readers of one round.
pub(crate) struct Load {
    shared: Arc<Shared>,
    round: usize,
    tasks: JoinSet<()>,
}

struct Shared {
    history: History,
    started: Instant,
    is_stopped: AtomicBool,
    /// Who was told that a write is done, and when.
    successes: Mutex<Vec<(u64, Moment)>>,
}

impl Load {
    /// Everybody begins. A round has keys of its own.
    pub(crate) async fn start(cluster: &Cluster, round: usize) -> Self {
        let shared = Arc::new(Shared {
            history: History::new(),
            started: Instant::now(),
            is_stopped: AtomicBool::new(false),
            successes: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS + READERS {
            let wire = if number % 2 == 0 { Wire::Unary } else { Wire::Batch };
            let options = Options { wire, connections: 1, seed: number, ..Options::default() };
            let client = cluster.client(options).await;
            let player = Player { number, round, client, shared: shared.clone() };
            match number < WRITERS {
                true => tasks.spawn(player.write()),
                false => tasks.spawn(player.read()),
            };
        }
        Self { shared, round, tasks }
    }

    /// The time of this load.
    pub(crate) fn now(&self) -> Moment {
        self.shared.now()
    }

    /// Waits until every writer has had `count` successes after `since`.
    pub(crate) async fn flows(&self, since: Moment, count: usize) {
        let began = Instant::now();
        loop {
            if self.has_all(since, count) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "round {}: writes do not go on", self.round);
            tokio::time::sleep(PACE).await;
        }
    }

    /// Whether every writer has had `count` successes after `since`.
    fn has_all(&self, since: Moment, count: usize) -> bool {
        let successes = self.shared.successes();
        let of =
            |writer| successes.iter().filter(|(who, at)| *who == writer && *at > since).count();
        (0..WRITERS).all(|writer| of(writer) >= count)
    }

    /// The longest time without a success that ended after `since`: of all together, and of the
    /// unluckiest writer.
    pub(crate) fn gaps(&self, since: Moment) -> (Duration, Duration) {
        let successes = self.shared.successes();
        let longest = |moments: &mut dyn Iterator<Item = Moment>| {
            let moments: Vec<_> = moments.collect();
            let pairs = moments.windows(2).filter(|pair| pair[1] > since);
            pairs.map(|pair| pair[1].since(pair[0])).max().unwrap_or_default()
        };
        let all = longest(&mut successes.iter().map(|(_, at)| *at));
        let of_one = (0..WRITERS).map(|writer| {
            let own = successes.iter().filter(|(who, _)| *who == writer);
            longest(&mut own.map(|(_, at)| *at))
        });
        (all, of_one.max().unwrap_or_default())
    }

    /// Everybody ends.
    pub(crate) async fn stop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a player does not panic");
        }
    }

    /// Reads every key with a new client.
    pub(crate) async fn look(&self, cluster: &Cluster) {
        let number = WRITERS + READERS;
        let client = cluster.client(Options { timeout: PATIENCE, ..Options::default() }).await;
        let shared = self.shared.clone();
        let player = Player { number, round: self.round, client, shared };
        for key in 0..WRITERS * KEYS {
            let outcome = player.run(key, Action::Get).await;
            assert!(matches!(outcome, Outcome::Answered(_)), "a key cannot be read: {outcome}");
        }
    }

    /// Whether there is an order that explains what everybody was told.
    pub(crate) fn judge(&self) {
        let operations = self.shared.history.operations();
        if let Err(violation) = linearizable(&operations) {
            panic!("round {}: {violation}", self.round);
        }
    }

    /// How many operations there were, and of how many nobody knows the outcome.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let operations = self.shared.history.operations();
        let is_unknown = |outcome: &Outcome| matches!(outcome, Outcome::Unknown);
        let unknown = operations.iter().filter(|operation| is_unknown(&operation.outcome));
        (operations.len(), unknown.count())
    }
}

impl Shared {
    fn now(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    fn successes(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Moment)>> {
        self.successes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

/// One client at its work.
struct Player {
    number: u64,
    round: usize,
    client: Client,
    shared: Arc<Shared>,
}

impl Player {
    /// Writes its keys in turn, each value once, and looks at what it wrote now and then.
    async fn write(self) {
        for count in 0.. {
            if self.shared.is_stopped() {
                return;
            }
            let key = self.number * KEYS + count % KEYS;
            let value = Bytes::from(format!("{}.{count}", self.number));
            let outcome = self.run(key, Action::Put(value)).await;
            if matches!(outcome, Outcome::Answered(_)) {
                let now = self.shared.now();
                self.shared.successes().push((self.number, now));
            }
            if count % 8 == 0 {
                self.run(key, Action::Get).await;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Reads everybody's keys in turn.
    async fn read(self) {
        for count in self.number.. {
            if self.shared.is_stopped() {
                return;
            }
            self.run(count % (WRITERS * KEYS), Action::Get).await;
            tokio::time::sleep(PACE).await;
        }
    }

    /// Asks once and records what came of it.
    async fn run(&self, key: u64, action: Action) -> Outcome {
        let key = Key::from(format!("round-{}-key-{key}", self.round));
        let (raw, history) = (self.client.raw(), &self.shared.history);
        let ticket = history.ask(self.number, self.shared.now(), key.clone(), action.clone());
        let answer = match action {
            Action::Put(value) => raw.put(key, value).await.map(|()| Answer::Done),
            _ => raw.get(key).await.map(Answer::Got),
        };
        let outcome = match answer {
            Ok(answer) => Outcome::Answered(answer),
            Err(error) if error.is_unknown() => Outcome::Unknown,
            Err(RawError::GaveUp(_)) => Outcome::Refused,
            Err(error) => panic!("nobody should see this because a store is away: {error}"),
        };
        history.end(ticket, self.shared.now(), outcome.clone());
        outcome
    }
}
