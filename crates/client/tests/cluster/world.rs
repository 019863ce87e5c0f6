//! A small world: an executor of a few lines, a clock, a scheduler, and stores that check routes
//! like real ones and decide about transactions by the rules of `kiva_txn`.
//!
//! Every call that is executed leaves a line in the trace. Faults are put in beforehand and hit
//! the next call of a name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use kiva_base::clock::BoxFuture;
use kiva_base::{
    Clock, ClusterId, Epoch, Key, KeyError, KeyRange, Moment, Peer, PeerId, PeerRole, Region,
    RegionError, RegionId, StoreId, Timestamp,
};
use kiva_client::rpc::{
    CallError, Change, Command, Context, Direction, Members, Prewrite, RegionInfo, Reply,
    SchedulerCallError, SchedulerFuture, SchedulerPort, Span, Spawn, Store, StorePort, StoreState,
    TxnStatus,
};
use kiva_client::{Checksum, Client, Options, Ports};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Cf, Engine, Order, WriteBatch};
use kiva_txn as txn;

/// Everything there is. Clones are the same world.
#[derive(Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    now: Duration,
    timers: BTreeMap<(Duration, u64), Waker>,
    next_timer: u64,
    tasks: BTreeMap<u64, BoxFuture<'static, ()>>,
    next_task: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,

    pub(crate) regions: Vec<RegionInfo>,
    /// What stores believe; a client is told by the scheduler, whose list may be behind.
    pub(crate) scheduler_regions: Option<Vec<RegionInfo>>,
    pub(crate) down: BTreeSet<u64>,
    pub(crate) faults: VecDeque<(&'static str, Fault)>,
    pub(crate) trace: Vec<String>,
    last_ts: u64,
    /// Makes the next answer of the oracle this one.
    pub(crate) next_ts: Option<u64>,
    pub(crate) scheduler_down: bool,
    pub(crate) raw: BTreeMap<Bytes, Bytes>,
    engine: MemoryEngine,
}

/// What goes wrong with one call.
pub(crate) enum Fault {
    /// Refused, not executed.
    Refuse(RegionError),
    /// Not executed, and no answer.
    LoseBefore,
    /// Executed, and no answer.
    LoseAfter,
    /// Never leaves.
    Unsent,
    /// Something happens first, then the call goes on.
    First(Box<dyn FnOnce(&mut State) + Send>),
}

struct TaskWaker {
    id: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().push_back(self.id);
    }
}

/// The task that a test itself waits for.
const MAIN: u64 = u64::MAX;

impl World {
    /// Regions cut at these stored keys. Region `i`, from 1, is led by store `i` of as many.
    pub(crate) fn cut_at(cuts: &[Bytes]) -> Self {
        let mut bounds = vec![Bytes::new()];
        bounds.extend_from_slice(cuts);
        bounds.push(Bytes::new());
        let count = cuts.len() as u64 + 1;
        let mut state = State::default();
        for (i, pair) in bounds.windows(2).enumerate() {
            let id = i as u64 + 1;
            let peers: Vec<Peer> = (1..=count).map(|store| peer(id * 100 + store, store)).collect();
            let leader = peers[i];
            state.regions.push(RegionInfo {
                region: Region {
                    id: RegionId::new(id).unwrap(),
                    range: KeyRange::new(pair[0].clone(), pair[1].clone()).unwrap(),
                    epoch: Epoch::FIRST,
                    peers,
                },
                leader: Some(leader),
            });
        }
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Cut at raw keys.
    pub(crate) fn raw(cuts: &[&'static str]) -> Self {
        let cuts: Vec<Bytes> = cuts.iter().map(|&cut| cut.into()).collect();
        Self::cut_at(&cuts)
    }

    /// Cut at transactional keys.
    pub(crate) fn txn(cuts: &[&'static str]) -> Self {
        let cuts: Vec<Bytes> = cuts.iter().map(|&cut| Key::from(cut).encode().0).collect();
        Self::cut_at(&cuts)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(Options::default())
    }

    pub(crate) fn client_with(&self, options: Options) -> Client {
        self.connect(options, u64::MAX)
    }

    /// A client whose process dies after this many calls to stores.
    pub(crate) fn mortal(&self, calls: u64) -> Client {
        self.connect(Options::default(), calls)
    }

    fn connect(&self, options: Options, calls: u64) -> Client {
        let ports = Ports {
            stores: Arc::new(Network { world: self.clone(), left: Mutex::new(calls) }),
            scheduler: Arc::new(self.clone()),
            clock: Arc::new(self.clone()),
            spawn: Arc::new(self.clone()),
        };
        self.run(Client::over(ports, options)).unwrap()
    }

    /// Runs a future, and what it spawns, until it is ready.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.try_run(future).expect("nobody is left who could go on")
    }

    /// The same; `None` when nobody can go on.
    pub(crate) fn try_run<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let ready = self.state().ready.clone();
        let waker = Waker::from(Arc::new(TaskWaker { id: MAIN, ready: ready.clone() }));
        ready.lock().unwrap().push_back(MAIN);
        loop {
            let next = ready.lock().unwrap().pop_front();
            match next {
                Some(MAIN) => {
                    let mut cx = TaskContext::from_waker(&waker);
                    if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                        return Some(output);
                    }
                }
                Some(id) => self.poll_task(id),
                None if self.advance() => {}
                None => return None,
            }
        }
    }

