//! Everybody reads and changes a few keys; every key must be linearizable.
//!
//! Covers INV-linearizable and INV-durable for single keys, and INV-at-most-once: a write that
//! happens a second time shows an old value again, which nothing explains because every value is
//! written once.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiva_base::Key;
use kiva_base::clock::BoxFuture;

use super::{Client, Failed, Workload};
use crate::check::{Action, Answer, History, Outcome, Value, linearizable};

/// How much is done, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many clients.
    pub clients: u64,
    /// How many keys. Few, so that clients meet.
    pub keys: u64,
    /// Operations of one client, at most.
    pub operations_max: u64,
    /// What a client waits between two operations.
    pub pause: Range<Duration>,
    /// How likely each kind of operation is, in parts of their sum.
    pub mix: Mix,
}

/// How likely each kind of operation is, in parts of their sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mix {
    /// Gets.
    pub get: u64,
    /// Puts.
    pub put: u64,
    /// Deletes.
    pub delete: u64,
    /// Compare-and-swaps; most expect what the client saw last.
    pub compare_and_swap: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clients: 5,
            keys: 4,
            operations_max: 10_000,
            pause: Duration::ZERO..Duration::from_millis(40),
            mix: Mix { get: 40, put: 30, delete: 8, compare_and_swap: 22 },
        }
    }
}

/// The workload.
pub struct Register {
    options: Options,
    history: History,
    is_stopped: Arc<AtomicBool>,
}

impl Register {
    /// Nothing is done yet.
    pub fn new(options: Options) -> Self {
        Self { options, history: History::new(), is_stopped: Arc::default() }
    }

    /// What was asked and answered so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    fn player(&self, client: Client) -> Player {
        let keys = self.options.keys as usize;
        Player { client, history: self.history.clone(), seen: vec![None; keys], written: 0 }
    }
}

impl Workload for Register {
    fn name(&self) -> &'static str {
        "register"
    }

    fn clients(&self) -> u64 {
        self.options.clients
    }

    fn client(&self, client: Client) -> BoxFuture<'static, ()> {
        let mut player = self.player(client);
        let options = self.options.clone();
        let is_stopped = Arc::clone(&self.is_stopped);
        Box::pin(async move {
            for _ in 0..options.operations_max {
                if is_stopped.load(Ordering::Relaxed) {
                    return;
                }
                player.play(&options).await;
                let pause = player.client.rng.duration(&options.pause);
                player.client.clock.sleep(pause).await;
            }
        })
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Only the whole history shows whether it is linearizable.
    fn has_failed(&self) -> bool {
        false
    }

    fn verify(&self, client: Client) -> BoxFuture<'static, ()> {
        let mut player = self.player(client);
        Box::pin(async move {
            for key in 0..player.seen.len() {
                while !player.run(key, Action::Get).await {
                    player.client.clock.sleep(super::RETRY_PAUSE).await;
                }
            }
        })
    }

    fn verdict(&self) -> Result<String, Box<dyn Error>> {
        let operations = self.history.operations();
        let checked = linearizable(&operations)?;
        let unknown = operations.iter().filter(|o| o.outcome == Outcome::Unknown).count();
        let refused = operations.iter().filter(|o| o.outcome == Outcome::Refused).count();
        Ok(format!("{checked}, {unknown} unknown, {refused} refused"))
    }
}

/// One client at its work.
struct Player {
    client: Client,
    history: History,
    /// What each key held when this client last knew.
    seen: Vec<Option<Value>>,
    written: u64,
}

impl Player {
    async fn play(&mut self, options: &Options) {
        let key = self.client.rng.position(self.seen.len());
        let Mix { get, put, delete, compare_and_swap } = options.mix;
        let lot = self.client.rng.number(0..get + put + delete + compare_and_swap);
        let action = if lot < get {
            Action::Get
        } else if lot < get + put {
            Action::Put(self.new_value())
        } else if lot < get + put + delete {
            Action::Delete
        } else {
            Action::CompareAndSwap { expected: self.seen[key].clone(), new: self.new_value() }
        };
        self.run(key, action).await;
    }

    /// A value that nobody has written and nobody will again.
    fn new_value(&mut self) -> Value {
        self.written += 1;
        Value::from(format!("{}.{}", self.client.number, self.written))
    }

    /// Asks, records, and remembers what the key holds. Whether there was an answer.
    async fn run(&mut self, position: usize, action: Action) -> bool {
        let Client { number, kv, clock, .. } = &self.client;
        let key = Key::from(format!("register-{position}"));
        let ticket = self.history.ask(*number, clock.now(), key.clone(), action.clone());
        let answer = match action.clone() {
            Action::Get => kv.get(key).await.map(Answer::Got),
            Action::Put(value) => kv.put(key, value).await.map(|()| Answer::Done),
            Action::Delete => kv.delete(key).await.map(|()| Answer::Done),
            Action::CompareAndSwap { expected, new } => {
                let swap = kv.compare_and_swap(key, expected, new).await;
                swap.map(|swap| Answer::Compared { swapped: swap.swapped, previous: swap.previous })
            }
        };
        let seen = match (&answer, action) {
            (Ok(Answer::Got(value)), _) => Some(value.clone()),
            (Ok(Answer::Compared { swapped: false, previous }), _) => Some(previous.clone()),
            (Ok(_), Action::Put(value) | Action::CompareAndSwap { new: value, .. }) => {
                Some(Some(value))
            }
            (Ok(_), Action::Delete) => Some(None),
            (Ok(_), Action::Get) | (Err(_), _) => None,
        };
        if let Some(seen) = seen {
            self.seen[position] = seen;
        }
        let is_answered = answer.is_ok();
        let outcome = match answer {
            Ok(answer) => Outcome::Answered(answer),
            Err(Failed::Refused) => Outcome::Refused,
            Err(Failed::Unknown) => Outcome::Unknown,
        };
        self.history.end(ticket, self.client.clock.now(), outcome);
        is_answered
    }
}
