//! Every client writes a list of its own, key after key, and reads it back.
//!
//! With equal probability a client writes its next key, as often as it takes until that is
//! acknowledged, or reads its whole list, which must be what it remembers: nothing lacks, nothing
//! is there twice, nothing is out of order, no older value shows. In the end everything is read
//! back once more and deleted.
//!
//! Covers INV-durable, and INV-linearizable for reads of ranges: a list that is read while a region
//! splits or moves is complete or refused, never cut off.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiva_base::Key;
use kiva_base::clock::BoxFuture;

use super::{Client, Failed, Workload};
use crate::check::Value;
use crate::script::format_bytes;
use crate::sim::Chance;

/// How much is done, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many clients.
    pub clients: u64,
    /// Keys of one client, at most.
    pub keys_max: u64,
    /// The number of a client's first key. Another for each iteration on the same cluster: a late
    /// duplicate of an earlier one must not show in the list of a later one.
    pub first: u64,
    /// What a client waits between two operations.
    pub pause: Range<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clients: 5,
            keys_max: 10_000,
            first: 0,
            pause: Duration::ZERO..Duration::from_millis(40),
        }
    }
}

/// The workload.
pub struct Append {
    options: Options,
    shared: Arc<Shared>,
}

struct Shared {
    is_stopped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lists: Vec<List>,
    reads: u64,
    failure: Option<Mismatch>,
}

/// What a client remembers of its list.
#[derive(Clone, Default)]
struct List {
    /// Acknowledged, in order.
    written: Vec<Pair>,
    /// Asked for, and not acknowledged when the client came to its end. May be there.
    in_doubt: Option<Pair>,
    /// Asked for more than once: a late attempt may put the key back after it was deleted.
    repeated: Vec<Key>,
}

type Pair = (Key, Value);

impl Append {
    /// Nothing is done yet.
    pub fn new(options: Options) -> Self {
        let lists = vec![List::default(); options.clients as usize];
        let state = Mutex::new(State { lists, ..State::default() });
        Self { options, shared: Arc::new(Shared { is_stopped: AtomicBool::new(false), state }) }
    }

    fn range(&self, client: u64) -> Range<Key> {
        // The dot follows the dash, so all numbers lie between.
        key(client, self.options.first)..Key::from(format!("append-{client}."))
    }
}

fn key(client: u64, number: u64) -> Key {
    Key::from(format!("append-{client}-{number:08}"))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Compares what was read with what one client remembers.
    fn judge(&self, client: u64, found: &[Pair]) {
        let mut state = self.lock();
        state.reads += 1;
        let list = &state.lists[client as usize];
        let mismatch = difference(&list.written, list.in_doubt.as_ref(), found).map(|place| {
            let written = list.written.get(place).cloned();
            Mismatch { client, place, written, found: found.get(place).cloned() }
        });
        self.fail(&mut state, mismatch);
    }

    fn fail(&self, state: &mut State, mismatch: Option<Mismatch>) {
        if let (None, Some(mismatch)) = (&state.failure, mismatch) {
            state.failure = Some(mismatch);
            self.is_stopped.store(true, Ordering::Relaxed);
        }
    }
}

/// The first place where a list is not what it has to be.
fn difference(written: &[Pair], in_doubt: Option<&Pair>, found: &[Pair]) -> Option<usize> {
    let known = written.iter().zip(found).position(|(written, found)| written != found);
    known.or_else(|| match found.get(written.len()..) {
        None => Some(found.len()),
        Some([]) => None,
        Some([only]) if Some(only) == in_doubt => None,
        Some(_) => Some(written.len()),
    })
}

impl Workload for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn clients(&self) -> u64 {
        self.options.clients
    }

    fn client(&self, mut client: Client) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.shared);
        let options = self.options.clone();
        let range = self.range(client.number);
        Box::pin(async move {
            let mut next = options.first;
            while next < options.first + options.keys_max && !shared.is_stopped() {
                if client.rng.happens(Chance::percent(50)) {
                    write(&client, &shared, next).await;
                    next += 1;
                } else if let Ok(found) = client.kv.scan(range.clone(), usize::MAX).await {
                    shared.judge(client.number, &found);
                }
                let pause = client.rng.duration(&options.pause);
                client.clock.sleep(pause).await;
            }
        })
    }

    fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
    }

    fn has_failed(&self) -> bool {
        self.shared.lock().failure.is_some()
    }

    fn verify(&self, client: Client) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.shared);
        let ranges: Vec<_> = (0..self.options.clients).map(|number| self.range(number)).collect();
        Box::pin(async move {
            for (number, range) in ranges.into_iter().enumerate() {
                verify(&client, &shared, number as u64, range).await;
            }
        })
    }

    fn verdict(&self) -> Result<String, Box<dyn Error>> {
        let state = self.shared.lock();
        if let Some(mismatch) = &state.failure {
            return Err(Box::new(mismatch.clone()));
        }
        let keys: usize = state.lists.iter().map(|list| list.written.len()).sum();
        let repeated: usize = state.lists.iter().map(|list| list.repeated.len()).sum();
        Ok(format!("complete: {keys} keys, {repeated} asked for again, {} reads", state.reads))
    }
}

