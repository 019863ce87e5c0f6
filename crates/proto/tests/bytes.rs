//! Whole messages against bytes written by hand.
//!
//! Each byte string is what another implementation of the protocol puts on the wire. A field is a
//! varint of `number << 3 | kind`, kind 0 for numbers and 2 for anything with a length.

use std::fmt::Debug;

use bytes::Bytes;
use kiva_proto::{errorpb, kvrpcpb, metapb, pdpb, tikvpb};
use prost::Message;

/// Both ways: the message gives these bytes, and the bytes give the message.
#[track_caller]
fn same<M: Message + Default + PartialEq + Debug>(message: M, wire: &[u8]) {
    assert_eq!(message.encode_to_vec(), wire);
    assert_eq!(M::decode(wire).expect("decodes"), message);
}

fn region() -> metapb::Region {
    metapb::Region {
        id: 2,
        start_key: Bytes::from_static(b"a"),
        end_key: Bytes::from_static(b"m"),
        region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 5 }),
        peers: vec![metapb::Peer { id: 3, store_id: 1, ..Default::default() }],
        ..Default::default()
    }
}

/// `region()` without the tag and length it has inside another message.
const REGION: &[u8] = b"\x08\x02\x12\x01a\x1a\x01m\x22\x04\x08\x01\x10\x05\x2a\x04\x08\x03\x10\x01";

#[test]
fn context_as_the_rust_client_fills_it() {
    let context = kvrpcpb::Context {
        region_id: 2,
        region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 5 }),
        peer: Some(metapb::Peer { id: 3, store_id: 1, ..Default::default() }),
        api_version: kvrpcpb::ApiVersion::V2.into(),
        ..Default::default()
    };
    // 21 << 3 = 168, a varint of two bytes: A8 01.
    same(context, b"\x08\x02\x12\x04\x08\x01\x10\x05\x1a\x04\x08\x03\x10\x01\xa8\x01\x02");
}

#[test]
fn context_with_high_numbers_and_lists() {
    let context = kvrpcpb::Context {
        term: 7,
        replica_read: true,
        resolved_locks: vec![1, 300],
        stale_read: true,
        committed_locks: vec![2],
        keyspace_id: u32::MAX,
        cluster_id: 1,
        ..Default::default()
    };
    let wire = b"\x28\x07\x60\x01\x6a\x03\x01\xac\x02\x88\x01\x01\xb2\x01\x01\x02\
        \x80\x02\xff\xff\xff\xff\x0f\x98\x02\x01";
    same(context, wire);
}

#[test]
fn lists_of_numbers_are_accepted_in_both_forms() {
    // Field 13 twice, each number with a tag of its own, as old encoders write it.
    let context = kvrpcpb::Context::decode(&b"\x68\x01\x68\xac\x02"[..]).expect("decodes");
    assert_eq!(context.resolved_locks, [1, 300]);
}

#[test]
fn not_leader_with_and_without_a_hint() {
    let not_leader = |leader| errorpb::Error {
        message: "no".to_owned(),
        not_leader: Some(errorpb::NotLeader { region_id: 2, leader }),
        ..Default::default()
    };
    same(not_leader(None), b"\x0a\x02no\x12\x02\x08\x02");
    let peer = metapb::Peer { id: 3, store_id: 1, ..Default::default() };
    same(not_leader(Some(peer)), b"\x0a\x02no\x12\x08\x08\x02\x12\x04\x08\x03\x10\x01");
}

#[test]
fn epoch_not_match_carries_whole_regions() {
    let error = errorpb::Error {
        epoch_not_match: Some(errorpb::EpochNotMatch { current_regions: vec![region()] }),
        ..Default::default()
    };
    let length = REGION.len() as u8;
    same(error, &[&[0x2a, length + 2, 0x0a, length], REGION].concat());
}

#[test]
fn an_error_without_payload_is_still_present() {
    let error = errorpb::Error {
        stale_command: Some(errorpb::StaleCommand {}),
        undetermined_result: Some(errorpb::UndeterminedResult { message: "?".to_owned() }),
        ..Default::default()
    };
    same(error, b"\x3a\x00\xb2\x01\x03\x0a\x01?");
}