    /// Runs what was spawned until nobody can go on without time passing.
    pub(crate) fn settle(&self) {
        let ready = self.state().ready.clone();
        loop {
            let next = ready.lock().unwrap().pop_front();
            match next {
                Some(MAIN) => {}
                Some(id) => self.poll_task(id),
                None => return,
            }
        }
    }

    /// Drops all that was spawned and has not ended: its process is gone.
    pub(crate) fn forget_tasks(&self) {
        let tasks = std::mem::take(&mut self.state().tasks);
        drop(tasks);
    }

    fn poll_task(&self, id: u64) {
        let Some(mut task) = self.state().tasks.remove(&id) else {
            return;
        };
        let ready = self.state().ready.clone();
        let waker = Waker::from(Arc::new(TaskWaker { id, ready }));
        let mut cx = TaskContext::from_waker(&waker);
        if task.as_mut().poll(&mut cx).is_pending() {
            self.state().tasks.insert(id, task);
        }
    }

    /// Moves time to the next timer.
    fn advance(&self) -> bool {
        let mut state = self.state();
        let Some(((at, _), waker)) = state.timers.pop_first() else {
            return false;
        };
        state.now = state.now.max(at);
        drop(state);
        waker.wake();
        true
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, duration: Duration) {
        self.state().now += duration;
    }

    /// How much time has passed.
    pub(crate) fn elapsed(&self) -> Duration {
        self.state().now
    }

    pub(crate) fn fault(&self, name: &'static str, fault: Fault) {
        self.state().faults.push_back((name, fault));
    }

    /// What stores have executed since the last look.
    pub(crate) fn trace(&self) -> Vec<String> {
        std::mem::take(&mut self.state().trace)
    }

    /// All locks that are left, by key.
    pub(crate) fn locks(&self) -> Vec<String> {
        let view = self.state().engine.snapshot();
        let request =
            txn::ScanLock { max_version: Timestamp::MAX, range: KeyRange::ALL, limit: 99 };
        let locks = txn::scan_lock(&*view, &request).unwrap();
        locks.iter().map(|lock| lock.key.escaped()).collect()
    }
}

impl World {
    /// Takes a lock away, as if its prewrite had never arrived.
    pub(crate) fn drop_lock(&self, key: &'static str) {
        let mut batch = WriteBatch::new();
        batch.delete(Cf::Lock, Key::from(key).encode().as_bytes());
        self.state().write(&batch);
    }

    /// Rolls a transaction back on one key.
    pub(crate) fn roll_back(&self, key: &'static str, start_ts: Timestamp) {
        let mut state = self.state();
        let view = state.engine.snapshot();
        let request = txn::Rollback { keys: vec![key.into()], start_ts };
        let outcome = txn::rollback(&*view, &request).unwrap();
        state.write(&outcome.batch);
    }
}

