//! Random interleavings of commands against a model that has no records, flags or iterators: a key
//! is a lock, what was committed on it, and who is dead on it, all remembered for ever.
//!
//! After every step the replies agree, every lock the model knows is there and no other, every
//! snapshot reads as the model's history says, nothing outside the latched keys was written, a
//! refusal wrote nothing, and the same command again changes nothing.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use kiva_base::fault::{Assertion, ConflictReason, KeyError, LockKind};
use kiva_base::{EncodedKey, Key, KeyRange, Timestamp};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Cf, Engine, Op as BatchOp, Order, Snapshot, WriteBatch};
use kiva_txn::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

const KEYS: usize = 4;
const TXNS: u64 = 5;

/// Physical part zero for all of them, so that the time of the caller alone decides on the TTL.
fn start_ts(txn: u64) -> Timestamp {
    Timestamp(10 * txn + 10)
}

/// Between two starts, or at exactly the start of a later transaction.
fn commit_ts(txn: u64, coincides: bool) -> Timestamp {
    Timestamp(start_ts(txn).0 + if coincides { 20 } else { 5 })
}

const ALIVE: Timestamp = Timestamp(1);
const EXPIRED: Timestamp = Timestamp::new(100_000, 0);

fn key(position: usize) -> Key {
    // Prefixes of each other, around the group size of the encoding.
    Key::from(["k", "kkkkkkk", "kkkkkkkk", "kkkkkkkk\0"][position])
}

fn primary(txn: u64) -> Key {
    key(txn as usize % KEYS)
}

/// Short ones ride in records, long ones do not.
fn value(txn: u64, key: &Key) -> Bytes {
    let size = if txn.is_multiple_of(2) { 1 } else { 300 };
    Bytes::from(format!("{txn} {}", key.escaped()).repeat(size))
}

#[derive(Debug, Clone)]
enum Step {
    Prewrite { txn: u64, ops: Vec<(usize, u8)>, promises: bool },
    Commit { txn: u64, keys: Vec<usize> },
    Rollback { txn: u64, keys: Vec<usize> },
    CheckStatus { txn: u64, key: usize, now: Timestamp, caller: Timestamp, rolls_back: bool },
    Cleanup { txn: u64, key: usize, now: Timestamp },
    ResolveRegion { txn: u64, commits: bool },
    ResolveKeys { txn: u64, keys: Vec<usize>, commits: bool },
    Heartbeat { txn: u64, key: usize, ttl_ms: u64 },
}

/// Few keys at a time, and mostly the primary where it decides, so that most commands meet
/// something.
fn steps() -> impl Strategy<Value = (bool, Vec<Step>)> {
    let txn = || 0..TXNS;
    let keys = || vec(0..KEYS, 1..3);
    let now = || select(vec![ALIVE, ALIVE, ALIVE, EXPIRED]);
    let txn_and_key = || {
        (txn(), select(vec![None, None, None, Some(0), Some(1), Some(2), Some(3)]))
            .prop_map(|(txn, key)| (txn, key.unwrap_or(txn as usize % KEYS)))
    };
    let caller = || select(vec![0, 25, 47, 47, 80, u64::MAX]).prop_map(Timestamp);
    let step = prop_oneof![
        10 => (txn_and_key(), 0..6_u8, vec((0..KEYS, 0..6_u8), 0..3), any::<bool>()).prop_map(
            |((txn, key), op, mut ops, promises)| {
                ops.insert(0, (key, op));
                Step::Prewrite { txn, ops, promises }
            }
        ),
        10 => (txn_and_key(), any::<bool>(), 0..KEYS).prop_map(|((txn, key), is_pair, second)| {
            let keys = if is_pair { vec![key, second] } else { vec![key] };
            Step::Commit { txn, keys }
        }),
        1 => (txn(), keys()).prop_map(|(txn, keys)| Step::Rollback { txn, keys }),
        3 => (txn_and_key(), now(), caller(), select(vec![false, false, false, true])).prop_map(
            |((txn, key), now, caller, rolls_back)| {
                Step::CheckStatus { txn, key, now, caller, rolls_back }
            }
        ),
        1 => (txn_and_key(), now())
            .prop_map(|((txn, key), now)| Step::Cleanup { txn, key, now }),
        1 => (txn(), any::<bool>())
            .prop_map(|(txn, commits)| Step::ResolveRegion { txn, commits }),
        1 => (txn(), keys(), any::<bool>())
            .prop_map(|(txn, keys, commits)| Step::ResolveKeys { txn, keys, commits }),
        1 => (txn_and_key(), 2_000..5_000_u64)
            .prop_map(|((txn, key), ttl_ms)| Step::Heartbeat { txn, key, ttl_ms }),
    ];
    (any::<bool>(), vec(step, 1..60))
}

