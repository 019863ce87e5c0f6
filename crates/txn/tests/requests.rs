//! What a request asks of the room above before a rule runs: latches, and max-ts raised.

use bytes::Bytes;
use kiva_base::fault::Assertion;
use kiva_base::{Key, KeyRange, Timestamp};
use kiva_engine::Order;
use kiva_txn::*;

const TS: Timestamp = Timestamp(7);
const MAX: Timestamp = Timestamp::MAX;

fn read_at(version: Timestamp) -> [Option<Timestamp>; 4] {
    let rules = ReadRules::default;
    [
        Get { key: Key::from("k"), version, rules: rules() }.max_ts(),
        BatchGet { keys: vec![Key::from("k")], version, rules: rules() }.max_ts(),
        Scan {
            range: KeyRange::ALL,
            order: Order::Forward,
            limit: 1,
            version,
            key_only: false,
            sample_step: 0,
            rules: rules(),
        }
        .max_ts(),
        ScanLock { max_version: version, range: KeyRange::ALL, limit: 1 }.max_ts(),
    ]
}

fn prewrite_of(ops: impl IntoIterator<Item = Op>, start_ts: Timestamp) -> Prewrite {
    let mutation = |op| Mutation { key: Key::from("k"), op, assertion: Assertion::None };
    Prewrite {
        mutations: ops.into_iter().map(mutation).collect(),
        primary: Key::from("p"),
        start_ts,
        lock_ttl_ms: 0,
        txn_size: 0,
        min_commit_ts: Timestamp::ZERO,
        assertion_level: AssertionLevel::Off,
        skip_constraint_check: false,
        for_update_ts: Timestamp::ZERO,
        pessimistic_actions: Vec::new(),
        use_async_commit: false,
        try_one_pc: false,
    }
}

#[test]
fn reads_raise_max_ts_to_their_timestamp_and_never_to_the_largest() {
    assert_eq!(read_at(TS), [Some(TS); 4]);
    assert_eq!(read_at(MAX), [None; 4]);
}

#[test]
fn a_prewrite_that_looks_for_a_value_is_a_read() {
    let value = Bytes::from("v");
    for op in [Op::Put(value.clone()), Op::Delete, Op::Lock] {
        assert_eq!(prewrite_of([op], TS).max_ts(), None);
    }
    for op in [Op::Insert(value), Op::CheckNotExists] {
        assert_eq!(prewrite_of([Op::Lock, op.clone()], TS).max_ts(), Some(TS));
        assert_eq!(prewrite_of([op], MAX).max_ts(), None);
    }
}

#[test]
fn a_status_check_raises_max_ts_to_the_largest_timestamp_it_names() {
    let max_ts = |lock_ts, caller_start_ts, current_ts| {
        CheckStatus {
            primary: Key::from("p"),
            lock_ts: Timestamp(lock_ts),
            caller_start_ts: Timestamp(caller_start_ts),
            current_ts: Timestamp(current_ts),
            rollback_if_not_exist: false,
            force_sync_commit: false,
            resolving_pessimistic_lock: false,
            verify_is_primary: true,
        }
        .max_ts()
    };
    assert_eq!(max_ts(3, 2, 1), Some(Timestamp(3)));
    assert_eq!(max_ts(1, 3, 2), Some(Timestamp(3)));
    assert_eq!(max_ts(1, 2, 3), Some(Timestamp(3)));
    assert_eq!(max_ts(1, u64::MAX, 3), Some(Timestamp(3)));
    assert_eq!(max_ts(1, u64::MAX, u64::MAX), Some(Timestamp(1)));
}

#[test]
fn a_cleanup_raises_max_ts_and_other_writes_do_not() {
    let keys = vec![Key::from("k")];
    let cleanup = Cleanup { key: Key::from("k"), start_ts: TS, current_ts: Timestamp(9) };
    assert_eq!(cleanup.max_ts(), Some(TS));
    let commit = Commit { keys: keys.clone(), start_ts: TS, commit_ts: Timestamp(9) };
    assert_eq!(commit.max_ts(), None);
    let rollback = Rollback { keys: keys.clone(), start_ts: TS };
    assert_eq!(rollback.max_ts(), None);
    assert_eq!(Resolve::keys_of(TS, Fate::RolledBack, keys).max_ts(), None);
    let heartbeat = Heartbeat { primary: Key::from("k"), start_ts: TS, advise_ttl_ms: 1 };
    assert_eq!(heartbeat.max_ts(), None);
}

#[test]
fn the_wires_zero_means_rolled_back() {
    assert_eq!(Fate::from_commit_version(Timestamp::ZERO), Fate::RolledBack);
    assert_eq!(Fate::from_commit_version(TS), Fate::Committed(TS));
}
