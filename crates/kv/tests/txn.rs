//! Transactions on one store: what the rules need from the request path around them.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kiva_base::fault::KeyError;
use kiva_base::{Key, KeyRange, Timestamp};
use kiva_engine::Order;
use kiva_kv::{ApiVersion, Command, Write};
use kiva_txn::{
    CheckStatus, Cleanup, Commit, Fate, FindLocks, Get, Heartbeat, Mutation, Op, Pair, Prewrite,
    ReadRules, Resolve, Rollback, Scan, TxnStatus,
};
use support::{Store, block_on};

fn prewrite(pairs: &[(&str, &str)], start_ts: u64) -> Prewrite {
    let key = |key: &str| Key(key.to_owned().into());
    let mutation = |(name, value): &(&str, &str)| Mutation {
        key: key(name),
        op: Op::Put(value.to_string().into()),
        assertion: Default::default(),
    };
    Prewrite {
        mutations: pairs.iter().map(mutation).collect(),
        primary: key(pairs[0].0),
        start_ts: Timestamp(start_ts),
        lock_ttl_ms: 3_000,
        txn_size: pairs.len() as u64,
        min_commit_ts: Default::default(),
        assertion_level: Default::default(),
        skip_constraint_check: false,
        for_update_ts: Default::default(),
        pessimistic_actions: vec![],
        use_async_commit: false,
        try_one_pc: false,
    }
}

fn write<C: Write>(store: &Store, command: C) -> C::Reply {
    block_on(store.executor.write(&store.target, command)).expect("the store works")
}

fn commit(keys: &[&str], start_ts: u64, commit_ts: u64) -> Commit {
    Commit {
        keys: keys.iter().map(|key| Key(key.to_string().into())).collect(),
        start_ts: Timestamp(start_ts),
        commit_ts: Timestamp(commit_ts),
    }
}

fn get(store: &Store, key: &'static str, version: u64) -> Result<Option<Bytes>, KeyError> {
    let command = Get { key: key.into(), version: Timestamp(version), rules: ReadRules::default() };
    block_on(store.executor.read(&store.target, command)).expect("the store works")
}

fn scan(store: &Store, order: Order, limit: usize, version: u64) -> String {
    let command = Scan {
        range: KeyRange::ALL,
        order,
        limit,
        version: Timestamp(version),
        key_only: false,
        sample_step: 0,
        rules: ReadRules::default(),
    };
    let pairs = block_on(store.executor.read(&store.target, command)).expect("the store works");
    let text = |pair: &Pair| match pair {
        Pair::Value { key, value } => format!("{}={}", key.escaped(), value.escape_ascii()),
        Pair::Locked(lock) => format!("{} locked @{}", lock.key.escaped(), lock.start_ts),
    };
    pairs.expect("no refusal").iter().map(text).collect::<Vec<_>>().join(" ")
}

