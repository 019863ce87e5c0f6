//! Who asked what when, and what they were told.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kiva_base::{Key, Moment};

use crate::script::format_bytes;

/// What a key holds.
pub type Value = Bytes;

/// What somebody asked of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// What does it hold?
    Get,
    /// From now on it holds this.
    Put(Value),
    /// From now on it holds nothing.
    Delete,
    /// If it holds `expected`, it holds `new` from now on.
    CompareAndSwap {
        /// What it has to hold; nothing, when `None`.
        expected: Option<Value>,
        /// What it holds then.
        new: Value,
    },
}

impl Action {
    /// What the key holds afterwards if the action changes it; `None` for one that never does.
    pub(crate) fn writes(&self) -> Option<Option<&Value>> {
        match self {
            Self::Get => None,
            Self::Put(value) | Self::CompareAndSwap { new: value, .. } => Some(Some(value)),
            Self::Delete => Some(None),
        }
    }
}

/// What somebody was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To a get: the key holds this.
    Got(Option<Value>),
    /// To a put or a delete: done.
    Done,
    /// To a compare-and-swap.
    Compared {
        /// Whether the key holds the new value now.
        swapped: bool,
        /// What it held before.
        previous: Option<Value>,
    },
}

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It took effect between its two ends.
    Answered(Answer),
    /// It did not happen and never will.
    Refused,
    /// It took effect at some time after it was asked for, or will, or never.
    Unknown,
}

/// One thing that one client asked of one key.
///
/// Invariants:
/// - `asked < ended` where it ended. No two ends of a history have the same number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Which client.
    pub client: u64,
    /// Of which key.
    pub key: Key,
    /// What it asked.
    pub action: Action,
    /// Its place among all that was recorded, and the time for a person.
    pub asked: (u64, Moment),
    /// Likewise for the end. `None` when nobody was told anything, as when the client was cut off.
    pub ended: Option<(u64, Moment)>,
    /// How it ended; unknown while it has not.
    pub outcome: Outcome,
}

/// Records operations as they begin and end. A clone is another handle to the same history.
///
/// The order in which the two methods are called is the order of real time: record the beginning
/// before anything is sent and the end when everything has come back.
#[derive(Clone, Default)]
pub struct History {
    shared: Arc<Mutex<Records>>,
}

#[derive(Default)]
struct Records {
    operations: Vec<Operation>,
    recorded: u64,
}

/// An operation that has begun.
#[must_use = "an operation whose end is not recorded may happen at any time"]
#[derive(Debug)]
pub struct Ticket(usize);

impl History {
    /// Nothing happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Somebody asks for something now.
    pub fn ask(&self, client: u64, at: Moment, key: Key, action: Action) -> Ticket {
        let mut records = self.lock();
        let asked = (records.next(), at);
        let outcome = Outcome::Unknown;
        records.operations.push(Operation { client, key, action, asked, ended: None, outcome });
        Ticket(records.operations.len() - 1)
    }

    /// They are told something now.
    pub fn end(&self, ticket: Ticket, at: Moment, outcome: Outcome) {
        let mut records = self.lock();
        let ended = (records.next(), at);
        let operation = &mut records.operations[ticket.0];
        operation.ended = Some(ended);
        operation.outcome = outcome;
    }

    /// All of it, in the order it began.
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn next(&mut self) -> u64 {
        self.recorded += 1;
        self.recorded
    }
}

/// A value as a person reads it.
pub(crate) fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".into(), |value| format_bytes(value))
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("get"),
            Self::Put(value) => write!(f, "put {}", format_bytes(value)),
            Self::Delete => f.write_str("delete"),
            Self::CompareAndSwap { expected, new } => {
                write!(f, "cas {} -> {}", shown(expected.as_ref()), format_bytes(new))
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(Answer::Done) => f.write_str("done"),
            Self::Answered(Answer::Got(value)) => write!(f, "got {}", shown(value.as_ref())),
            Self::Answered(Answer::Compared { swapped, previous }) => {
                let verb = if *swapped { "swapped" } else { "kept" };
                write!(f, "{verb} {}", shown(previous.as_ref()))
            }
            Self::Refused => f.write_str("refused"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The client, the two ends in seconds, what was asked and what came of it.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, action, asked, ended, outcome, .. } = self;
        let seconds = |at: Moment| format!("{:.6}", at.elapsed().as_secs_f64());
        let end = ended.map_or_else(|| "never".into(), |(_, at)| seconds(at));
        write!(f, "{:>10} .. {end:>10}  c{client}  {action}  {outcome}", seconds(asked.1))
    }
}
