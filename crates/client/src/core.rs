//! What all handles share, and how one command finds its region.
//!
//! [`Core::at_key`] is the path of every command: look the region up, send, and when the answer is
//! a refusal learn from it ([`advice`]), wait ([`crate::backoff`]) and send again.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, select_biased};
use kiva_base::codec::DecodeError;
use kiva_base::{Clock, KeyError, Peer, RegionError, StoreId, Timestamp};

use crate::backoff::{Backoff, Jitter, Pace};
use crate::error::{GaveUp, Obstacle, RawError, ReadError, SchedulerError};
use crate::keyspace::Codec;
use crate::limits::{CALL_TIMEOUT, SUSPECT_FOR};
use crate::options::Options;
use crate::region_cache::{Advice, RegionCache, Route, advice};
use crate::resolver::Settled;
use crate::rpc::{
    CallError, Command, Context, RegionInfo, Reply, SchedulerCallError, SchedulerFuture,
    SchedulerPort, Spawn, StorePort,
};
use crate::tso::{self, Drawn, Tso};
use kiva_base::api::KeyMode;

/// Everything outside the client.
#[derive(Clone)]
pub struct Ports {
    /// The way to stores.
    pub stores: Arc<dyn StorePort>,
    /// The way to the scheduler.
    pub scheduler: Arc<dyn SchedulerPort>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Tasks.
    pub spawn: Arc<dyn Spawn>,
}

/// The shared part behind every handle of one client.
///
/// Nothing in here is behind one big lock: routes, timestamps and settled transactions have their
/// own, and the way of a command takes only the first, to read.
pub(crate) struct Core {
    pub(crate) stores: Arc<dyn StorePort>,
    pub(crate) scheduler: Arc<dyn SchedulerPort>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spawn: Arc<dyn Spawn>,
    /// How raw keys are written.
    pub(crate) raw: Codec,
    /// How transactional keys are written.
    pub(crate) txn: Codec,
    pub(crate) regions: RegionCache,
    pub(crate) tso: Tso,
    pub(crate) settled: Settled,
    /// How long an operation takes at most unless its handle says otherwise.
    pub(crate) timeout: Duration,
    jitter: Jitter,
}

/// What one command has gone through so far.
#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) backoff: Backoff,
    /// Of reads: transactions whose locks are to be passed by.
    pub(crate) passed: Vec<Timestamp>,
    /// Whether an attempt may have been executed without our hearing of it.
    pub(crate) is_lost: bool,
}

/// What to do when an answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Send again: executing it twice is like executing it once, at whatever time.
    Always,
    /// Tell the caller that nobody knows.
    UnlessLost,
}