pub(crate) fn peer(id: u64, store: u64) -> Peer {
    Peer {
        id: PeerId::new(id).unwrap(),
        store: StoreId::new(store).unwrap(),
        role: PeerRole::Voter,
    }
}

impl State {
    pub(crate) fn region(&mut self, id: u64) -> &mut RegionInfo {
        self.regions.iter_mut().find(|info| info.region.id.get() == id).unwrap()
    }

    /// Gives a region another leader.
    pub(crate) fn lead(&mut self, region: u64, store: u64) {
        let info = self.region(region);
        info.leader = info.region.peer_on(StoreId::new(store).unwrap());
    }

    /// Cuts a region: the old id keeps the left part.
    pub(crate) fn split(&mut self, id: u64, new: u64, at: impl Into<Bytes>) {
        let at = at.into();
        let info = self.region(id);
        info.region.epoch.version += 1;
        let mut right = info.clone();
        let (start, end) = (info.region.range.start().clone(), info.region.range.end().clone());
        info.region.range = KeyRange::new(start, at.clone()).unwrap();
        right.region.id = RegionId::new(new).unwrap();
        right.region.range = KeyRange::new(at, end).unwrap();
        self.regions.push(right);
        self.regions.sort_by(|a, b| a.region.range.start().cmp(b.region.range.start()));
    }

    fn seen_by_scheduler(&self) -> &[RegionInfo] {
        self.scheduler_regions.as_deref().unwrap_or(&self.regions)
    }

    /// The checks of a store, in the order of the protocol.
    fn check(&self, store: &Store, context: &Context) -> Result<(), RegionError> {
        let Some(info) = self.regions.iter().find(|info| info.region.id == context.region) else {
            return Err(RegionError::RegionNotFound { region: context.region.get() });
        };
        if info.leader.map(|leader| leader.store) != Some(store.id) {
            return Err(RegionError::NotLeader { region: info.region.id, leader: info.leader });
        }
        if info.region.epoch.version != context.epoch.version {
            let sibling = self.regions.iter().filter(|other| other.leader == info.leader);
            return Err(RegionError::EpochNotMatch {
                current: sibling.map(|info| info.region.clone()).collect(),
            });
        }
        Ok(())
    }

    fn write(&mut self, batch: &WriteBatch) {
        self.engine.write(batch).unwrap();
    }

