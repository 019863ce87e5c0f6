//! A run: a cluster, a workload and faults, from a seed to a verdict.
//!
//! [`play`] is the loop that every world shares. The cluster says what it can do now and when it
//! can do something next; the loop interleaves that with the clients' futures and the faults, moves
//! the time when nothing can happen, and asks in the end whether the cluster came back to life.
//!
//! ```text
//!  0                                   calm                        deadline
//!  ├── clients work, faults happen ────┼── clients end ── verify ──┤
//!                                      every fault is over; what is not done
//!                                      by the deadline is not alive
//! ```

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kiva_base::{Clock, Moment};

use super::{Executor, Fault, Host, Profile, Rng, Schedule, Time, Trace};
use crate::workload::{Client, KvClient, Workload};

/// Steps without any time passing, at most: beyond that somebody is running in circles.
const STEPS_AT_ONCE_MAX: u64 = 1_000_000;

/// What every part of a world is made with.
pub struct Kit {
    /// All choices.
    pub rng: Rng,
    /// The true time.
    pub time: Time,
    /// What happens.
    pub trace: Trace,
    /// The futures.
    pub executor: Executor,
}

impl Kit {
    /// That of a seed.
    pub fn new(seed: u64, trace: Trace) -> Self {
        let rng = Rng::seeded(seed);
        let executor = Executor::new(rng.stream("executor"));
        Self { rng, time: Time::new(), trace, executor }
    }
}

/// What is simulated: everything but the clients, the faults and the time.
pub trait Cluster {
    /// The hosts that faults may hit.
    fn hosts(&self) -> Vec<Host>;

    /// The way of a client to the cluster, over the simulated network.
    fn client(&mut self, number: u64) -> (Arc<dyn KvClient>, Arc<dyn Clock>);

    /// Whether there is something to be done at this time.
    fn can_step(&self, now: Moment) -> bool;

    /// Does one of the things that can be done now.
    fn step(&mut self, kit: &mut Kit);

    /// When there will be something to be done; none when only a client can bring it about.
    fn next_at(&self) -> Option<Moment>;

    /// Something goes wrong, or is put right again.
    fn commit(&mut self, fault: &Fault, kit: &mut Kit);

    /// Whether everything is as it must be at any time. Asked after every step.
    fn check(&self) -> Result<(), String>;

    /// Whether all that the faults left behind is made up for, and nothing is under way any more.
    fn is_quiet(&self, _kit: &Kit) -> bool {
        true
    }

    /// Whether everything is as it must be when all is quiet.
    fn check_quiet(&self) -> Result<(), String>;

    /// For the person who reads that it does not come back to life.
    fn describe(&self) -> String;
}

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Simulated time.
    pub simulated: Duration,
    /// Steps of the cluster and of clients.
    pub steps: u64,
    /// What the workload saw.
    pub verdict: String,
}

/// Why a run failed: text for a person. The trace is the rest of the story.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// A run that panics has failed like any other: a contradiction is an assertion.
pub fn attempt(run: impl FnOnce() -> Result<Summary, Failure>) -> Result<Summary, Failure> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Failure(format!("panicked: {}", text.unwrap_or("without a word"))))
    })
}

/// Plays a workload on a cluster while faults of this profile happen. `patience` is how long the
/// cluster may take to answer everything when they are over.
pub fn play(
    cluster: &mut dyn Cluster,
    kit: &mut Kit,
    workload: &dyn Workload,
    profile: &Profile,
    patience: Duration,
) -> Result<Summary, Failure> {
    let schedule = Schedule::draw(&kit.rng.stream("faults"), profile, &cluster.hosts());
    let deadline = schedule.calm_at() + patience;
    let lots = kit.rng.stream("play");
    let mut run = Run { cluster, kit, workload, schedule, lots, steps: 0, steps_at_once: 0 };
    (0..workload.clients()).for_each(|number| run.start(number));
    run.until(deadline, |run| run.schedule.next_at().is_none())?;
    workload.stop();
    let is_idle = |run: &Run<'_>| run.kit.executor.count_of(Host::is_client) == 0;
    run.until(deadline, is_idle)?;
    run.verify();
    run.until(deadline, is_idle)?;
    let verdict = workload.verdict().map_err(|error| Failure(error.to_string()))?;
    run.until(deadline, |run| run.cluster.is_quiet(run.kit))?;
    run.cluster.check_quiet().map_err(Failure)?;
    Ok(Summary { simulated: run.kit.time.now().elapsed(), steps: run.steps, verdict })
}

struct Run<'a> {
    cluster: &'a mut dyn Cluster,
    kit: &'a mut Kit,
    workload: &'a dyn Workload,
    schedule: Schedule,
    lots: Rng,
    steps: u64,
    steps_at_once: u64,
}

impl Run<'_> {
    fn equip(&mut self, number: u64) -> Client {
        let (kv, clock) = self.cluster.client(number);
        Client { number, kv, clock, rng: self.kit.rng.numbered("client", number) }
    }

    fn start(&mut self, number: u64) {
        let client = self.equip(number);
        self.kit.executor.start(Host::Client(number), "client", self.workload.client(client));
    }

    fn verify(&mut self) {
        let number = self.workload.clients();
        let client = self.equip(number);
        self.kit.executor.start(Host::Client(number), "verify", self.workload.verify(client));
    }

    /// Goes on until `is_done`, or something is wrong.
    fn until(
        &mut self,
        deadline: Moment,
        is_done: impl Fn(&Run<'_>) -> bool,
    ) -> Result<(), Failure> {
        while !is_done(self) {
            self.step(deadline)?;
            self.cluster.check().map_err(Failure)?;
            if self.workload.has_failed() {
                self.workload.verdict().map_err(|error| Failure(error.to_string()))?;
            }
        }
        Ok(())
    }

    fn step(&mut self, deadline: Moment) -> Result<(), Failure> {
        let now = self.kit.time.now();
        if let Some(fault) = self.schedule.pop(now) {
            self.kit.trace.record(now, Host::World, format_args!("{fault}"));
            self.cluster.commit(&fault, self.kit);
            return Ok(());
        }
        let choices = (self.cluster.can_step(now), self.kit.executor.has_ready());
        // A lot in any case, so that a choice less moves nothing.
        let lot = self.lots.number(0..2) == 0;
        match choices {
            (true, has_ready) if !has_ready || lot => self.cluster.step(self.kit),
            (_, true) => drop(self.kit.executor.poll_one()),
            _ => return self.advance(deadline),
        }
        self.steps += 1;
        self.steps_at_once += 1;
        if self.steps_at_once > STEPS_AT_ONCE_MAX {
            return Err(self.not_alive("the time stands still"));
        }
        Ok(())
    }

    fn advance(&mut self, deadline: Moment) -> Result<(), Failure> {
        let Kit { time, .. } = &*self.kit;
        let next = [time.next_at(), self.cluster.next_at(), self.schedule.next_at()];
        let Some(next) = next.into_iter().flatten().min() else {
            return Err(self.not_alive("everybody waits for somebody else"));
        };
        if next > deadline {
            return Err(self.not_alive("the cluster does not come back to life"));
        }
        // A clock that leapt has somebody to wake at a time that has passed.
        let next = next.max(time.now());
        self.steps_at_once = if next > time.now() { 0 } else { self.steps_at_once + 1 };
        time.advance(next);
        Ok(())
    }

    fn not_alive(&self, what: &str) -> Failure {
        Failure(format!("{what}\n{}", self.cluster.describe()))
    }
}