#[test]
fn key_error_with_a_full_lock() {
    let lock = kvrpcpb::LockInfo {
        primary_lock: Bytes::from_static(b"p"),
        lock_version: 10,
        key: Bytes::from_static(b"k"),
        lock_ttl: 3000,
        txn_size: 2,
        lock_type: kvrpcpb::Op::PessimisticLock.into(),
        lock_for_update_ts: 11,
        use_async_commit: true,
        min_commit_ts: 12,
        secondaries: vec![Bytes::from_static(b"s"), Bytes::new()],
        duration_to_last_update_ms: 5,
    };
    let wire = b"\x0a\x01p\x10\x0a\x1a\x01k\x20\xb8\x17\x28\x02\x30\x05\x38\x0b\x40\x01\x48\x0c\
        \x52\x01s\x52\x00\x58\x05";
    same(lock.clone(), wire);
    let error = kvrpcpb::KeyError { locked: Some(lock), ..Default::default() };
    same(error, &[&[0x0a, wire.len() as u8], &wire[..]].concat());
}

#[test]
fn key_errors_that_travel_in_pairs() {
    let error = kvrpcpb::KeyError {
        retryable: "r".to_owned(),
        txn_lock_not_found: Some(kvrpcpb::TxnLockNotFound { key: Bytes::from_static(b"k") }),
        ..Default::default()
    };
    same(error, b"\x12\x01r\x62\x03\x0a\x01k");
}

#[test]
fn prewrite_request_with_everything_asked_for() {
    let request = kvrpcpb::PrewriteRequest {
        context: Some(kvrpcpb::Context::default()),
        mutations: vec![kvrpcpb::Mutation {
            op: kvrpcpb::Op::Insert.into(),
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            assertion: kvrpcpb::Assertion::NotExist.into(),
        }],
        primary_lock: Bytes::from_static(b"k"),
        start_version: 10,
        lock_ttl: 3,
        skip_constraint_check: true,
        pessimistic_actions: vec![1, 2],
        txn_size: u64::MAX,
        for_update_ts: 11,
        min_commit_ts: 12,
        use_async_commit: true,
        secondaries: vec![Bytes::from_static(b"s")],
        try_one_pc: true,
        max_commit_ts: 13,
        assertion_level: kvrpcpb::AssertionLevel::Strict.into(),
        for_update_ts_constraints: vec![kvrpcpb::prewrite_request::ForUpdateTsConstraint {
            index: 1,
            expected_for_update_ts: 9,
        }],
    };
    let wire = b"\x0a\x00\x12\x0a\x08\x04\x12\x01k\x1a\x01v\x20\x02\x1a\x01k\x20\x0a\x28\x03\
        \x30\x01\x3a\x02\x01\x02\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x48\x0b\x50\x0c\
        \x58\x01\x62\x01s\x68\x01\x70\x0d\x78\x02\x82\x01\x04\x08\x01\x10\x09";
    same(request, wire);
}

#[test]
fn prewrite_response_of_either_outcome() {
    let done =
        kvrpcpb::PrewriteResponse { min_commit_ts: 12, one_pc_commit_ts: 13, ..Default::default() };
    same(done, b"\x18\x0c\x20\x0d");
    let abort = kvrpcpb::KeyError { abort: "no".to_owned(), ..Default::default() };
    let failed = kvrpcpb::PrewriteResponse { errors: vec![abort], ..Default::default() };
    same(failed, b"\x12\x04\x1a\x02no");
}

#[test]
fn an_empty_value_and_no_value_differ_by_not_found_alone() {
    same(kvrpcpb::RawGetResponse::default(), b"");
    same(kvrpcpb::RawGetResponse { not_found: true, ..Default::default() }, b"\x20\x01");
}