    fn execute(&mut self, context: &Context, command: &Command) -> Reply {
        let range = self.region(context.region.get()).region.range.clone();
        let view = self.engine.snapshot();
        let view = &*view;
        let rules = txn::ReadRules {
            resolved_locks: context.resolved_locks.iter().copied().collect(),
            ..Default::default()
        };
        let keys = |keys: &[Bytes]| keys.iter().cloned().map(Key).collect();
        match command {
            Command::Get { key, version } => {
                let key = Key(key.clone());
                let request = txn::Get { key, version: *version, rules };
                Reply::Get(txn::get(view, &request).unwrap())
            }
            Command::BatchGet { keys: all, version } => {
                let request = txn::BatchGet { keys: keys(all), version: *version, rules };
                Reply::Pairs(txn::batch_get(view, &request).unwrap().map(pairs))
            }
            Command::Scan { span, key_only, version } => {
                let encode = |key: &Bytes| match key.is_empty() {
                    true => Bytes::new(),
                    false => Key(key.clone()).encode().0,
                };
                let asked = KeyRange::new(encode(&span.lower), encode(&span.upper)).unwrap();
                let order = match span.direction {
                    Direction::Forward => Order::Forward,
                    Direction::Backward => Order::Reverse,
                };
                let request = txn::Scan {
                    range: asked.intersect(&range),
                    order,
                    limit: span.limit as usize,
                    version: *version,
                    key_only: *key_only,
                    sample_step: 0,
                    rules,
                };
                Reply::Pairs(txn::scan(view, &request).unwrap().map(pairs))
            }
            Command::Prewrite(prewrite) => {
                let outcome = txn::prewrite(view, &prewrite_of(prewrite)).unwrap();
                self.write(&outcome.batch);
                Reply::Prewrite(outcome.reply.err().unwrap_or_default())
            }
            Command::Commit { start_ts, keys: all, commit_ts } => {
                let (start_ts, commit_ts) = (*start_ts, *commit_ts);
                let request = txn::Commit { keys: keys(all), start_ts, commit_ts };
                let outcome = txn::commit(view, &request).unwrap();
                self.write(&outcome.batch);
                Reply::Commit(outcome.reply.map(|_| ()))
            }
            Command::Rollback { start_ts, keys: all } => {
                let request = txn::Rollback { keys: keys(all), start_ts: *start_ts };
                let outcome = txn::rollback(view, &request).unwrap();
                self.write(&outcome.batch);
                Reply::Rollback(outcome.reply)
            }
            Command::CheckStatus {
                primary,
                lock_ts,
                caller_start_ts,
                current_ts,
                rollback_if_not_exist,
            } => {
                let request = txn::CheckStatus {
                    primary: Key(primary.clone()),
                    lock_ts: *lock_ts,
                    caller_start_ts: *caller_start_ts,
                    current_ts: *current_ts,
                    rollback_if_not_exist: *rollback_if_not_exist,
                    force_sync_commit: false,
                    resolving_pessimistic_lock: false,
                    verify_is_primary: true,
                };
                let outcome = txn::check_status(view, &request).unwrap();
                self.write(&outcome.batch);
                Reply::CheckStatus(outcome.reply.map(status))
            }
            Command::Resolve { start_ts, commit_ts, keys: all } => {
                let fate = match *commit_ts {
                    Some(commit_ts) => txn::Fate::Committed(commit_ts),
                    None => txn::Fate::RolledBack,
                };
                let request = match all.is_empty() {
                    false => {
                        let all: Vec<Key> = keys(all);
                        txn::Resolve::keys_of(*start_ts, fate, all)
                    }
                    true => {
                        let fates = BTreeMap::from([(*start_ts, fate)]);
                        let find = txn::FindLocks { fates, range };
                        txn::find_locks(view, &find).unwrap().unwrap().resolve
                    }
                };
                let outcome = txn::resolve(view, &request).unwrap();
                self.write(&outcome.batch);
                Reply::Resolve(outcome.reply)
            }
            Command::Heartbeat { primary, start_ts, ttl_ms } => {
                let request = txn::Heartbeat {
                    primary: Key(primary.clone()),
                    start_ts: *start_ts,
                    advise_ttl_ms: *ttl_ms,
                };
                let outcome = txn::heartbeat(view, &request).unwrap();
                self.write(&outcome.batch);
                Reply::Heartbeat(outcome.reply)
            }
            raw => self.execute_raw(&range, raw),
        }
    }

