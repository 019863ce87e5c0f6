//! The closed loop: starts the clients, takes their measurements each second, stops them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use kiva_base::Clock;
use kiva_server::clock::SystemClock;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::expect::Expectation;
use super::target::{self, Target};
use super::workload::{Findings, Shared, Worker};
use super::{Plan, report, runtime};
use crate::exit::Failure;
use crate::output::Output;
use crate::signals::Signals;

/// How long a client waits after an error. A server that is away would otherwise be asked, and the
/// processor used, for nothing.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// Longest time that is told apart; what takes longer counts as this.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;

/// What happened during some time.
pub(crate) struct Interval {
    /// Operations that succeeded.
    pub(crate) operations: u64,
    /// Operations that did not.
    pub(crate) errors: u64,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// Nanoseconds of the operations that succeeded.
    pub(crate) latencies: Histogram<u64>,
}

/// What a run has shown.
pub(crate) struct Measured {
    /// All measured seconds together.
    pub(crate) total: Interval,
    /// Processor time that this process used during them.
    pub(crate) processor_time: Duration,
    /// The first error of an operation.
    pub(crate) first_error: Option<Failure>,
    /// What keys must hold now.
    pub(super) writes: Vec<(u64, Expectation)>,
    /// Timestamps that were drawn.
    pub(super) timestamps: Vec<u64>,
    /// Answers that were compared on the way.
    pub(super) compared: u64,
    /// Those that were wrong.
    pub(super) wrong: u64,
    /// The first of them.
    pub(super) first_wrong: Option<String>,
    /// A signal ended it early.
    pub(crate) is_interrupted: bool,
}

impl Interval {
    fn new() -> Self {
        let highest = LATENCY_MAX.as_nanos() as u64;
        Self {
            operations: 0,
            errors: 0,
            elapsed: Duration::ZERO,
            latencies: Histogram::new_with_bounds(1, highest, LATENCY_DIGITS)
                .expect("the bounds are constants that the library takes"),
        }
    }

    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.errors += other.errors;
        self.elapsed += other.elapsed;
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
    }

    /// Operations per second.
    pub(crate) fn rate(&self) -> f64 {
        match self.elapsed.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.operations as f64 / seconds,
        }
    }
}

/// Where the clients of one thread write down what they measure. The lock is taken by its thread
/// for each operation and by the main thread once a second.
struct Recorder(Mutex<Interval>);

impl Recorder {
    fn success(&self, elapsed: Duration) {
        let mut interval = self.lock();
        interval.operations += 1;
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        interval.latencies.saturating_record(nanos);
    }

    fn error(&self) {
        self.lock().errors += 1;
    }

