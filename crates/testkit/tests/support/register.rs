//! Histories of a register that exists: one value, which operations read and change at one moment
//! between their two ends.

use std::time::Duration;

use kiva_base::{Key, Moment};
use kiva_testkit::check::{Action, Answer, Operation, Outcome, Value};
use kiva_testkit::sim::{Chance, Rng};

/// What a history is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) clients: usize,
    pub(crate) operations: usize,
    /// Of a hundred operations, so many end without an answer. Half of them happen, some of them
    /// long after everybody has given up on them.
    pub(crate) unknown_percent: u64,
    pub(crate) refused_percent: u64,
    /// Whether no value is written twice.
    pub(crate) has_unique_values: bool,
}

/// An operation under way.
struct Open {
    /// Its place in the history.
    position: usize,
    /// What happened at its moment, once it has come.
    answer: Option<Answer>,
    /// Its end, for one that ends without an answer.
    outcome: Option<Outcome>,
}

/// Plays clients on one register; each step of one of them is the next moment.
pub(crate) fn history(rng: &mut Rng, shape: &Shape) -> Vec<Operation> {
    let mut history = Vec::new();
    let mut held: Option<Value> = None;
    let mut clients: Vec<Option<Open>> = (0..shape.clients).map(|_| None).collect();
    // Given up by their clients, and still to happen.
    let mut late: Vec<Action> = Vec::new();
    let mut now = 0;
    while history.len() < shape.operations || clients.iter().any(Option::is_some) {
        now += 1;
        let at = (now, Moment::after_start(Duration::from_millis(now)));
        if !late.is_empty() && rng.happens(Chance::percent(3)) {
            let action = late.swap_remove(rng.position(late.len()));
            perform(&action, &mut held);
        }
        let client = rng.position(shape.clients);
        match &mut clients[client] {
            None if history.len() < shape.operations => {
                let action = action(rng, shape, history.len(), held.as_ref());
                history.push(Operation {
                    client: client as u64,
                    key: Key::from("x"),
                    action,
                    asked: at,
                    ended: None,
                    outcome: Outcome::Unknown,
                });
                clients[client] = Some(Open {
                    position: history.len() - 1,
                    answer: None,
                    outcome: fate(rng, shape),
                });
            }
            None => {}
            Some(open) => {
                let operation = &mut history[open.position];
                match (&open.outcome, &open.answer) {
                    (Some(outcome), _) => {
                        operation.outcome = outcome.clone();
                        if *outcome == Outcome::Unknown {
                            match rng.number(0..4) {
                                0 => drop(perform(&operation.action, &mut held)),
                                1 => late.push(operation.action.clone()),
                                _ => {}
                            }
                        }
                    }
                    (None, None) => {
                        open.answer = Some(perform(&operation.action, &mut held));
                        continue;
                    }
                    (None, Some(answer)) => operation.outcome = Outcome::Answered(answer.clone()),
                }
                operation.ended = Some(at);
                clients[client] = None;
            }
        }
    }
    history
}

fn fate(rng: &mut Rng, shape: &Shape) -> Option<Outcome> {
    match rng.number(0..100) {
        lot if lot < shape.unknown_percent => Some(Outcome::Unknown),
        lot if lot < shape.unknown_percent + shape.refused_percent => Some(Outcome::Refused),
        _ => None,
    }
}

fn action(rng: &mut Rng, shape: &Shape, number: usize, held: Option<&Value>) -> Action {
    let new = |rng: &mut Rng| {
        let number = if shape.has_unique_values { number as u64 } else { rng.number(0..4) };
        Value::from(number.to_string())
    };
    match rng.number(0..10) {
        0..4 => Action::Get,
        4..7 => Action::Put(new(rng)),
        7 => Action::Delete,
        8 => Action::CompareAndSwap { expected: held.cloned(), new: new(rng) },
        _ => Action::CompareAndSwap { expected: Some(new(rng)), new: new(rng) },
    }
}

fn perform(action: &Action, held: &mut Option<Value>) -> Answer {
    match action {
        Action::Get => Answer::Got(held.clone()),
        Action::Put(value) => {
            *held = Some(value.clone());
            Answer::Done
        }
        Action::Delete => {
            *held = None;
            Answer::Done
        }
        Action::CompareAndSwap { expected, new } => {
            let previous = held.clone();
            let swapped = previous == *expected;
            if swapped {
                *held = Some(new.clone());
            }
            Answer::Compared { swapped, previous }
        }
    }
}

/// Puts something else into one answer: another value of the history, or nothing.
pub(crate) fn change_an_answer(rng: &mut Rng, history: &mut [Operation]) {
    let mut values: Vec<Option<Value>> = vec![None];
    for operation in &*history {
        if let Action::Put(value) | Action::CompareAndSwap { new: value, .. } = &operation.action {
            values.push(Some(value.clone()));
        }
    }
    let is_telling = |operation: &&mut Operation| {
        matches!(operation.outcome, Outcome::Answered(Answer::Got(_) | Answer::Compared { .. }))
    };
    let mut telling: Vec<_> = history.iter_mut().filter(is_telling).collect();
    if telling.is_empty() {
        return;
    }
    let place = rng.position(telling.len());
    let operation = &mut telling[place];
    let value = rng.pick(&values).cloned().flatten();
    operation.outcome = Outcome::Answered(match &operation.action {
        Action::CompareAndSwap { expected, .. } => {
            Answer::Compared { swapped: value == *expected, previous: value }
        }
        _ => Answer::Got(value),
    });
}