    fn execute_raw(&mut self, region: &KeyRange, command: &Command) -> Reply {
        match command {
            Command::RawGet { key, .. } => Reply::RawGet(Ok(self.raw.get(key).cloned())),
            Command::RawBatchGet { keys, .. } => {
                let found =
                    keys.iter().filter_map(|key| Some((key.clone(), self.raw.get(key)?.clone())));
                Reply::RawBatchGet(Ok(found.collect()))
            }
            Command::RawGetTtl { key, .. } => {
                Reply::RawGetTtl(Ok(self.raw.contains_key(key).then_some(0)))
            }
            Command::RawPut { key, value, .. } => {
                self.raw.insert(key.clone(), value.clone());
                Reply::RawWritten(Ok(()))
            }
            Command::RawBatchPut { pairs, .. } => {
                self.raw.extend(pairs.iter().cloned());
                Reply::RawWritten(Ok(()))
            }
            Command::RawDelete { key, .. } => {
                self.raw.remove(key);
                Reply::RawWritten(Ok(()))
            }
            Command::RawBatchDelete { keys, .. } => {
                keys.iter().for_each(|key| drop(self.raw.remove(key)));
                Reply::RawWritten(Ok(()))
            }
            Command::RawDeleteRange { start, end, .. } => {
                let asked = KeyRange::new(start.clone(), end.clone()).unwrap();
                self.raw.retain(|key, _| !asked.contains(key));
                Reply::RawWritten(Ok(()))
            }
            Command::RawScan { span, .. } => Reply::RawScan(Ok(self.raw_scan(region, span))),
            Command::RawCompareAndSwap { key, previous, value, .. } => {
                let found = self.raw.get(key).cloned();
                let swapped = found == *previous;
                if swapped {
                    self.raw.insert(key.clone(), value.clone());
                }
                Reply::RawCompareAndSwap(Ok((swapped, found)))
            }
            Command::RawChecksum { start, end } => {
                let asked = KeyRange::new(start.clone(), end.clone()).unwrap();
                let mut sum = Checksum::default();
                for (key, value) in self.raw.iter().filter(|(key, _)| asked.contains(key)) {
                    sum.crc64_xor ^= u64::from(key[0]);
                    sum.pairs += 1;
                    sum.bytes += (key.len() + value.len()) as u64;
                }
                Reply::RawChecksum(Ok(sum))
            }
            other => panic!("{} is not served here", other.name()),
        }
    }

    fn raw_scan(&self, region: &KeyRange, span: &Span) -> Vec<(Bytes, Bytes)> {
        let asked = KeyRange::new(span.lower.clone(), span.upper.clone()).unwrap();
        let range = asked.intersect(region);
        let pairs = self.raw.iter().filter(|(key, _)| range.contains(key));
        let pairs = pairs.map(|(key, value)| (key.clone(), value.clone()));
        let limit = span.limit as usize;
        match span.direction {
            Direction::Forward => pairs.take(limit).collect(),
            Direction::Backward => pairs.rev().take(limit).collect(),
        }
    }
}

fn pairs(pairs: Vec<txn::Pair>) -> Vec<kiva_client::rpc::Pair> {
    let pair = |pair| match pair {
        txn::Pair::Value { key, value } => Ok((key.0, value)),
        txn::Pair::Locked(lock) => Err(KeyError::Locked(lock)),
    };
    pairs.into_iter().map(pair).collect()
}

fn status(status: txn::TxnStatus) -> TxnStatus {
    match status {
        txn::TxnStatus::RolledBack { .. } => TxnStatus::RolledBack,
        txn::TxnStatus::Committed { commit_ts } => TxnStatus::Committed(commit_ts),
        txn::TxnStatus::Alive { lock, action } => TxnStatus::Alive {
            ttl_ms: lock.ttl_ms,
            min_commit_ts_pushed: action == txn::StatusAction::MinCommitTsPushed,
        },
    }
}

fn prewrite_of(prewrite: &Prewrite) -> txn::Prewrite {
    let mutation = |mutation: &kiva_client::rpc::Mutation| txn::Mutation {
        key: Key(mutation.key.clone()),
        op: match &mutation.change {
            Change::Put(value) => txn::Op::Put(value.clone()),
            Change::Insert(value) => txn::Op::Insert(value.clone()),
            Change::Delete => txn::Op::Delete,
            Change::Lock => txn::Op::Lock,
            Change::CheckNotExists => txn::Op::CheckNotExists,
        },
        assertion: Default::default(),
    };
    txn::Prewrite {
        mutations: prewrite.mutations.iter().map(mutation).collect(),
        primary: Key(prewrite.primary.clone()),
        start_ts: prewrite.start_ts,
        lock_ttl_ms: prewrite.lock_ttl_ms,
        txn_size: prewrite.txn_size,
        min_commit_ts: prewrite.min_commit_ts,
        assertion_level: txn::AssertionLevel::Off,
        skip_constraint_check: false,
        for_update_ts: Timestamp::ZERO,
        pessimistic_actions: vec![],
        use_async_commit: false,
        try_one_pc: false,
    }
}