// --- the model ---------------------------------------------------------------------------------

#[derive(Debug, Clone, Default)]
struct ModelKey {
    lock: Option<ModelLock>,
    /// By commit timestamp.
    commits: BTreeMap<Timestamp, (Timestamp, LockKind, Option<Bytes>)>,
    /// By start timestamp: whether it must be known for ever (a protected rollback), or only that
    /// the transaction can never lock the key again.
    dead: BTreeMap<Timestamp, bool>,
}

#[derive(Debug, Clone)]
struct ModelLock {
    start_ts: Timestamp,
    kind: LockKind,
    primary: Key,
    value: Option<Bytes>,
    ttl_ms: u64,
    min_commit_ts: Timestamp,
}

/// How a request ends, as far as the model says it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Ok,
    Committed(Timestamp),
    RolledBack,
    Alive,
    Refused(&'static str),
}

impl ModelKey {
    fn is_locked_by(&self, txn: Timestamp) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.start_ts == txn)
    }

    fn own_commit(&self, txn: Timestamp) -> Option<Timestamp> {
        let mut own = self.commits.iter().filter(|(_, (start, ..))| *start == txn);
        own.next().map(|(&commit_ts, _)| commit_ts)
    }

    fn newest(&self) -> Option<Timestamp> {
        let commit = self.commits.last_key_value().map(|(&ts, _)| ts);
        commit.max(self.dead.last_key_value().map(|(&ts, _)| ts))
    }

    fn read(&self, ts: Timestamp) -> Option<Bytes> {
        let mut data = self.commits.range(..=ts).rev();
        data.find(|(_, (_, kind, _))| *kind != LockKind::Lock)
            .and_then(|(_, (_, _, value))| value.clone())
    }

    fn blocks(&self, key: &Key, ts: Timestamp) -> bool {
        self.lock.as_ref().is_some_and(|lock| {
            lock.kind != LockKind::Lock
                && lock.start_ts <= ts
                && lock.min_commit_ts <= ts
                && !(ts == Timestamp::MAX && lock.primary == *key)
        })
    }

    fn commit(&mut self, txn: Timestamp, commit_ts: Timestamp) -> End {
        if commit_ts <= txn {
            return End::Refused("abort");
        }
        if !self.is_locked_by(txn) {
            return match self.own_commit(txn) {
                Some(_) => End::Ok,
                None => End::Refused("no lock"),
            };
        }
        let lock = self.lock.take().expect("it is locked");
        if commit_ts < lock.min_commit_ts {
            return End::Refused("expired");
        }
        self.commits.insert(commit_ts, (txn, lock.kind, lock.value));
        End::Ok
    }

    fn roll_back(&mut self, key: &Key, txn: Timestamp, protects_missing: bool) -> End {
        if self.is_locked_by(txn) {
            let lock = self.lock.take().expect("it is locked");
            self.bury(txn, lock.primary == *key);
            return End::Ok;
        }
        if let Some(commit_ts) = self.own_commit(txn) {
            return End::Committed(commit_ts);
        }
        if !self.dead.contains_key(&txn) {
            self.bury(txn, protects_missing);
        }
        End::Ok
    }

    fn bury(&mut self, txn: Timestamp, protects: bool) {
        *self.dead.entry(txn).or_default() |= protects;
    }
}

type Model = BTreeMap<Key, ModelKey>;

/// Does the same to several keys, or to none.
fn all_or_none(
    model: &mut Model,
    keys: impl IntoIterator<Item = Key>,
    mut act: impl FnMut(&Key, &mut ModelKey) -> End,
) -> End {
    let mut changed = model.clone();
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        match act(&key, changed.entry(key.clone()).or_default()) {
            End::Ok => {}
            refused => return refused,
        }
    }
    *model = changed;
    End::Ok
}

