//! The search for one key.

use std::collections::BTreeMap;

use super::explain::violation;
use super::{COMPARISONS_MAX, Reason, Violation};
use crate::check::history::{Action, Answer, Operation, Outcome, Value};

/// What a key holds, as a number. Zero is nothing.
type State = usize;
/// A set of operations under way, one bit each.
type Slots = u128;

/// Operations under way at once, at most.
const SLOTS: usize = Slots::BITS as usize;

/// What an operation does to the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Effect {
    /// Nothing, and it holds this.
    Read(State),
    /// It holds this from now on.
    Write(State),
    /// It held `from` and holds `to` from now on.
    Swap { from: State, to: State },
}

impl Effect {
    fn sees(self) -> Option<State> {
        match self {
            Self::Read(state) | Self::Swap { from: state, .. } => Some(state),
            Self::Write(_) => None,
        }
    }

    fn writes(self) -> Option<State> {
        match self {
            Self::Write(state) | Self::Swap { to: state, .. } => Some(state),
            Self::Read(_) => None,
        }
    }
}

/// An operation that happened, or may have.
#[derive(Clone, Copy, Debug)]
struct Step {
    effect: Effect,
    begin: u64,
    /// It happened before this. `None` for one that may happen at any time or never.
    end: Option<u64>,
    /// When whoever asked was told that it happened.
    told: Option<u64>,
    /// Its place in the list of operations.
    source: usize,
}

/// Judges the operations of one key, in the order they began. Answers the most configurations
/// there were at one moment.
pub(super) fn check(operations: &[&Operation]) -> Result<usize, Box<Violation>> {
    let fail = |step: &Step, reason, possible| {
        Err(violation(operations, operations[step.source], reason, possible))
    };
    let mut values = Values::default();
    let mut steps = Vec::new();
    for (source, operation) in operations.iter().enumerate() {
        let begin = operation.asked.0;
        let end = match operation.outcome {
            Outcome::Answered(_) => operation.ended.map(|(number, _)| number),
            Outcome::Refused | Outcome::Unknown => None,
        };
        match values.effect(operation) {
            Ok(Some(effect)) => steps.push(Step { effect, begin, end, told: end, source }),
            Ok(None) => {}
            Err(Contradiction) => {
                let reason = Reason::Contradiction;
                return Err(violation(operations, operation, reason, Vec::new()));
            }
        }
    }
    if let Err((step, mut reason)) = tighten(&mut steps, values.list.len()) {
        let seen = step.effect.sees().and_then(|state| values.list[state].as_ref());
        let writes_it = |o: &&&Operation| seen.is_some() && o.action.writes() == Some(seen);
        if reason == Reason::NeverWritten && operations.iter().any(|o| writes_it(&o)) {
            reason = Reason::WasRefused;
        }
        return fail(&step, reason, Vec::new());
    }
    forget_unseen(&mut steps, values.list.len());
    Search::new(&steps, values.list.len()).run().or_else(|stuck| {
        let stuck = for_a_person(&steps, values.list.len()).unwrap_or(stuck);
        let possible = stuck.possible.iter().map(|&state| values.list[state].clone()).collect();
        fail(&steps[stuck.step], stuck.reason, possible)
    })
}

/// Looks for another witness. The short cuts of the search notice that a value is overwritten
/// before it is seen for the last time; a person wonders about whoever sees it then.
fn for_a_person(steps: &[Step], states: usize) -> Option<Stuck> {
    let steps: Vec<_> =
        steps.iter().map(|step| Step { end: step.told.or(step.end), ..*step }).collect();
    let mut search = Search::new(&steps, states);
    search.is_unique.fill(false);
    search.run().err().filter(|stuck| stuck.reason == Reason::NoOrder)
}

/// An answer that does not go with its question.
struct Contradiction;

/// What was written and seen, numbered.
struct Values {
    list: Vec<Option<Value>>,
    numbers: BTreeMap<Option<Value>, State>,
}

impl Default for Values {
    fn default() -> Self {
        Self { list: vec![None], numbers: BTreeMap::from([(None, 0)]) }
    }
}