#[test]
fn wait_timeouts_below_zero_take_ten_bytes() {
    let request = kvrpcpb::PessimisticLockRequest { wait_timeout: -1, ..Default::default() };
    same(request, b"\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
}

#[test]
fn batch_commands_of_one_and_two_byte_tags() {
    use tikvpb::batch_commands_request::{Request, request::Cmd};
    let get = kvrpcpb::RawGetRequest { key: Bytes::from_static(b"k"), ..Default::default() };
    let empty = tikvpb::BatchCommandsEmptyRequest { test_id: 1, delay_time: 2 };
    let secondaries = kvrpcpb::CheckSecondaryLocksRequest::default();
    let batch = tikvpb::BatchCommandsRequest {
        requests: vec![
            Request { cmd: Some(Cmd::RawGet(get)) },
            Request { cmd: Some(Cmd::CheckSecondaryLocks(secondaries)) },
            Request { cmd: Some(Cmd::Empty(empty)) },
            Request { cmd: None },
        ],
        request_ids: vec![1, 2, 3, 4],
    };
    let wire = b"\x0a\x05\x6a\x03\x12\x01k\x0a\x03\x8a\x02\x00\x0a\x07\xfa\x0f\x04\x08\x01\x10\x02\
        \x0a\x00\x12\x04\x01\x02\x03\x04";
    same(batch, wire);
}

#[test]
fn an_unknown_command_of_a_batch_decodes_as_none() {
    use tikvpb::batch_commands_request::Request;
    // Tag 41, which no command has, beside a command nobody takes offence at.
    let batch = tikvpb::BatchCommandsRequest::decode(&b"\x0a\x03\xca\x02\x00\x12\x01\x07"[..]);
    let batch = batch.expect("decodes");
    assert_eq!(batch.requests, [Request { cmd: None }]);
    assert_eq!(batch.request_ids, [7]);
}

#[test]
fn batch_responses_carry_their_ids_and_the_load() {
    use tikvpb::batch_commands_response::{Response, response::Cmd};
    let commit = kvrpcpb::CommitResponse { commit_version: 9, ..Default::default() };
    let batch = tikvpb::BatchCommandsResponse {
        responses: vec![Response { cmd: Some(Cmd::Commit(commit)) }],
        request_ids: vec![7],
        transport_layer_load: 5,
        health_feedback: None,
    };
    same(batch, b"\x0a\x04\x22\x02\x18\x09\x12\x01\x07\x18\x05");
}

#[test]
fn timestamps_of_the_scheduler() {
    let request = pdpb::TsoRequest {
        header: Some(pdpb::RequestHeader { cluster_id: 6, ..Default::default() }),
        count: 64,
        ..Default::default()
    };
    same(request, b"\x0a\x02\x08\x06\x10\x40");
    let response = pdpb::TsoResponse {
        header: Some(pdpb::ResponseHeader { cluster_id: 6, error: None }),
        count: 64,
        timestamp: Some(pdpb::Timestamp { physical: 300, logical: 63, suffix_bits: 0 }),
    };
    same(response, b"\x0a\x02\x08\x06\x10\x40\x1a\x05\x08\xac\x02\x10\x3f");
}

#[test]
fn region_answers_of_the_scheduler() {
    let peer = metapb::Peer { id: 3, store_id: 1, ..Default::default() };
    let response = pdpb::GetRegionResponse {
        header: Some(pdpb::ResponseHeader { cluster_id: 6, error: None }),
        region: Some(region()),
        leader: Some(peer),
        down_peers: vec![pdpb::PeerStats { peer: Some(peer), down_seconds: 1 }],
        pending_peers: vec![peer],
    };
    let region = [&[0x12, REGION.len() as u8], REGION].concat();
    let wire = [
        b"\x0a\x02\x08\x06",
        &region[..],
        b"\x1a\x04\x08\x03\x10\x01\x2a\x08\x0a\x04\x08\x03\x10\x01\x10\x01\x32\x04\x08\x03\x10\x01",
    ];
    same(response, &wire.concat());
}

#[test]
fn a_region_list_without_leaders_keeps_their_places() {
    let response = pdpb::ScanRegionsResponse {
        header: Some(pdpb::ResponseHeader { cluster_id: 6, error: None }),
        leaders: vec![metapb::Peer::default(); 2],
        ..Default::default()
    };
    same(response, b"\x0a\x02\x08\x06\x1a\x00\x1a\x00");
}

#[test]
fn an_unknown_store_is_an_error_in_the_header() {
    let error = pdpb::Error { r#type: pdpb::ErrorType::Unknown.into(), message: "no".to_owned() };
    let response = pdpb::GetStoreResponse {
        header: Some(pdpb::ResponseHeader { cluster_id: 6, error: Some(error) }),
        ..Default::default()
    };
    same(response, b"\x0a\x0a\x08\x06\x12\x06\x08\x01\x12\x02no");
}

#[test]
fn fields_of_newer_clients_are_passed_over() {
    // A get with a flag at 100, and a context with an identity at 38.
    let request = kvrpcpb::GetRequest::decode(&b"\x0a\x05\xb2\x02\x02ab\x12\x01k\xa0\x06\x01"[..]);
    let expected = kvrpcpb::GetRequest {
        context: Some(kvrpcpb::Context::default()),
        key: Bytes::from_static(b"k"),
        ..Default::default()
    };
    assert_eq!(request.expect("decodes"), expected);
}

#[test]
fn a_value_is_a_slice_of_the_frame_it_came_in() {
    let frame = Bytes::from_static(b"\x1a\x05value");
    let response = kvrpcpb::RawGetResponse::decode(frame.clone()).expect("decodes");
    assert_eq!(response.value.as_ptr(), frame.slice(2..).as_ptr());
}