fn model_prewrite(model: &mut Model, request: &Prewrite) -> End {
    let txn = request.start_ts;
    let mut changed = model.clone();
    let mut is_locked = false;
    for (position, mutation) in request.mutations.iter().enumerate() {
        let later = &request.mutations[position + 1..];
        if later.iter().any(|other| other.key == mutation.key) {
            continue;
        }
        let key = changed.entry(mutation.key.clone()).or_default();
        if key.is_locked_by(txn) {
            continue;
        }
        let newest = key.newest().filter(|&ts| ts >= txn);
        if (key.lock.is_some() || newest.is_some()) && key.own_commit(txn).is_some() {
            return End::Ok;
        }
        if key.lock.is_some() {
            is_locked = true;
            continue;
        }
        if let Some(newest) = newest {
            let is_own = newest == txn && key.dead.contains_key(&txn);
            // A plain rollback in a place already taken leaves the conflict only.
            let is_flag = is_own && key.commits.contains_key(&txn);
            return End::Refused(match (is_own, is_flag && !key.dead[&txn]) {
                (true, false) => "rolled back",
                (true, true) => "conflict or rolled back",
                (false, _) => "conflict",
            });
        }
        let (kind, value) = match &mutation.op {
            Op::Insert(_) | Op::CheckNotExists if key.read(Timestamp::MAX).is_some() => {
                return End::Refused("exists");
            }
            Op::CheckNotExists => continue,
            Op::Put(value) | Op::Insert(value) => (LockKind::Put, Some(value.clone())),
            Op::Delete => (LockKind::Delete, None),
            Op::Lock => (LockKind::Lock, None),
        };
        key.lock = Some(ModelLock {
            start_ts: txn,
            kind,
            primary: request.primary.clone(),
            value,
            ttl_ms: request.lock_ttl_ms,
            min_commit_ts: request.min_commit_ts,
        });
    }
    if is_locked {
        return End::Refused("locked");
    }
    *model = changed;
    End::Ok
}

fn model_check_status(key: &mut ModelKey, request: &CheckStatus) -> End {
    let txn = request.lock_ts;
    if let Some(lock) = key.lock.as_mut().filter(|lock| lock.start_ts == txn) {
        if lock.primary != request.primary {
            return End::Refused("another primary");
        }
        if request.current_ts == EXPIRED {
            key.lock = None;
            key.bury(txn, true);
            return End::RolledBack;
        }
        let (min, caller) = (lock.min_commit_ts, request.caller_start_ts);
        if !min.is_zero() && caller != Timestamp::MAX && caller >= min {
            lock.min_commit_ts = caller.next().max(request.current_ts);
        }
        return End::Alive;
    }
    if let Some(commit_ts) = key.own_commit(txn) {
        return End::Committed(commit_ts);
    }
    match key.dead.get(&txn) {
        Some(true) => End::RolledBack,
        Some(false) => End::Refused("not found or rolled back"),
        None if request.rollback_if_not_exist => {
            key.bury(txn, true);
            End::RolledBack
        }
        None => End::Refused("not found"),
    }
}

// --- the rules, told in the model's words ------------------------------------------------------

fn told(error: &KeyError) -> &'static str {
    match error {
        KeyError::Locked(_) => "locked",
        KeyError::Conflict { reason: ConflictReason::SelfRolledBack, .. } => "rolled back",
        KeyError::Conflict { .. } => "conflict",
        KeyError::AlreadyExist { .. } => "exists",
        KeyError::CommitTsExpired { .. } => "expired",
        KeyError::TxnNotFound { .. } => "not found",
        KeyError::PrimaryMismatch(_) => "another primary",
        KeyError::TxnLockNotFound { .. } => "no lock",
        KeyError::AssertionFailed { .. } => "assertion",
        KeyError::Abort(_) => "abort",
    }
}

fn end_of<T>(reply: Result<T, KeyError>, ok: impl FnOnce(T) -> End) -> End {
    reply.map_or_else(|error| End::Refused(told(&error)), ok)
}

fn agree(model: &End, rules: &End) -> bool {
    match (model, rules) {
        (End::Refused("conflict or rolled back"), End::Refused("conflict" | "rolled back")) => true,
        (End::Refused("not found or rolled back"), End::Refused("not found") | End::RolledBack) => {
            true
        }
        _ => model == rules,
    }
}

/// One engine and the model beside it.
struct World {
    engine: MemoryEngine,
    model: Model,
    coincides: bool,
}

type Decided = (WriteBatch, End, Vec<EncodedKey>);