/// Writes one key, as often as it takes until it is acknowledged or everybody has to stop.
async fn write(client: &Client, shared: &Shared, number: u64) {
    let (me, key) = (client.number as usize, key(client.number, number));
    let pair = (key.clone(), Value::from(format!("x {} {number} y", client.number)));
    let mut is_first = true;
    // Until somebody says otherwise, and also when nobody ever does because this is dropped.
    shared.lock().lists[me].in_doubt = Some(pair.clone());
    loop {
        match client.kv.put(key.clone(), pair.1.clone()).await {
            Ok(()) => {
                let list = &mut shared.lock().lists[me];
                list.in_doubt = None;
                list.written.push(pair);
                return;
            }
            // It is as if it had not been asked for, unless it was before.
            Err(Failed::Refused) => {}
            Err(Failed::Unknown) if is_first => {
                is_first = false;
                shared.lock().lists[me].repeated.push(key.clone());
            }
            Err(Failed::Unknown) => {}
        }
        if shared.is_stopped() {
            if is_first {
                shared.lock().lists[me].in_doubt = None;
            }
            return;
        }
        client.clock.sleep(super::RETRY_PAUSE).await;
    }
}

/// Reads a list back, deletes it, and looks whether it is gone.
async fn verify(client: &Client, shared: &Shared, number: u64, range: Range<Key>) {
    let scan = || client.kv.scan(range.clone(), usize::MAX);
    let found = client.insist(scan).await;
    shared.judge(number, &found);
    for (key, _) in found {
        client.insist(|| client.kv.delete(key.clone())).await;
    }
    let left = client.insist(scan).await;
    let mut state = shared.lock();
    let List { in_doubt, repeated, .. } = &state.lists[number as usize];
    let may_return = |key: &Key| {
        repeated.contains(key) || in_doubt.as_ref().is_some_and(|(doubtful, _)| doubtful == key)
    };
    let residue = left.into_iter().find(|(key, _)| !may_return(key));
    let mismatch = residue.map(|found| Mismatch {
        client: number,
        place: 0,
        written: None,
        found: Some(found),
    });
    shared.fail(&mut state, mismatch);
}

/// A list is not what its client wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Whose list.
    pub client: u64,
    /// Which place of the list, from zero.
    pub place: usize,
    /// What has to be there, if anything.
    pub written: Option<(Key, Value)>,
    /// What is there.
    pub found: Option<(Key, Value)>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |pair: &Option<Pair>| match pair {
            Some((key, value)) => {
                format!("{} = {}", format_bytes(key.as_bytes()), format_bytes(value))
            }
            None => "nothing".into(),
        };
        let Self { client, place, written, found } = self;
        write!(
            f,
            "the list of client {client} has {} at place {place}, where it wrote {}",
            shown(found),
            shown(written)
        )
    }
}

impl Error for Mismatch {}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(numbers: &[u64]) -> Vec<Pair> {
        numbers.iter().map(|&number| (key(1, number), Value::from(number.to_string()))).collect()
    }

    #[test]
    fn a_list_is_complete_or_it_is_not() {
        let written = list(&[0, 1, 2]);
        let doubt = list(&[3]);
        let place = |found: &[u64]| difference(&written, doubt.first(), &list(found));
        assert_eq!(place(&[0, 1, 2]), None);
        assert_eq!(place(&[0, 1, 2, 3]), None, "what is in doubt may be there");
        assert_eq!(place(&[0, 1]), Some(2), "the last one was lost");
        assert_eq!(place(&[0, 2]), Some(1), "one in the middle was lost");
        assert_eq!(place(&[1, 0, 2]), Some(0), "the order was lost");
        assert_eq!(place(&[0, 1, 1, 2]), Some(2), "one is there twice");
        assert_eq!(place(&[0, 1, 2, 4]), Some(3), "nobody wrote this one");
        assert_eq!(place(&[0, 1, 2, 3, 4]), Some(3), "nobody wrote the last one");
        assert_eq!(place(&[]), Some(0), "everything was lost");
    }
}