/// Covers 4B-concurrent-conflict: no increment is lost, because between a prewrite's look and its
/// lock nobody else gets in.
#[test]
fn fifty_clients_increment_one_counter() {
    let store = Store::new();
    let clock = AtomicU64::new(1);
    let now = || clock.fetch_add(1, Ordering::SeqCst);
    let committed = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for _ in 0..50 {
            threads.spawn(|| {
                for _ in 0..20 {
                    let start = now();
                    let Ok(seen) = get(&store, "n", start) else { continue };
                    let seen = seen.map_or(0, |text| {
                        std::str::from_utf8(&text).unwrap().parse::<u64>().unwrap()
                    });
                    let next = (seen + 1).to_string();
                    if write(&store, prewrite(&[("n", &next)], start)).is_ok() {
                        write(&store, commit(&["n"], start, now())).expect("it holds the lock");
                        committed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let committed = committed.into_inner();
    assert!(committed > 0);
    let last = get(&store, "n", now()).expect("nobody holds a lock").expect("a number");
    assert_eq!(last, Bytes::from(committed.to_string()));
}

/// Covers 4C-status-vs-commit: of a commit and a status check that would roll it back exactly one
/// wins, and both are told the same.
#[test]
fn a_status_check_and_a_commit_agree_on_who_won() {
    let store = Store::new();
    let mut wins = BTreeMap::new();
    for round in 1..=10_000_u64 {
        let start = round * 10;
        write(&store, prewrite(&[("p", "v")], start)).expect("the key is free");
        let check = CheckStatus {
            primary: "p".into(),
            lock_ts: Timestamp(start),
            caller_start_ts: Timestamp(0),
            // Long after the lock's time is over.
            current_ts: Timestamp::new(10_000_000, 0),
            rollback_if_not_exist: true,
            force_sync_commit: false,
            resolving_pessimistic_lock: false,
            verify_is_primary: true,
        };
        let commit = commit(&["p"], start, start + 5);
        // Both are on their way at once; which one enters its queue first alternates.
        let (committed, status) = block_on(async {
            let (commit, check) = (
                store.executor.write(&store.target, commit),
                store.executor.write(&store.target, check),
            );
            match round % 2 {
                0 => futures_util::join!(commit, check),
                _ => {
                    let (check, commit) = futures_util::join!(check, commit);
                    (commit, check)
                }
            }
        });
        let committed = committed.expect("the store works").is_ok();
        match status.expect("the store works").expect("no refusal") {
            TxnStatus::Committed { commit_ts } => {
                assert!(committed);
                assert_eq!(commit_ts, Timestamp(start + 5));
            }
            TxnStatus::RolledBack { .. } => assert!(!committed),
            TxnStatus::Alive { .. } => panic!("its time is over"),
        }
        let value = get(&store, "p", start + 5).expect("no lock is left");
        assert!(!committed || value.is_some());
        *wins.entry(committed).or_insert(0) += 1;
    }
    assert_eq!(wins.len(), 2, "each side wins sometimes: {wins:?}");
}

/// Covers 4C-scan-snapshot: two pages of one scan belong together although others commit between
/// them.
#[test]
fn the_pages_of_a_scan_are_one_snapshot() {
    let store = Store::new();
    let put = |pairs: &[(&str, &str)], start| {
        write(&store, prewrite(pairs, start)).expect("no conflict");
        let keys: Vec<_> = pairs.iter().map(|(key, _)| *key).collect();
        write(&store, commit(&keys, start, start + 1)).expect("prewritten");
    };
    put(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")], 10);
    assert_eq!(scan(&store, Order::Forward, 2, 20), "a=1 b=1");
    put(&[("a", "2"), ("c", "2"), ("cc", "2")], 20);
    let second = Scan {
        range: KeyRange::new(Key::from("b\0").encode().0, "").unwrap(),
        order: Order::Forward,
        limit: 10,
        version: Timestamp(20),
        key_only: true,
        sample_step: 0,
        rules: ReadRules::default(),
    };
    let pairs = block_on(store.executor.read(&store.target, second)).unwrap().unwrap();
    assert_eq!(pairs.len(), 2, "c and d as they were: {pairs:?}");
    assert_eq!(scan(&store, Order::Reverse, 2, 20), "d=1 c=1");
    assert_eq!(scan(&store, Order::Forward, 9, 22), "a=2 b=1 c=2 cc=2 d=1");
}

/// Covers 4C-scan-region-end.
#[test]
fn a_scan_ends_with_its_region() {
    let bound = |key: &'static str| Key::from(key).encode().0;
    let engine = kiva_engine::memory::MemoryEngine::new();
    let whole = Store::on(engine.clone(), ApiVersion::V1, KeyRange::ALL);
    write(&whole, prewrite(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")], 10)).unwrap();
    write(&whole, commit(&["a", "b", "c", "d"], 10, 11)).unwrap();
    let range = KeyRange::new(bound("b"), bound("d")).unwrap();
    let store = Store::on(engine, ApiVersion::V1, range);
    assert_eq!(scan(&store, Order::Forward, 10, 20), "b=1 c=1");
    assert_eq!(scan(&store, Order::Reverse, 10, 20), "c=1 b=1");
}

/// Covers 4B-latch-cover: whatever a command writes, it holds the latch of.
#[test]
fn every_write_is_under_a_latch_of_its_command() {
    fn check<C: Write>(store: &Store, command: C) {
        let latched: Vec<_> = command.latches(ApiVersion::V1);
        let snapshot = kiva_engine::Engine::snapshot(&store.engine);
        let range = KeyRange::ALL;
        let view =
            kiva_kv::View { snapshot: &*snapshot, range: &range, api: ApiVersion::V1, now_s: 0 };
        let outcome = command.decide(&view).expect("memory");
        assert!(!outcome.batch.is_empty(), "this command was chosen because it writes");
        for op in outcome.batch.ops() {
            let key = match op {
                kiva_engine::Op::Put { key, .. } | kiva_engine::Op::Delete { key, .. } => key,
                kiva_engine::Op::DeleteRange { .. } => panic!("no command on keys deletes ranges"),
            };
            let covered = latched.iter().any(|latch| key.starts_with(latch.as_bytes()));
            assert!(covered, "{} writes outside its latches", std::any::type_name::<C>());
        }
        let _: C::Reply = write(store, command);
    }
    fn status(primary: &'static str, lock_ts: u64) -> CheckStatus {
        CheckStatus {
            primary: primary.into(),
            lock_ts: Timestamp(lock_ts),
            caller_start_ts: Timestamp(0),
            current_ts: Timestamp::new(u64::MAX >> 18, 0),
            rollback_if_not_exist: true,
            force_sync_commit: false,
            resolving_pessimistic_lock: false,
            verify_is_primary: true,
        }
    }

    let long = "v".repeat(1_000);
    let store = Store::new();
    check(&store, prewrite(&[("a", "short"), ("b", &long)], 10));
    let heartbeat =
        Heartbeat { primary: "a".into(), start_ts: Timestamp(10), advise_ttl_ms: 60_000 };
    check(&store, heartbeat);
    check(&store, commit(&["a", "b"], 10, 11));
    check(&store, Rollback { keys: vec!["a".into()], start_ts: Timestamp(20) });
    check(&store, status("b", 20));
    check(&store, prewrite(&[("c", &long)], 30));
    check(&store, status("c", 30));
    check(&store, prewrite(&[("c", &long)], 40));
    let keys = [Key::from("c")];
    check(&store, Resolve::keys_of(Timestamp(40), Fate::Committed(Timestamp(41)), keys));
    check(&store, prewrite(&[("c", &long)], 50));
    let cleanup = Cleanup { key: "c".into(), start_ts: Timestamp(50), current_ts: Timestamp(0) };
    check(&store, cleanup);
}

#[test]
fn all_locks_of_a_region_are_resolved_in_pieces() {
    let store = Store::new();
    let names: Vec<_> = (0..2_000).map(|i| format!("k{i:05}")).collect();
    for (ts, from) in [(10, 0), (20, 1)] {
        let pairs: Vec<_> =
            names.iter().skip(from).step_by(2).map(|name| (name.as_str(), "v")).collect();
        write(&store, prewrite(&pairs, ts)).expect("all free");
    }
    let fates = [(Timestamp(10), Fate::Committed(Timestamp(15)))].into();
    let find = FindLocks { fates, range: KeyRange::ALL };
    block_on(store.executor.resolve_region(&store.target, find)).unwrap().unwrap();
    let left = scan(&store, Order::Forward, 10_000, 30);
    assert_eq!(left.matches("=v").count(), 1_000, "committed");
    assert_eq!(left.matches("locked @20").count(), 1_000, "somebody else's");
}

#[test]
fn a_value_above_the_limit_is_refused_before_anything_is_locked() {
    let store = Store::new();
    let value = "v".repeat(kiva_kv::limits::VALUE_SIZE_MAX + 1);
    let command = prewrite(&[("a", "v"), ("b", &value)], 10);
    let error = block_on(store.executor.write(&store.target, command)).expect_err("too long");
    assert!(error.to_string().contains("limit of 6291456 bytes"), "{error}");
    assert_eq!(scan(&store, Order::Forward, 10, 20), "");
}

#[test]
fn a_read_raises_max_ts_before_it_looks() {
    let read = Get { key: "k".into(), version: Timestamp(7), rules: ReadRules::default() };
    assert_eq!(Command::max_ts(&read), Some(Timestamp(7)));
    let newest = Get { version: Timestamp::MAX, ..read };
    assert_eq!(Command::max_ts(&newest), None);
}