impl World {
    fn decide(&self, view: &dyn Snapshot, step: &Step) -> Decided {
        match step {
            Step::Prewrite { .. } => {
                let request = prewrite_of(step);
                let outcome = prewrite(view, &request).unwrap();
                let end = match outcome.reply {
                    Ok(_) => End::Ok,
                    Err(errors) => {
                        let all_locked = errors.iter().all(|e| told(e) == "locked");
                        assert!(errors.len() == 1 || all_locked, "{errors:?}");
                        End::Refused(told(&errors[0]))
                    }
                };
                (outcome.batch, end, request.keys())
            }
            Step::Commit { txn, keys } => {
                let request = Commit {
                    keys: keys.iter().copied().map(key).collect(),
                    start_ts: start_ts(*txn),
                    commit_ts: commit_ts(*txn, self.coincides),
                };
                let outcome = commit(view, &request).unwrap();
                (outcome.batch, end_of(outcome.reply, |_| End::Ok), request.keys())
            }
            Step::Rollback { txn, keys } => {
                let request = Rollback {
                    keys: keys.iter().copied().map(key).collect(),
                    start_ts: start_ts(*txn),
                };
                let outcome = rollback(view, &request).unwrap();
                (outcome.batch, end_of(outcome.reply, |()| End::Ok), request.keys())
            }
            Step::CheckStatus { .. } => {
                let request = check_status_of(step);
                let outcome = check_status(view, &request).unwrap();
                let end = end_of(outcome.reply, |status| match status {
                    TxnStatus::RolledBack { .. } => End::RolledBack,
                    TxnStatus::Committed { commit_ts } => End::Committed(commit_ts),
                    TxnStatus::Alive { .. } => End::Alive,
                });
                (outcome.batch, end, request.keys())
            }
            Step::Cleanup { txn, key: position, now } => {
                let request =
                    Cleanup { key: key(*position), start_ts: start_ts(*txn), current_ts: *now };
                let outcome = cleanup(view, &request).unwrap();
                let end = end_of(outcome.reply, |commit_ts| match commit_ts {
                    Some(commit_ts) => End::Committed(commit_ts),
                    None => End::RolledBack,
                });
                (outcome.batch, end, request.keys())
            }
            Step::ResolveRegion { txn, commits } => {
                let fates = [(start_ts(*txn), self.fate(*txn, *commits))];
                let request = FindLocks { fates: fates.into(), range: KeyRange::ALL };
                let found = find_locks(view, &request).unwrap().unwrap();
                assert_eq!(found.rest, None, "four keys are few");
                let outcome = resolve(view, &found.resolve).unwrap();
                let end = end_of(outcome.reply, |()| End::Ok);
                (outcome.batch, end, found.resolve.keys())
            }
            Step::ResolveKeys { txn, keys, commits } => {
                let keys = keys.iter().copied().map(key);
                let request = Resolve::keys_of(start_ts(*txn), self.fate(*txn, *commits), keys);
                let outcome = resolve(view, &request).unwrap();
                (outcome.batch, end_of(outcome.reply, |()| End::Ok), request.keys())
            }
            Step::Heartbeat { txn, key: position, ttl_ms } => {
                let request = Heartbeat {
                    primary: key(*position),
                    start_ts: start_ts(*txn),
                    advise_ttl_ms: *ttl_ms,
                };
                let outcome = heartbeat(view, &request).unwrap();
                (outcome.batch, end_of(outcome.reply, |_| End::Ok), request.keys())
            }
        }
    }

    fn fate(&self, txn: u64, commits: bool) -> Fate {
        match commits {
            true => Fate::Committed(commit_ts(txn, self.coincides)),
            false => Fate::RolledBack,
        }
    }