impl Values {
    fn number(&mut self, value: Option<&Value>) -> State {
        let Self { list, numbers } = self;
        *numbers.entry(value.cloned()).or_insert_with(|| {
            list.push(value.cloned());
            list.len() - 1
        })
    }

    /// What an operation does if it happens; `None` when it does not, or when that tells nothing.
    fn effect(&mut self, operation: &Operation) -> Result<Option<Effect>, Contradiction> {
        let effect = match (&operation.action, &operation.outcome) {
            (_, Outcome::Refused) | (Action::Get, Outcome::Unknown) => return Ok(None),
            (Action::Get, Outcome::Answered(Answer::Got(value))) => {
                Effect::Read(self.number(value.as_ref()))
            }
            (Action::Put(value), Outcome::Answered(Answer::Done) | Outcome::Unknown) => {
                Effect::Write(self.number(Some(value)))
            }
            (Action::Delete, Outcome::Answered(Answer::Done) | Outcome::Unknown) => {
                Effect::Write(0)
            }
            (
                Action::CompareAndSwap { expected, new },
                Outcome::Answered(Answer::Compared { swapped, previous }),
            ) => {
                if *swapped != (expected == previous) {
                    return Err(Contradiction);
                }
                let from = self.number(previous.as_ref());
                let to = if *swapped { self.number(Some(new)) } else { from };
                if from == to { Effect::Read(from) } else { Effect::Swap { from, to } }
            }
            (Action::CompareAndSwap { expected, new }, Outcome::Unknown) => {
                let (from, to) = (self.number(expected.as_ref()), self.number(Some(new)));
                if from == to {
                    return Ok(None);
                }
                Effect::Swap { from, to }
            }
            _ => return Err(Contradiction),
        };
        Ok(Some(effect))
    }
}

/// Which steps write each state.
fn writers(steps: &[Step], states: usize) -> Vec<Vec<usize>> {
    let mut writers = vec![Vec::new(); states];
    for (position, step) in steps.iter().enumerate() {
        if let Some(state) = step.effect.writes() {
            writers[state].push(position);
        }
    }
    writers
}

/// Who wrote what somebody saw did so before the first who saw it was told.
fn tighten(steps: &mut [Step], states: usize) -> Result<(), (Step, Reason)> {
    let writers = writers(steps, states);
    loop {
        let mut has_changed = false;
        let mut in_order: Vec<_> = (0..steps.len()).filter(|&i| steps[i].end.is_some()).collect();
        in_order.sort_by_key(|&position| steps[position].end);
        for position in in_order {
            let observer = steps[position];
            let (Some(state), Some(end)) = (observer.effect.sees(), observer.end) else { continue };
            match writers[state][..] {
                _ if state == 0 => {}
                [] => return Err((observer, Reason::NeverWritten)),
                [only] if steps[only].begin > end => {
                    return Err((observer, Reason::NotYetWritten));
                }
                [only] if steps[only].end.is_none_or(|old| old > end) => {
                    steps[only].end = Some(end);
                    has_changed = true;
                }
                _ => {}
            }
        }
        if !has_changed {
            return Ok(());
        }
    }
}

/// What may have happened and wrote what nobody saw need not have happened.
fn forget_unseen(steps: &mut Vec<Step>, states: usize) {
    loop {
        let mut is_seen = vec![false; states];
        steps.iter().filter_map(|step| step.effect.sees()).for_each(|state| is_seen[state] = true);
        let before = steps.len();
        steps.retain(|step| {
            step.end.is_some() || step.effect.writes().is_some_and(|state| is_seen[state])
        });
        if steps.len() == before {
            return;
        }
    }
}

/// One explanation of what was seen so far: what the key holds, which of those under way have
/// happened, and how many of each kind of those that may happen at any time.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Configuration {
    state: State,
    done: Slots,
    used: Vec<u32>,
}

/// Configurations none of which can do everything that another one can.
#[derive(Default)]
struct Front {
    by_place: BTreeMap<(State, Slots), Vec<Vec<u32>>>,
}