/// Where a command goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// To the region that holds this key, in boundary form.
    Key(&'a Bytes),
    /// To the region that holds the keys directly below this one, in boundary form.
    Before(&'a Bytes),
}

/// Why a command has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Out of time or attempts. Executed only if the trial says that an answer was lost.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// Refused for good.
    #[error(transparent)]
    Region(RegionError),
    /// Refused for good by a key.
    #[error(transparent)]
    Key(KeyError),
    /// Refused for good by the scheduler.
    #[error(transparent)]
    Scheduler(SchedulerError),
    /// Not served.
    #[error("the store does not serve {0}")]
    Unserved(&'static str),
    /// Sent, and maybe executed. Only where [`Repeat::UnlessLost`] was asked for.
    #[error(transparent)]
    Unknown(CallError),
    /// An answer that means nothing.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

impl Core {
    /// A client's shared part.
    pub(crate) fn new(ports: Ports, options: &Options, keyspace: u32) -> Self {
        let api_version = options.api_version;
        Self {
            stores: ports.stores,
            scheduler: ports.scheduler,
            clock: ports.clock,
            spawn: ports.spawn,
            raw: Codec::new(api_version, KeyMode::Raw, keyspace),
            txn: Codec::new(api_version, KeyMode::Txn, keyspace),
            regions: RegionCache::default(),
            tso: Tso::default(),
            settled: Settled::default(),
            timeout: options.timeout,
            jitter: Jitter::new(options.seed),
        }
    }

    /// The start of an operation.
    pub(crate) fn trial(&self, timeout: Duration) -> Trial {
        Trial {
            backoff: Backoff::new(self.clock.now(), timeout),
            passed: Vec::new(),
            is_lost: false,
        }
    }

    /// Sends a command to the region that holds `key`, which is in wire form, until it replies.
    pub(crate) async fn at_key(
        &self,
        codec: &Codec,
        key: &Bytes,
        command: &Command,
        repeat: Repeat,
        trial: &mut Trial,
    ) -> Result<Reply, Failure> {
        let boundary = codec.boundary(key);
        let make = |_: &Route| Ok(Cow::Borrowed(command));
        let place = Place::Key(&boundary);
        let (_, reply) = self.at(codec, place, make, repeat, trial).await?;
        Ok(reply)
    }

    /// Sends a command that depends on where it goes. Also returns where that was.
    pub(crate) async fn at<'c>(
        &self,
        codec: &Codec,
        place: Place<'_>,
        make: impl Fn(&Route) -> Result<Cow<'c, Command>, DecodeError>,
        repeat: Repeat,
        trial: &mut Trial,
    ) -> Result<(Arc<Route>, Reply), Failure> {
        loop {
            let route = self.route(place, trial).await?;
            let command = make(&route)?;
            match self.call(&route, codec, &command, trial).await {
                Ok(reply) => return Ok((route, reply)),
                Err(error) => self.recover(&route, error, repeat, trial).await?,
            }
        }
    }

    /// Sends a command once.
    pub(crate) async fn call(
        &self,
        route: &Route,
        codec: &Codec,
        command: &Command,
        trial: &Trial,
    ) -> Result<Reply, CallError> {
        let context = Context {
            region: route.region.id,
            epoch: route.region.epoch,
            peer: route.leader,
            api_version: codec.api_version(),
            resolved_locks: trial.passed.clone(),
            is_retry: trial.is_lost,
        };
        let timeout = CALL_TIMEOUT.min(trial.backoff.left(self.clock.now()));
        self.stores.call(&route.store, &context, command, timeout).await
    }

    /// Learns from a failed call and waits until the next makes sense.
    pub(crate) async fn recover(
        &self,
        route: &Arc<Route>,
        error: CallError,
        repeat: Repeat,
        trial: &mut Trial,
    ) -> Result<(), Failure> {
        let pace = match &error {
            CallError::Region(refusal) => match advice(refusal) {
                Advice::Follow(leader) => self.follow(route, leader, trial).await,
                Advice::Install(regions) => self.install(route, regions),
                Advice::Forget(pace) => {
                    self.regions.forget(route);
                    pace
                }
                Advice::ForgetStore(pace) => {
                    self.regions.forget_store(&route.store);
                    pace
                }
                Advice::Wait(pace) => pace,
                Advice::Stop => return Err(Failure::Region(refusal.clone())),
            },
            CallError::Unsent(_) => {
                self.suspect(route);
                Pace::Soon
            }
            CallError::Lost(_) => {
                self.suspect(route);
                trial.is_lost = true;
                if repeat == Repeat::UnlessLost {
                    return Err(Failure::Unknown(error));
                }
                Pace::Soon
            }
            CallError::Unserved(name) => return Err(Failure::Unserved(name)),
            CallError::TurnedAway(why) => return Err(Failure::Key(KeyError::Abort(why.clone()))),
            CallError::Malformed(malformed) => {
                trial.is_lost = true;
                return Err(match repeat {
                    Repeat::UnlessLost => Failure::Unknown(error),
                    Repeat::Always => Failure::Malformed(*malformed),
                });
            }
        };
        self.pause(pace, error.into(), trial).await
    }

    /// A store gave no answer: it may be gone, and where it is may have changed.
    fn suspect(&self, route: &Route) {
        self.regions.forget_store(&route.store);
        self.regions.suspect(route.store.id, self.clock.now() + SUSPECT_FOR);
    }

    /// Sleeps before another attempt, or gives up.
    pub(crate) async fn pause(
        &self,
        pace: Pace,
        obstacle: Obstacle,
        trial: &mut Trial,
    ) -> Result<(), Failure> {
        let now = self.clock.now();
        let sleep = trial.backoff.pause(pace, now, &self.jitter, obstacle)?;
        if !sleep.is_zero() {
            self.clock.sleep(sleep).await;
        }
        Ok(())
    }

    /// Takes the hint that `leader` leads the route's region.
    async fn follow(&self, route: &Arc<Route>, leader: Peer, trial: &mut Trial) -> Pace {
        self.regions.forget(route);
        let is_member = route.region.peers.iter().any(|peer| peer.id == leader.id);
        // Who was deposed by silence is still named by those who have not noticed yet.
        if !is_member || self.regions.is_suspect(leader.store, self.clock.now()) {
            return Pace::Soon;
        }
        match self.store(leader.store, trial).await {
            Ok(store) => {
                self.regions.insert(Arc::new(Route {
                    region: route.region.clone(),
                    leader,
                    store,
                }));
                Pace::Hint
            }
            // The scheduler will be asked for the region in any case.
            Err(_) => Pace::Soon,
        }
    }

    /// Believes what the store that was asked says about its regions.
    fn install(&self, route: &Arc<Route>, regions: &[kiva_base::Region]) -> Pace {
        self.regions.forget(route);
        let mut is_newer = false;
        for region in regions {
            let Some(leader) = region.peer_on(route.store.id) else {
                continue;
            };
            is_newer |= !region.epoch.is_stale_against(route.region.epoch)
                && self.regions.insert(Arc::new(Route {
                    region: region.clone(),
                    leader,
                    store: route.store.clone(),
                }));
        }
        // A store that knows less than we do needs time to catch up.
        if is_newer { Pace::Hint } else { Pace::Soon }
    }

    /// Where to send what belongs to a place.
    pub(crate) async fn route(
        &self,
        place: Place<'_>,
        trial: &mut Trial,
    ) -> Result<Arc<Route>, Failure> {
        match place {
            Place::Key(key) => match self.regions.find(key) {
                Some(route) => Ok(route),
                None => self.route_by_scheduler(key, trial).await,
            },
            Place::Before(upper) => match self.regions.find_before(upper) {
                Some(route) => Ok(route),
                None => self.route_before(upper, trial).await,
            },
        }
    }

    /// Walks up to the region that holds the keys directly below `upper`.
    ///
    /// The scheduler finds regions by keys, and a byte string has no greatest one below it. So the
    /// walk begins a little below and follows the regions' ends, rarely more than one.
    async fn route_before(&self, upper: &Bytes, trial: &mut Trial) -> Result<Arc<Route>, Failure> {
        let mut key = a_little_below(upper);
        loop {
            let route = match self.regions.find(&key) {
                Some(route) => route,
                None => self.route_by_scheduler(&key, trial).await?,
            };
            let end = route.region.range.end();
            if end.is_empty() || !upper.is_empty() && end >= upper {
                return Ok(route);
            }
            key = end.clone();
        }
    }

    async fn route_by_scheduler(
        &self,
        key: &Bytes,
        trial: &mut Trial,
    ) -> Result<Arc<Route>, Failure> {
        loop {
            let key = key.clone();
            let found = self.ask(trial, |scheduler| scheduler.region_by_key(key.clone())).await?;
            let obstacle = match found {
                None => Obstacle::NoRegion,
                Some(RegionInfo { region, leader: None }) => {
                    Obstacle::NoLeader { region: region.id.get() }
                }
                Some(RegionInfo { region, leader: Some(leader) }) => {
                    let (now, turn) = (self.clock.now(), trial.backoff.attempts());
                    let leader = self.regions.whom_to_ask(&region, leader, now, turn);
                    let store = self.store(leader.store, trial).await?;
                    let route = Arc::new(Route { region, leader, store });
                    // If something newer is known nearby, this is still the best guess about this
                    // key: the store will correct it.
                    self.regions.insert(route.clone());
                    return Ok(route);
                }
            };
            self.pause(Pace::Soon, obstacle, trial).await?;
        }
    }

    async fn store(
        &self,
        id: StoreId,
        trial: &mut Trial,
    ) -> Result<Arc<crate::rpc::Store>, Failure> {
        loop {
            if let Some(store) = self.regions.store(id) {
                return Ok(store);
            }
            let found = self.ask(trial, |scheduler| scheduler.store(id)).await?;
            if let Some(store) = found {
                return Ok(self.regions.insert_store(store));
            }
            let obstacle = Obstacle::NoStore { store: id.get() };
            self.pause(Pace::Soon, obstacle, trial).await?;
        }
    }

    /// Asks the scheduler until it answers.
    pub(crate) async fn ask<T>(
        &self,
        trial: &mut Trial,
        call: impl Fn(&dyn SchedulerPort) -> SchedulerFuture<T>,
    ) -> Result<T, Failure> {
        loop {
            let answer = self.in_time(call(&*self.scheduler), trial).await;
            let error = match answer.unwrap_or_else(|| Err(too_slow())) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.after_scheduler(error, trial).await?;
        }
    }

    /// A new timestamp.
    pub(crate) async fn timestamp(
        self: &Arc<Self>,
        trial: &mut Trial,
    ) -> Result<Timestamp, Failure> {
        loop {
            let error = match self.in_time(tso::draw(self), trial).await {
                Some(Ok(Ok(ts))) => return Ok(ts),
                Some(Ok(Err(Drawn::WentBack(error)))) => return Err(Failure::Scheduler(error)),
                Some(Ok(Err(Drawn::Failed(error)))) => error,
                // Whoever ran the round was stopped, which happens at the end of a program.
                Some(Err(_)) => SchedulerCallError::Unreachable("the client is closing".into()),
                None => too_slow(),
            };
            self.after_scheduler(error, trial).await?;
        }
    }

    async fn after_scheduler(
        &self,
        error: SchedulerCallError,
        trial: &mut Trial,
    ) -> Result<(), Failure> {
        match error {
            SchedulerCallError::Unreachable(_) => {
                self.pause(Pace::Soon, Obstacle::Scheduler(error), trial).await
            }
            SchedulerCallError::Refused(why) => {
                Err(Failure::Scheduler(SchedulerError::Refused(why)))
            }
            SchedulerCallError::Malformed(error) => {
                Err(Failure::Scheduler(SchedulerError::Malformed(error)))
            }
        }
    }

    /// Waits no longer than the operation may take.
    async fn in_time<T>(&self, work: impl Future<Output = T>, trial: &Trial) -> Option<T> {
        let left = trial.backoff.left(self.clock.now());
        let mut work = pin!(work.fuse());
        let mut timer = self.clock.sleep(left).fuse();
        select_biased! {
            output = work => Some(output),
            () = timer => None,
        }
    }
}

fn too_slow() -> SchedulerCallError {
    SchedulerCallError::Unreachable("no answer in time".into())
}

/// A string below `upper` with little room between the two; empty is above all.
fn a_little_below(upper: &Bytes) -> Bytes {
    const ROOM: usize = 16;
    let mut key = upper.to_vec();
    match key.pop() {
        None => key = vec![0xFF; ROOM],
        // What precedes a string that ends in zero is the string without it.
        Some(0) => {}
        Some(last) => {
            key.push(last - 1);
            key.extend_from_slice(&[0xFF; ROOM]);
        }
    }
    key.into()
}

/// Operations that are always repeated have no variant for a lost answer: it was the last obstacle.
fn tried_once(last: Obstacle) -> GaveUp {
    GaveUp { attempts: 1, waited: Duration::ZERO, last }
}

impl From<Failure> for RawError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::GaveUp(error) => Self::GaveUp(error),
            Failure::Region(error) => Self::Region(error),
            Failure::Key(error) => Self::Refused(error.to_string()),
            Failure::Scheduler(error) => Self::Scheduler(error),
            Failure::Unserved(name) => Self::Unserved(name),
            Failure::Unknown(last) => Self::Unknown { last },
            Failure::Malformed(error) => Self::Malformed(error),
        }
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::GaveUp(error) => Self::GaveUp(error),
            Failure::Region(error) => Self::Region(error),
            Failure::Key(error) => Self::Refused(error),
            Failure::Scheduler(error) => Self::Scheduler(error),
            Failure::Unserved(name) => Self::Unserved(name),
            Failure::Unknown(last) => Self::GaveUp(tried_once(last.into())),
            Failure::Malformed(error) => Self::Malformed(error),
        }
    }
}

