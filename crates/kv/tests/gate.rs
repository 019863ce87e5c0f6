//! What a request must get right before it is executed, and what happens to proposals whose callers
//! go away.

mod support;

use std::time::Duration;

use futures_util::FutureExt;
use kiva_base::{Clock, Epoch, KeyRange, RegionError, fault};
use kiva_engine::Cf;
use kiva_kv::raw::{Delete, Get, Put, PutPair};
use kiva_kv::{ApiVersion, Error, Target};
use kiva_txn::{Mutation, Op, Prewrite};
use support::{Store, block_on, stored};

fn read(store: &Store, target: &Target) -> Result<(), RegionError> {
    let command = Get { cf: Cf::Default, key: "k".into() };
    match block_on(store.executor.read(target, command)) {
        Ok(_) => Ok(()),
        Err(Error::Region(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// Covers 4B-region-error: the checks come in the order of the protocol, so each of these targets
/// is wrong in everything that is checked later, too.
#[test]
fn a_wrong_belief_is_answered_with_the_first_thing_that_is_wrong() {
    let store = Store::new();
    let good = store.target.clone();
    assert_eq!(read(&store, &good), Ok(()));

    let epoch = |version| Some(Epoch { conf_ver: 9, version });
    let mut target = Target { store: 9, region: 9, peer: 9, epoch: epoch(4), ..good.clone() };
    assert!(matches!(read(&store, &target), Err(RegionError::StoreNotMatch { requested: 9, .. })));
    target.store = 1;
    assert_eq!(read(&store, &target), Err(RegionError::RegionNotFound { region: 9 }));
    target.region = 2;
    assert!(matches!(read(&store, &target), Err(RegionError::MismatchPeerId { requested: 9, .. })));
    target.peer = 3;
    for version in [4, 6] {
        target.epoch = epoch(version);
        let Err(RegionError::EpochNotMatch { current }) = read(&store, &target) else {
            panic!("an epoch behind or ahead is refused");
        };
        assert_eq!(current[0].epoch.version, 5, "the current one is told");
    }
    target.epoch = None;
    assert!(matches!(read(&store, &target), Err(RegionError::Other(_))));
    target.epoch = epoch(5);
    assert_eq!(read(&store, &target), Ok(()), "data requests look at the version only");
    let missing = Target { region: 0, ..good };
    assert_eq!(read(&store, &missing), Err(RegionError::RegionNotFound { region: 0 }));
}

#[test]
fn a_deadline_that_has_passed_is_said_in_the_words_clients_look_for() {
    let store = Store::new();
    let now = store.clock.now();
    let late = Target { deadline: Some(now + Duration::from_secs(1)), ..store.target.clone() };
    assert_eq!(read(&store, &late), Ok(()));
    store.clock.advance_s(2);
    let Err(RegionError::ServerIsBusy { reason }) = read(&store, &late) else {
        panic!("too late");
    };
    assert_eq!(reason, fault::DEADLINE_EXCEEDED);
}

/// Covers 4B-key-not-in-region.
#[test]
fn a_mutation_outside_the_region_writes_nothing() {
    let store = Store::with(ApiVersion::V1, KeyRange::new("b", "d").unwrap());
    let mutation = |key: &'static str| Mutation {
        key: key.into(),
        op: Op::Put("v".into()),
        assertion: Default::default(),
    };
    let prewrite = Prewrite {
        mutations: vec![mutation("c"), mutation("z")],
        primary: "c".into(),
        start_ts: kiva_base::Timestamp(5),
        lock_ttl_ms: 1,
        txn_size: 2,
        min_commit_ts: Default::default(),
        assertion_level: Default::default(),
        skip_constraint_check: false,
        for_update_ts: Default::default(),
        pessimistic_actions: vec![],
        use_async_commit: false,
        try_one_pc: false,
    };
    let error = block_on(store.executor.write(&store.target, prewrite)).expect_err("outside");
    let Error::Region(RegionError::KeyNotInRegion { key, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(key, kiva_base::Key::from("z").encode().0, "in the form of boundaries");
    let lock = kiva_base::Key::from("c").encode();
    assert_eq!(stored(&store.engine, Cf::Lock, lock.as_bytes()), None);

    let delete = Delete { cf: Cf::Default, keys: vec!["c".into(), "a".into()] };
    assert!(block_on(store.executor.write(&store.target, delete)).is_err());
    // The latches of what was refused are free: this would wait for ever.
    store.put("c", "v");
}

/// A caller that hangs up after its write was proposed neither undoes it nor lets others in early.
#[test]
fn hanging_up_takes_nothing_back() {
    let store = Store::new();
    for round in 0..200 {
        let pairs = vec![PutPair { key: "k".into(), value: format!("{round}").into(), ttl_s: 0 }];
        let put = store.executor.write(&store.target, Put { cf: Cf::Default, pairs });
        // One poll proposes it; the answer is dropped.
        let _ = put.now_or_never();
        let swap = kiva_kv::raw::CompareAndSwap {
            cf: Cf::Default,
            key: "k".into(),
            expected: Some(format!("{round}").into()),
            value: "swapped".into(),
            ttl_s: 0,
        };
        let reply = block_on(store.executor.write(&store.target, swap)).unwrap();
        assert!(reply.succeeded, "the latch was released before the put could be seen");
    }
}

#[test]
fn a_store_that_stops_answers_what_it_took_and_refuses_the_rest() {
    let store = Store::new();
    let pairs = |key: &'static str| vec![PutPair { key: key.into(), value: "v".into(), ttl_s: 0 }];
    let taken = Put { cf: Cf::Default, pairs: pairs("taken") };
    let mut taken = Box::pin(store.executor.write(&store.target, taken));
    let answer = (&mut taken).now_or_never();
    drop(store.threads);
    if answer.is_none() {
        block_on(taken).expect("it was proposed before the store stopped");
    }
    let late = Put { cf: Cf::Default, pairs: pairs("late") };
    let error = block_on(store.executor.write(&store.target, late)).expect_err("stopped");
    assert!(matches!(error, Error::Region(RegionError::Other(_))), "{error}");
    assert!(stored(&store.engine, Cf::Default, b"taken").is_some());
    assert!(stored(&store.engine, Cf::Default, b"late").is_none());
    assert_eq!(store.engine.unsynced(), 0);
}