    fn expect(&mut self, step: &Step) -> End {
        let coincides = self.coincides;
        let committed = |end| match end {
            End::Committed(_) => End::Refused("abort"),
            end => end,
        };
        match step {
            Step::Prewrite { .. } => model_prewrite(&mut self.model, &prewrite_of(step)),
            Step::Commit { txn, keys } => {
                let keys = keys.iter().copied().map(key);
                all_or_none(&mut self.model, keys, |_, model| {
                    model.commit(start_ts(*txn), commit_ts(*txn, coincides))
                })
            }
            Step::Rollback { txn, keys } => {
                let keys = keys.iter().copied().map(key);
                committed(all_or_none(&mut self.model, keys, |key, model| {
                    model.roll_back(key, start_ts(*txn), false)
                }))
            }
            Step::CheckStatus { key: position, .. } => {
                let model = self.model.entry(key(*position)).or_default();
                model_check_status(model, &check_status_of(step))
            }
            Step::Cleanup { txn, key: position, now } => {
                let model = self.model.entry(key(*position)).or_default();
                if model.is_locked_by(start_ts(*txn)) && *now == ALIVE {
                    return End::Refused("locked");
                }
                match model.roll_back(&key(*position), start_ts(*txn), true) {
                    End::Ok => End::RolledBack,
                    end => end,
                }
            }
            Step::ResolveRegion { txn, commits } => {
                let txn_ts = start_ts(*txn);
                let locked = self.model.iter().filter(|(_, model)| model.is_locked_by(txn_ts));
                let keys: Vec<Key> = locked.map(|(key, _)| key.clone()).collect();
                self.expect_resolved(*txn, keys, *commits)
            }
            Step::ResolveKeys { txn, keys, commits } => {
                self.expect_resolved(*txn, keys.iter().copied().map(key).collect(), *commits)
            }
            Step::Heartbeat { txn, key: position, ttl_ms } => {
                let model = self.model.entry(key(*position)).or_default();
                match model.lock.as_mut() {
                    Some(lock) if lock.start_ts == start_ts(*txn) => {
                        lock.ttl_ms = lock.ttl_ms.max(*ttl_ms);
                        End::Ok
                    }
                    _ => End::Refused("not found"),
                }
            }
        }
    }

    fn expect_resolved(&mut self, txn: u64, keys: Vec<Key>, commits: bool) -> End {
        let coincides = self.coincides;
        let end = all_or_none(&mut self.model, keys, |key, model| match commits {
            true => model.commit(start_ts(txn), commit_ts(txn, coincides)),
            false => model.roll_back(key, start_ts(txn), false),
        });
        match end {
            End::Committed(_) => End::Refused("abort"),
            end => end,
        }
    }

    fn step(&mut self, step: &Step) -> End {
        let (batch, end, latched) = self.decide(&*self.engine.snapshot(), step);
        let expected = self.expect(step);
        assert!(agree(&expected, &end), "the model says {expected:?}, the rules {end:?}");
        if matches!(end, End::Refused(_)) {
            assert!(batch.is_empty(), "a refusal writes nothing");
        }
        for op in batch.ops() {
            let (BatchOp::Put { cf, key, .. } | BatchOp::Delete { cf, key }) = op else {
                panic!("no rule deletes a range");
            };
            let size = if cf == Cf::Lock { key.len() } else { key.len() - 8 };
            let is_latched = latched.iter().any(|latch| latch.as_bytes() == &key[..size]);
            assert!(is_latched, "a write outside the latched keys");
        }
        self.engine.write(&batch).unwrap();

        // The same again: the same end, and nothing left to change.
        let (again, same_end, _) = self.decide(&*self.engine.snapshot(), step);
        assert_eq!(same_end, end, "the second time");
        assert!(again.is_empty(), "the second time changes {again:?}");
        end
    }

    fn check(&self) {
        let view = self.engine.snapshot();
        self.check_locks(&*view);
        for ts in [12, 30, 33, 50, 1_000, u64::MAX].map(Timestamp) {
            self.check_reads(&*view, ts);
        }
    }

    fn check_locks(&self, view: &dyn Snapshot) {
        let request =
            ScanLock { max_version: Timestamp::MAX, range: KeyRange::ALL, limit: usize::MAX };
        let locks = scan_lock(view, &request).unwrap().into_iter();
        let found: Vec<_> = locks
            .map(|lock| (lock.key, lock.start_ts, lock.kind, lock.min_commit_ts, lock.ttl_ms))
            .collect();
        let expected: Vec<_> = self
            .model
            .iter()
            .filter_map(|(key, model)| Some((key, model.lock.as_ref()?)))
            .map(|(key, lock)| {
                (key.clone(), lock.start_ts, lock.kind, lock.min_commit_ts, lock.ttl_ms)
            })
            .collect();
        assert_eq!(found, expected, "locks");
    }

