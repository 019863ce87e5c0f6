//! Clients: they cache what they know of the region, follow hints, try again what did not happen,
//! and never what may have.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, Key, Peer, Region, RegionError};
use kiva_engine::{Cf, Order};
use kiva_kv::raw::{CompareAndSwap, Delete, Get, Put, PutPair, Scan};
use kiva_kv::{Error, Executor, Target};

use super::message::{Question, Reply, Request};
use crate::check::Value;
use crate::sim::calls::{Calls, within};
use crate::sim::{Host, LocalClock};
use crate::workload::{Failed, KvClient, Swap};

/// How long a client waits for one answer.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How often it tries what did not happen.
const ATTEMPTS_MAX: usize = 20;
/// What it waits after a refusal that gives no hint.
const PAUSE: Duration = Duration::from_millis(50);
/// One in so many questions goes to another peer than the leader: one that was cut off and
/// believes that it leads has to be asked too.
const ASTRAY: usize = 4;

/// What the scheduler would tell a client that asks it.
#[derive(Clone, Default)]
pub(super) struct Directory {
    shared: Arc<Mutex<Option<Place>>>,
}

#[derive(Clone)]
struct Place {
    region: Region,
    leader: Option<Peer>,
}

impl Directory {
    pub(super) fn set(&self, region: Region, leader: Option<Peer>) {
        let place = Place { region, leader };
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    fn get(&self) -> Option<Place> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One client.
pub(super) struct WorldClient {
    pub(super) host: Host,
    pub(super) directory: Directory,
    pub(super) calls: Calls<Request, Reply>,
    pub(super) clock: LocalClock,
    pub(super) state: Mutex<State>,
}

/// What a client believes.
#[derive(Default)]
pub(super) struct State {
    place: Option<Place>,
    turns: usize,
}

impl WorldClient {
    fn place(&self) -> Option<Place> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.place.is_none() {
            state.place = self.directory.get();
        }
        state.place.clone()
    }

    fn turn(&self) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turns += 1;
        state.turns
    }

    fn believe(&self, change: impl FnOnce(&mut Option<Place>)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).place);
    }

    async fn ask(&self, question: Question) -> Result<Reply, Failed> {
        let is_read = question.is_read();
        let mut turn = self.turn();
        let mut goes_astray = turn.is_multiple_of(ASTRAY);
        // Some reads are meant for a follower.
        let by_any_replica = is_read && turn.is_multiple_of(ASTRAY + 1);
        for _ in 0..ATTEMPTS_MAX {
            let Some(Place { region, leader }) = self.place() else {
                self.clock.sleep(PAUSE).await;
                continue;
            };
            let known = leader.filter(|_| !goes_astray && !by_any_replica);
            let peer = known.unwrap_or_else(|| region.peers[turn % region.peers.len()]);
            goes_astray = false;
            turn += 1;
            let target = Target {
                region: region.id.get(),
                epoch: Some(region.epoch),
                peer: peer.id.get(),
                store: peer.store.get(),
                replica_read: by_any_replica,
                ..Target::default()
            };
            let request = Request { target, question: question.clone() };
            let answer = self.calls.ask(self.host, Host::Store(peer.store), request);
            match within(&self.clock, ATTEMPT, answer).await {
                Some(Reply::NotLeader(Some(hint))) if hint.id != peer.id => {
                    self.believe(|place| {
                        place.iter_mut().for_each(|place| place.leader = Some(hint));
                    });
                }
                Some(Reply::Stale(mut current)) if !current.is_empty() => {
                    let region = current.swap_remove(0);
                    self.believe(|place| *place = Some(Place { region, leader: None }));
                }
                Some(Reply::NotLeader(_) | Reply::Stale(_) | Reply::Refused) => {
                    self.believe(|place| *place = None);
                    // What the scheduler says may be older than what was just heard.
                    goes_astray = true;
                    self.clock.sleep(PAUSE).await;
                }
                Some(Reply::Unknown) | None if is_read => self.believe(|place| *place = None),
                Some(Reply::Unknown) | None => {
                    self.believe(|place| *place = None);
                    return Err(Failed::Unknown);
                }
                Some(reply) => return Ok(reply),
            }
        }
        Err(Failed::Refused)
    }
}

impl KvClient for WorldClient {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Value>, Failed>> {
        Box::pin(async move {
            match self.ask(Question::Get(key)).await? {
                Reply::Got(value) => Ok(value),
                reply => panic!("a get is answered {reply:?}"),
            }
        })
    }

    fn put(&self, key: Key, value: Value) -> BoxFuture<'_, Result<(), Failed>> {
        Box::pin(async move { self.ask(Question::Put(key, value)).await.map(drop) })
    }

    fn delete(&self, key: Key) -> BoxFuture<'_, Result<(), Failed>> {
        Box::pin(async move { self.ask(Question::Delete(key)).await.map(drop) })
    }

    fn compare_and_swap(
        &self,
        key: Key,
        expected: Option<Value>,
        new: Value,
    ) -> BoxFuture<'_, Result<Swap, Failed>> {
        Box::pin(async move {
            match self.ask(Question::Swap { key, expected, new }).await? {
                Reply::Swapped(swap) => Ok(swap),
                reply => panic!("a swap is answered {reply:?}"),
            }
        })
    }

    fn scan(
        &self,
        range: Range<Key>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Value)>, Failed>> {
        Box::pin(async move {
            let question = Question::Scan { start: range.start, end: range.end, limit };
            match self.ask(question).await? {
                Reply::Pairs(pairs) => Ok(pairs),
                reply => panic!("a scan is answered {reply:?}"),
            }
        })
    }
}

/// Executes what a client asks, on a store.
pub(super) async fn serve(executor: &Executor, request: Request) -> Reply {
    let Request { target, question } = request;
    let cf = Cf::Default;
    let done = match question {
        Question::Get(key) => executor.read(&target, Get { cf, key }).await.map(Reply::Got),
        Question::Put(key, value) => {
            let pairs = vec![PutPair { key, value, ttl_s: 0 }];
            executor.write(&target, Put { cf, pairs }).await.map(|()| Reply::Done)
        }
        Question::Delete(key) => {
            executor.write(&target, Delete { cf, keys: vec![key] }).await.map(|()| Reply::Done)
        }
        Question::Swap { key, expected, new } => {
            let command = CompareAndSwap { cf, key, expected, value: new, ttl_s: 0 };
            let swap = executor.write(&target, command).await;
            swap.map(|swap| {
                Reply::Swapped(Swap { swapped: swap.succeeded, previous: swap.previous })
            })
        }
        Question::Scan { start, end, limit } => {
            let order = Order::Forward;
            let command = Scan { cf, start, end, limit, key_only: false, order };
            executor.read(&target, command).await.map(Reply::Pairs)
        }
    };
    done.unwrap_or_else(|error| match error {
        Error::Region(RegionError::NotLeader { leader, .. }) => Reply::NotLeader(leader),
        Error::Region(RegionError::EpochNotMatch { current }) => Reply::Stale(current),
        Error::Region(_) | Error::Refused(_) | Error::Failed(_) => Reply::Refused,
        Error::Unknown => Reply::Unknown,
    })
}