impl From<Failure> for crate::error::CommitError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::GaveUp(error) => Self::GaveUp(error),
            Failure::Region(error) => Self::Region(error),
            Failure::Key(error) => Self::Refused(error),
            Failure::Scheduler(error) => Self::Scheduler(error),
            Failure::Unserved(name) => Self::Unserved(name),
            Failure::Unknown(last) => Self::GaveUp(tried_once(last.into())),
            Failure::Malformed(error) => Self::Malformed(error),
        }
    }
}

impl From<Failure> for SchedulerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::GaveUp(error) => Self::GaveUp(error),
            Failure::Scheduler(error) => error,
            Failure::Malformed(error) => Self::Malformed(error),
            // Only stores give these, and the scheduler's calls ask none.
            Failure::Region(error) => Self::Refused(error.to_string()),
            Failure::Key(error) => Self::Refused(error.to_string()),
            Failure::Unserved(name) => Self::Refused(format!("{name} is not served")),
            Failure::Unknown(last) => Self::GaveUp(tried_once(last.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_below_is_below_and_above_what_comes_before() {
        let below = |upper: &'static [u8]| a_little_below(&Bytes::from_static(upper));
        assert_eq!(below(b"a\0"), "a");
        assert_eq!(below(b"\0"), "");
        assert!(below(b"b") < Bytes::from_static(b"b"));
        assert!(below(b"b") > Bytes::from_static(b"azzz"));
        assert!(below(b"") > Bytes::from_static(b"\xFF\xFF"));
    }
}
