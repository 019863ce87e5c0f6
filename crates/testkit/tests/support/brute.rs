//! The definition of linearizability, tried out: every choice of what happened, in every order.

use kiva_testkit::check::{Action, Answer, Operation, Outcome, Value};

/// Whether the operations of one key can be put into an order. Takes exponential time.
pub(crate) fn is_linearizable(history: &[Operation]) -> bool {
    let happened: Vec<_> =
        history.iter().filter(|operation| operation.outcome != Outcome::Refused).collect();
    extend(&happened, &mut vec![false; happened.len()], None)
}

fn extend(history: &[&Operation], placed: &mut [bool], held: Option<&Value>) -> bool {
    let must = |operation: &Operation| matches!(operation.outcome, Outcome::Answered(_));
    if history.iter().zip(&*placed).all(|(operation, placed)| *placed || !must(operation)) {
        return true;
    }
    // The next one must have begun before everything that is left has ended.
    let left = history.iter().zip(&*placed).filter(|(o, placed)| !**placed && must(o));
    let first_end = left.filter_map(|(operation, _)| operation.ended).min();
    for position in 0..history.len() {
        let operation = history[position];
        if placed[position] || first_end.is_some_and(|end| operation.asked > end) {
            continue;
        }
        if let Some(after) = step(operation, held) {
            placed[position] = true;
            let found = extend(history, placed, after);
            placed[position] = false;
            if found {
                return true;
            }
        }
    }
    false
}

/// What the key holds afterwards, if the answer is right.
fn step<'a>(operation: &'a Operation, held: Option<&'a Value>) -> Option<Option<&'a Value>> {
    let answer = match &operation.outcome {
        Outcome::Answered(answer) => Some(answer),
        Outcome::Refused | Outcome::Unknown => None,
    };
    match (&operation.action, answer) {
        (Action::Get, Some(Answer::Got(value))) => (value.as_ref() == held).then_some(held),
        (Action::Get, _) => Some(held),
        (Action::Put(value), _) => Some(Some(value)),
        (Action::Delete, _) => Some(None),
        (Action::CompareAndSwap { expected, new }, answer) => {
            let swaps = expected.as_ref() == held;
            let is_right = match answer {
                Some(Answer::Compared { swapped, previous }) => {
                    *swapped == swaps && previous.as_ref() == held
                }
                _ => true,
            };
            is_right.then_some(if swaps { Some(new) } else { held })
        }
    }
}