/// One client's way to stores.
struct Network {
    world: World,
    left: Mutex<u64>,
}

impl StorePort for Network {
    fn call(
        &self,
        store: &Arc<Store>,
        context: &Context,
        command: &Command,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Reply, CallError>> {
        assert!(!timeout.is_zero(), "a call without time");
        let mut left = self.left.lock().unwrap();
        if *left == 0 {
            return Box::pin(pending());
        }
        *left -= 1;
        let (store, context, command) = (store.clone(), context.clone(), command.clone());
        let world = self.world.clone();
        Box::pin(async move {
            // The message is on its way: others go first.
            let mut is_here = false;
            poll_fn(|cx| {
                if is_here {
                    return Poll::Ready(());
                }
                is_here = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            world.state().serve(&store, &context, &command)
        })
    }
}

impl State {
    fn serve(
        &mut self,
        store: &Store,
        context: &Context,
        command: &Command,
    ) -> Result<Reply, CallError> {
        let name = command.name();
        let line = format!("s{} {}", store.id, line(context, command));
        if self.down.contains(&store.id.get()) {
            self.trace.push(format!("{line}: unreachable"));
            return Err(CallError::Unsent("connection refused".into()));
        }
        let fault = match self.faults.front() {
            Some((of, _)) if *of == name => self.faults.pop_front().map(|(_, fault)| fault),
            _ => None,
        };
        let is_lost = matches!(fault, Some(Fault::LoseAfter));
        match fault {
            Some(Fault::Refuse(error)) => {
                self.trace.push(format!("{line}: refused"));
                return Err(CallError::Region(error));
            }
            Some(Fault::LoseBefore) => {
                self.trace.push(format!("{line}: lost"));
                return Err(CallError::Lost("connection reset".into()));
            }
            Some(Fault::Unsent) => {
                self.trace.push(format!("{line}: unreachable"));
                return Err(CallError::Unsent("connection refused".into()));
            }
            Some(Fault::First(change)) => change(self),
            Some(Fault::LoseAfter) | None => {}
        }
        if let Err(error) = self.check(store, context) {
            let kind = match error {
                RegionError::NotLeader { .. } => "not leader",
                RegionError::EpochNotMatch { .. } => "epoch",
                _ => "refused",
            };
            self.trace.push(format!("{line}: {kind}"));
            return Err(error.into());
        }
        let reply = self.execute(context, command);
        if is_lost {
            self.trace.push(format!("{line}: answer lost"));
            return Err(CallError::Lost("connection reset".into()));
        }
        self.trace.push(line);
        Ok(reply)
    }
}

/// A command for people: name, region, keys.
fn line(context: &Context, command: &Command) -> String {
    let join = |keys: &[Bytes]| {
        let keys: Vec<String> = keys.iter().map(|key| key.escape_ascii().to_string()).collect();
        keys.join(" ")
    };
    let one = |key: &Bytes| key.escape_ascii().to_string();
    let range = |start: &Bytes, end: &Bytes| format!("{}..{}", one(start), one(end));
    let what = match command {
        Command::RawGet { key, .. }
        | Command::RawGetTtl { key, .. }
        | Command::RawPut { key, .. }
        | Command::RawDelete { key, .. }
        | Command::RawCompareAndSwap { key, .. }
        | Command::Get { key, .. } => one(key),
        Command::RawBatchGet { keys, .. }
        | Command::RawBatchDelete { keys, .. }
        | Command::BatchGet { keys, .. }
        | Command::Commit { keys, .. }
        | Command::Rollback { keys, .. }
        | Command::Resolve { keys, .. } => join(keys),
        Command::RawBatchPut { pairs, .. } => {
            join(&pairs.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>())
        }
        Command::Prewrite(prewrite) => {
            let keys: Vec<Bytes> = prewrite.mutations.iter().map(|m| m.key.clone()).collect();
            format!("{} primary={}", join(&keys), one(&prewrite.primary))
        }
        Command::RawScan { span, .. } | Command::Scan { span, .. } => {
            range(&span.lower, &span.upper)
        }
        Command::RawDeleteRange { start, end, .. }
        | Command::RawChecksum { start, end }
        | Command::ScanLock { start, end, .. } => range(start, end),
        Command::CheckStatus { primary, .. } | Command::Heartbeat { primary, .. } => one(primary),
    };
    format!("{} r{} {what}", command.name(), context.region).trim_end().to_string()
}

impl World {
    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> SchedulerFuture<T> {
        let world = self.clone();
        Box::pin(async move {
            let mut state = world.state();
            match state.scheduler_down {
                true => Err(SchedulerCallError::Unreachable("connection refused".into())),
                false => Ok(answer(&mut state)),
            }
        })
    }
}

impl SchedulerPort for World {
    fn timestamps(&self, count: u32) -> SchedulerFuture<Timestamp> {
        let world = self.clone();
        let drawn = self.answer(move |state| {
            state.trace.push(format!("tso {count}"));
            let now = Timestamp::new(1_000 + state.now.as_millis() as u64, 0).0;
            state.last_ts = state.last_ts.max(now) + u64::from(count);
            Timestamp(state.next_ts.take().unwrap_or(state.last_ts))
        });
        Box::pin(async move {
            world.sleep(Duration::from_millis(1)).await;
            drawn.await
        })
    }

    fn region_by_key(&self, key: Bytes) -> SchedulerFuture<Option<RegionInfo>> {
        self.answer(move |state| {
            state.trace.push("region?".into());
            let found = state.seen_by_scheduler().iter().find(|info| info.region.contains(&key));
            found.cloned()
        })
    }

    fn region_by_id(&self, id: RegionId) -> SchedulerFuture<Option<RegionInfo>> {
        self.answer(move |state| {
            state.seen_by_scheduler().iter().find(|info| info.region.id == id).cloned()
        })
    }

    fn scan_regions(
        &self,
        start: Bytes,
        end: Bytes,
        limit: u32,
    ) -> SchedulerFuture<Vec<RegionInfo>> {
        self.answer(move |state| {
            let range = KeyRange::new(start, end).unwrap();
            let found = state.seen_by_scheduler().iter();
            let found = found.filter(|info| info.region.range.overlaps(&range));
            found.take(limit as usize).cloned().collect()
        })
    }

    fn store(&self, id: StoreId) -> SchedulerFuture<Option<Store>> {
        self.answer(move |_| {
            Some(Store {
                id,
                address: format!("store-{id}"),
                state: StoreState::Up,
                version: String::new(),
                status_address: String::new(),
                labels: vec![],
            })
        })
    }

    fn stores(&self) -> SchedulerFuture<Vec<Store>> {
        self.answer(|_| vec![])
    }

    fn members(&self) -> SchedulerFuture<Members> {
        self.answer(|_| Members {
            cluster: ClusterId::new(1).unwrap(),
            members: vec![],
            leader: None,
        })
    }

    fn keyspace(&self, name: String) -> SchedulerFuture<u32> {
        assert_eq!(name, "DEFAULT");
        self.answer(|_| 0)
    }

    fn safe_point(&self) -> SchedulerFuture<Timestamp> {
        self.answer(|_| Timestamp::ZERO)
    }

    fn advance_safe_point(&self, to: Timestamp) -> SchedulerFuture<Timestamp> {
        self.answer(move |_| to)
    }
}

impl Spawn for World {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let mut state = self.state();
        let id = state.next_task;
        state.next_task += 1;
        state.tasks.insert(id, task);
        state.ready.lock().unwrap().push_back(id);
    }
}

impl Clock for World {
    fn now(&self) -> Moment {
        Moment::after_start(self.state().now)
    }

    fn wall_ms(&self) -> u64 {
        self.state().now.as_millis() as u64
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut state = self.state();
        let key = (state.now + duration, state.next_timer);
        state.next_timer += 1;
        drop(state);
        Box::pin(Sleep { world: self.clone(), key })
    }
}

struct Sleep {
    world: World,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut state = self.world.state();
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.timers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.world.state().timers.remove(&self.key);
    }
}