    fn take(&self) -> Interval {
        std::mem::replace(&mut self.lock(), Interval::new())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Interval> {
        // Counters are whole after every step, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the main thread and the client threads share.
struct Stage {
    recorders: Vec<Arc<Recorder>>,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    go: watch::Sender<bool>,
}

/// Runs the workload of the plan.
pub(crate) fn run(plan: &Plan, out: &mut Output) -> Result<Measured, Failure> {
    let plan = Arc::new(plan.clone());
    let recorder = || Arc::new(Recorder(Mutex::new(Interval::new())));
    let stage = Stage {
        recorders: (0..plan.threads).map(|_| recorder()).collect(),
        shared: Arc::new(Shared {
            newest: AtomicU64::new(0),
            // Milliseconds, with room for a million writes of each client in every one.
            first_sequence: SystemClock.wall_ms() << 20,
        }),
        stop: Arc::new(AtomicBool::new(false)),
        go: watch::channel(false).0,
    };
    let (arrive, mut arrived) = mpsc::unbounded_channel();
    let clients = |thread| {
        let (plan, arrive) = (Arc::clone(&plan), arrive.clone());
        let mut go = stage.go.subscribe();
        let recorder = Arc::clone(&stage.recorders[thread]);
        let (shared, stop) = (Arc::clone(&stage.shared), Arc::clone(&stage.stop));
        async move {
            let connected = target::connect(&plan, thread).await;
            let (ways, arrival) = match connected {
                Ok(ways) => (ways, Ok(())),
                Err(failure) => (Vec::new(), Err(failure)),
            };
            // The main thread waits for every arrival before it does anything else.
            let _ = arrive.send(arrival);
            // An error means that the main thread has given up, which asks for the same.
            let _ = go.wait_for(|&go| go).await;
            let clients = plan.clients_of(thread).zip(ways.iter().cycle());
            let clients = clients.map(|(client, way)| Client {
                plan: Arc::clone(&plan),
                client,
                way: way.clone(),
                recorder: Arc::clone(&recorder),
                shared: Arc::clone(&shared),
                stop: Arc::clone(&stop),
            });
            runtime::together(clients.map(Client::run)).await
        }
    };
    let beside = async {
        let measured = measure(&plan, &stage, &mut arrived, out).await;
        stage.stop.store(true, Ordering::Relaxed);
        stage.go.send_replace(true);
        measured
    };
    let (findings, measured) = runtime::on_threads(plan.threads, clients, beside)?;
    let mut measured = measured?;
    for (findings, error) in findings.into_iter().flatten() {
        measured.absorb(findings, error);
    }
    Ok(measured)
}

/// Everything that one client needs.
struct Client {
    plan: Arc<Plan>,
    client: usize,
    way: Target,
    recorder: Arc<Recorder>,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
}

impl Client {
    async fn run(self) -> (Findings, Option<Failure>) {
        let mut worker = Worker::new(&self.plan, self.client, &self.shared);
        let mut first_error = None;
        while !self.stop.load(Ordering::Relaxed) {
            let started = runtime::now();
            match worker.step(&self.way, &self.shared).await {
                Ok(()) => self.recorder.success(started.elapsed()),
                Err(failure) => {
                    self.recorder.error();
                    first_error.get_or_insert(failure);
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
        (worker.finish(), first_error)
    }
}

/// Waits for all threads, then for the warm-up, then measures second by second.
async fn measure(
    plan: &Plan,
    stage: &Stage,
    arrived: &mut mpsc::UnboundedReceiver<Result<(), Failure>>,
    out: &mut Output,
) -> Result<Measured, Failure> {
    let mut signals = Signals::listen()?;
    for _ in 0..plan.threads {
        match arrived.recv().await {
            Some(arrival) => arrival?,
            None => break,
        }
    }
    report::head(plan, out)?;
    stage.go.send_replace(true);
    let mut measured = Measured::new();
    tokio::select! {
        () = tokio::time::sleep(plan.warmup) => {}
        () = signals.received() => measured.is_interrupted = true,
    }
    stage.recorders.iter().for_each(|recorder| {
        recorder.take();
    });
    let processor_time = runtime::processor_time();
    let mut taken = runtime::now();
    let mut ticks = tokio::time::interval_at(taken.into(), Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    for second in 1..=plan.seconds {
        if measured.is_interrupted {
            break;
        }
        tokio::select! {
            _ = ticks.tick() => {}
            () = signals.received() => measured.is_interrupted = true,
        }
        let interval = take(&stage.recorders, &mut taken);
        report::second(second, &interval, out)?;
        measured.total.add(&interval);
    }
    measured.processor_time = runtime::processor_time().saturating_sub(processor_time);
    Ok(measured)
}

/// What all threads did since `taken`.
fn take(recorders: &[Arc<Recorder>], taken: &mut Instant) -> Interval {
    let mut all = Interval::new();
    for recorder in recorders {
        all.add(&recorder.take());
    }
    let now = runtime::now();
    all.elapsed = now.duration_since(*taken);
    *taken = now;
    all
}

impl Measured {
    /// Nothing so far.
    pub(super) fn new() -> Self {
        Self {
            total: Interval::new(),
            processor_time: Duration::ZERO,
            first_error: None,
            writes: Vec::new(),
            timestamps: Vec::new(),
            compared: 0,
            wrong: 0,
            first_wrong: None,
            is_interrupted: false,
        }
    }

    /// Adds what one client knows.
    pub(super) fn absorb(&mut self, findings: Findings, error: Option<Failure>) {
        self.writes.extend(findings.writes.into_keys());
        self.timestamps.extend(findings.timestamps);
        self.compared += findings.compared;
        self.wrong += findings.wrong;
        self.first_wrong = self.first_wrong.take().or(findings.first_wrong);
        self.first_error = self.first_error.take().or(error);
    }
}