    fn check_reads(&self, view: &dyn Snapshot, ts: Timestamp) {
        let mut expected = Vec::new();
        for position in 0..KEYS {
            let key = key(position);
            let model = self.model.get(&key).cloned().unwrap_or_default();
            let seen = match model.blocks(&key, ts) {
                true => Some(Err(())),
                false => model.read(ts).map(Ok),
            };
            let request = Get { key: key.clone(), version: ts, rules: ReadRules::default() };
            let found = match get(view, &request).unwrap() {
                Ok(value) => value.map(Ok),
                Err(KeyError::Locked(_)) => Some(Err(())),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, seen, "get {} at {ts:?}", key.escaped());
            expected.extend(seen.map(|seen| (key, seen)));
        }
        for order in [Order::Forward, Order::Reverse] {
            let request = Scan {
                range: KeyRange::ALL,
                order,
                limit: usize::MAX,
                version: ts,
                key_only: false,
                sample_step: 0,
                rules: ReadRules::default(),
            };
            let pairs = scan(view, &request).unwrap().unwrap().into_iter();
            let found: Vec<_> = pairs
                .map(|pair| match pair {
                    Pair::Value { key, value } => (key, Ok(value)),
                    Pair::Locked(lock) => (lock.key, Err(())),
                })
                .collect();
            assert_eq!(found, expected, "scan {order:?} at {ts:?}");
            expected.reverse();
        }
    }
}

fn prewrite_of(step: &Step) -> Prewrite {
    let Step::Prewrite { txn, ops, promises } = step else {
        panic!("not a prewrite");
    };
    let mutation = |&(position, op): &(usize, u8)| {
        let key = key(position);
        let op = match op {
            0 | 1 => Op::Put(value(*txn, &key)),
            2 => Op::Delete,
            3 => Op::Lock,
            4 => Op::Insert(value(*txn, &key)),
            _ => Op::CheckNotExists,
        };
        Mutation { key, op, assertion: Assertion::None }
    };
    Prewrite {
        mutations: ops.iter().map(mutation).collect(),
        primary: primary(*txn),
        start_ts: start_ts(*txn),
        lock_ttl_ms: 3_000,
        txn_size: 3,
        min_commit_ts: match promises {
            true => start_ts(*txn).next(),
            false => Timestamp::ZERO,
        },
        assertion_level: AssertionLevel::Off,
        skip_constraint_check: false,
        for_update_ts: Timestamp::ZERO,
        pessimistic_actions: Vec::new(),
        use_async_commit: false,
        try_one_pc: false,
    }
}

fn check_status_of(step: &Step) -> CheckStatus {
    let Step::CheckStatus { txn, key: position, now, caller, rolls_back } = step else {
        panic!("not a status check");
    };
    CheckStatus {
        primary: key(*position),
        lock_ts: start_ts(*txn),
        caller_start_ts: *caller,
        current_ts: *now,
        rollback_if_not_exist: *rolls_back,
        force_sync_commit: false,
        resolving_pessimistic_lock: false,
        verify_is_primary: true,
    }
}

/// Covers the rules' half of 4B-latch-cover.
#[test]
fn every_interleaving_agrees_with_the_model() {
    let seen = RefCell::new(BTreeMap::<String, usize>::new());
    let config = Config { cases: 1_500, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |(coincides, steps)| {
        let mut world = World { engine: MemoryEngine::new(), model: Model::new(), coincides };
        for step in &steps {
            let end = world.step(step);
            world.check();
            let name = format!("{step:?}");
            let name = name.split(' ').next().unwrap_or_default();
            let end = match end {
                End::Committed(_) => "Committed".into(),
                end => format!("{end:?}"),
            };
            *seen.borrow_mut().entry(format!("{name} {end}")).or_default() += 1;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // A model that never meets the interesting ends proves nothing.
    let seen = seen.into_inner();
    for end in [
        "Prewrite Ok",
        "Prewrite Refused(\"locked\")",
        "Prewrite Refused(\"conflict\")",
        "Prewrite Refused(\"rolled back\")",
        "Prewrite Refused(\"exists\")",
        "Commit Ok",
        "Commit Refused(\"no lock\")",
        "Commit Refused(\"expired\")",
        "Rollback Ok",
        "Rollback Refused(\"abort\")",
        "CheckStatus RolledBack",
        "CheckStatus Committed",
        "CheckStatus Alive",
        "CheckStatus Refused(\"another primary\")",
        "CheckStatus Refused(\"not found\")",
        "Cleanup RolledBack",
        "Cleanup Committed",
        "Cleanup Refused(\"locked\")",
        "ResolveRegion Ok",
        "ResolveKeys Ok",
        "ResolveKeys Refused(\"no lock\")",
        "Heartbeat Ok",
    ] {
        let count = seen.get(end).copied().unwrap_or_default();
        assert!(count >= 5, "{end} came up {count} times only: {seen:#?}");
    }
}