impl Front {
    /// Adds one, unless another can do all that it can. Answers whether it was added, and counts
    /// the comparisons.
    fn insert(&mut self, configuration: &Configuration, comparisons: &mut usize) -> bool {
        let place = (configuration.state, configuration.done);
        let others = self.by_place.entry(place).or_default();
        let used = &configuration.used;
        *comparisons += 1 + others.len() * (1 + used.len());
        let at_most = |a: &[u32], b: &[u32]| a.iter().zip(b).all(|(a, b)| a <= b);
        if others.iter().any(|other| at_most(other, used)) {
            return false;
        }
        others.retain(|other| !at_most(used, other));
        others.push(used.clone());
        true
    }

    fn into_list(self) -> Vec<Configuration> {
        let all = self.by_place.into_iter().flat_map(|((state, done), all)| {
            all.into_iter().map(move |used| Configuration { state, done, used })
        });
        all.collect()
    }
}

/// Where a search ended without an explanation.
struct Stuck {
    step: usize,
    reason: Reason,
    possible: Vec<State>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begin(usize),
    End(usize),
}

/// The search. The masks speak of slots, each held by a step under way.
struct Search<'a> {
    steps: &'a [Step],
    /// Whether exactly one step writes this state, so that it never comes back.
    is_unique: Vec<bool>,
    /// Steps that see the state and have not begun.
    to_come: Vec<usize>,
    /// Under way: those that see the state; of these, those that only read it.
    seeing: Vec<Slots>,
    reading: Vec<Slots>,
    /// Under way: plain writes of what nobody sees.
    unseen: Slots,
    /// Under way: all that change something.
    writing: Slots,
    holders: Vec<Option<usize>>,
    slots: Vec<usize>,
    /// What may happen at any time, by kind, and how many of that kind have begun.
    kinds: Vec<(Effect, u32)>,
    configurations: Vec<Configuration>,
    comparisons: usize,
}

impl<'a> Search<'a> {
    fn new(steps: &'a [Step], states: usize) -> Self {
        let writers = writers(steps, states);
        let mut to_come = vec![0; states];
        for step in steps.iter().filter(|step| step.end.is_some()) {
            step.effect.sees().into_iter().for_each(|state| to_come[state] += 1);
        }
        let mut kinds: Vec<_> =
            steps.iter().filter(|step| step.end.is_none()).map(|step| (step.effect, 0)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        Self {
            steps,
            // Keys hold nothing in the beginning, which nobody wrote.
            is_unique: writers.iter().enumerate().map(|(s, w)| s != 0 && w.len() == 1).collect(),
            to_come,
            seeing: vec![0; states],
            reading: vec![0; states],
            unseen: 0,
            writing: 0,
            holders: vec![None; SLOTS],
            slots: vec![0; steps.len()],
            configurations: vec![Configuration { state: 0, done: 0, used: vec![0; kinds.len()] }],
            kinds,
            comparisons: 0,
        }
    }

    fn run(mut self) -> Result<usize, Stuck> {
        let mut events = Vec::new();
        for (position, step) in self.steps.iter().enumerate() {
            events.push((step.begin, Event::Begin(position)));
            events.extend(step.end.map(|end| (end, Event::End(position))));
        }
        // Who saw a value may end together with who wrote it, and is the better witness.
        events.sort_by_key(|(at, event)| match event {
            Event::Begin(_) => (*at, false, *event),
            Event::End(position) => (*at, self.steps[*position].effect.sees().is_none(), *event),
        });
        let mut most = 1;
        for (_, event) in events {
            match event {
                Event::Begin(position) => self.begin(position)?,
                Event::End(position) => self.end(position)?,
            }
            most = most.max(self.configurations.len());
        }
        Ok(most)
    }

    fn begin(&mut self, position: usize) -> Result<(), Stuck> {
        let Step { effect, end, .. } = self.steps[position];
        if end.is_none() {
            let kind = self.kinds.iter_mut().find(|(kind, _)| *kind == effect);
            kind.expect("every kind was listed").1 += 1;
            return Ok(());
        }
        let Some(slot) = self.holders.iter().position(Option::is_none) else {
            return Err(self.stuck(position, Reason::GaveUp));
        };
        self.holders[slot] = Some(position);
        self.slots[position] = slot;
        let bit = 1 << slot;
        if let Some(state) = effect.sees() {
            self.to_come[state] -= 1;
            self.seeing[state] |= bit;
        }
        match effect {
            Effect::Read(state) => self.reading[state] |= bit,
            Effect::Write(state) => {
                self.writing |= bit;
                let may_be_seen = self.kinds.iter().any(|(kind, _)| kind.sees() == Some(state));
                if self.to_come[state] == 0 && self.seeing[state] == 0 && !may_be_seen {
                    self.unseen |= bit;
                }
            }
            Effect::Swap { .. } => self.writing |= bit,
        }
        Ok(())
    }

    /// Keeps the configurations in which this step has happened, or can.
    fn end(&mut self, position: usize) -> Result<(), Stuck> {
        let bit: Slots = 1 << self.slots[position];
        let mut open = std::mem::take(&mut self.configurations);
        let before = open.clone();
        let mut known = Front::default();
        let mut found = Front::default();
        while let Some(mut configuration) = open.pop() {
            // What changes nothing happens as soon as it may.
            configuration.done |= self.reading[configuration.state];
            if configuration.done & bit != 0 {
                configuration.done &= !bit;
                found.insert(&configuration, &mut self.comparisons);
            } else if known.insert(&configuration, &mut self.comparisons) {
                self.expand(&configuration, &mut open);
            }
            if self.comparisons > COMPARISONS_MAX {
                self.configurations = before;
                return Err(self.stuck(position, Reason::GaveUp));
            }
        }
        self.configurations = found.into_list();
        if self.configurations.is_empty() {
            self.configurations = before;
            return Err(self.stuck(position, Reason::NoOrder));
        }
        self.free(position, bit);
        Ok(())
    }

    fn free(&mut self, position: usize, bit: Slots) {
        self.holders[self.slots[position]] = None;
        if let Some(state) = self.steps[position].effect.sees() {
            self.seeing[state] &= !bit;
            self.reading[state] &= !bit;
        }
        self.unseen &= !bit;
        self.writing &= !bit;
    }

    /// All that can happen next and changes something.
    fn expand(&self, from: &Configuration, open: &mut Vec<Configuration>) {
        let mut left = self.writing & !from.done;
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            let bit = 1 << slot;
            left &= !bit;
            let position = self.holders[slot].expect("a slot under way has its holder");
            if let Some(next) = self.after(from, self.steps[position].effect, bit) {
                open.push(next);
            }
        }
        for (kind, (effect, begun)) in self.kinds.iter().enumerate() {
            if from.used[kind] < *begun
                && effect.writes() != Some(from.state)
                && let Some(mut next) = self.after(from, *effect, 0)
            {
                next.used[kind] += 1;
                open.push(next);
            }
        }
    }

    /// What is the case after this has happened, if it can.
    fn after(&self, from: &Configuration, effect: Effect, bit: Slots) -> Option<Configuration> {
        let mut done = from.done | bit;
        let state = effect.writes()?;
        if effect.sees().is_some_and(|seen| seen != from.state) {
            return None;
        }
        // What only one step wrote does not come back for those who are still to see it.
        if self.is_unique[from.state]
            && (self.to_come[from.state] > 0 || self.seeing[from.state] & !done != 0)
        {
            return None;
        }
        if effect.sees().is_none() {
            // Writes that nobody sees can happen right before one that covers them.
            done |= self.unseen;
        }
        Some(Configuration { state, done, used: from.used.clone() })
    }

    fn stuck(&self, step: usize, reason: Reason) -> Stuck {
        let mut possible: Vec<_> = self.configurations.iter().map(|c| c.state).collect();
        possible.sort_unstable();
        possible.dedup();
        Stuck { step, reason, possible }
    }
}
