//! Bytes from anywhere never panic a decoder.
//!
//! A frame that decodes at all must survive another round: what a server understood is what it
//! would pass on.

use std::fmt::Debug;

use bytes::Bytes;
use kiva_proto::{coprocessor, keyspacepb, kvrpcpb, pdpb, tikvpb};
use proptest::prelude::*;
use prost::Message;

/// Decodes `frame` as one type; true if it was accepted.
fn accepts<M: Message + Default + PartialEq + Debug>(frame: &[u8]) -> bool {
    let Ok(message) = M::decode(frame) else {
        return false;
    };
    let again = M::decode(&*message.encode_to_vec()).expect("what we encode decodes");
    assert_eq!(again, message);
    true
}

/// The frame as each message that a server decodes: all batched commands, and the widest of the
/// others.
fn decode_all(frame: &[u8]) -> usize {
    let decoders: [fn(&[u8]) -> bool; 14] = [
        accepts::<tikvpb::BatchCommandsRequest>,
        accepts::<tikvpb::BatchCommandsResponse>,
        accepts::<coprocessor::Request>,
        accepts::<kvrpcpb::PrewriteRequest>,
        accepts::<kvrpcpb::PessimisticLockRequest>,
        accepts::<kvrpcpb::ResolveLockRequest>,
        accepts::<kvrpcpb::RawBatchPutRequest>,
        accepts::<kvrpcpb::RawCasRequest>,
        accepts::<kvrpcpb::RawChecksumRequest>,
        accepts::<pdpb::GetMembersRequest>,
        accepts::<pdpb::BootstrapRequest>,
        accepts::<pdpb::RegionHeartbeatRequest>,
        accepts::<pdpb::TsoRequest>,
        accepts::<keyspacepb::LoadKeyspaceRequest>,
    ];
    decoders.iter().filter(|decode| decode(frame)).count()
}

/// A batch with something at every depth, for mutations to hit.
fn valid_frame() -> Vec<u8> {
    use tikvpb::batch_commands_request::{Request, request::Cmd};
    let context = kvrpcpb::Context {
        region_id: 2,
        region_epoch: Some(Default::default()),
        peer: Some(Default::default()),
        resolved_locks: vec![1, u64::MAX],
        request_source: "test".to_owned(),
        ..Default::default()
    };
    let key = Bytes::from_static(b"key");
    let prewrite = kvrpcpb::PrewriteRequest {
        context: Some(context.clone()),
        mutations: vec![kvrpcpb::Mutation { key: key.clone(), ..Default::default() }; 3],
        primary_lock: key.clone(),
        start_version: u64::MAX,
        secondaries: vec![key.clone(); 3],
        pessimistic_actions: vec![0, 1, 2],
        ..Default::default()
    };
    let pair = kvrpcpb::KvPair { key: key.clone(), value: key.clone(), ..Default::default() };
    let put = kvrpcpb::RawBatchPutRequest {
        context: Some(context),
        pairs: vec![pair; 3],
        cf: "default".to_owned(),
        ttls: vec![0, 1, 2],
        ..Default::default()
    };
    let commands = [Cmd::Prewrite(prewrite), Cmd::RawBatchPut(put)];
    let batch = tikvpb::BatchCommandsRequest {
        requests: commands.into_iter().map(|cmd| Request { cmd: Some(cmd) }).collect(),
        request_ids: vec![1, 2],
    };
    batch.encode_to_vec()
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_message() {
    let frame = valid_frame();
    assert!(accepts::<tikvpb::BatchCommandsRequest>(&frame));
    let accepted = (0..frame.len())
        .filter(|&length| {
            decode_all(&frame[..length]);
            accepts::<tikvpb::BatchCommandsRequest>(&frame[..length])
        })
        .count();
    // Only the cuts between top-level fields: nothing, one request, both of them.
    assert_eq!(accepted, 3);
}

#[test]
fn absurd_lengths_are_refused_without_memory() {
    // A key, a message and a list that claim 4 GiB and 16 EiB in a frame of a few bytes.
    for tag in [0x0a, 0x12, 0x1a, 0x3a, 0x6a] {
        for length in [&b"\xff\xff\xff\xff\x0f"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            let frame = [&[tag], length, b"x"].concat();
            assert!(!accepts::<kvrpcpb::PrewriteRequest>(&frame), "{frame:02x?}");
            decode_all(&frame);
        }
    }
}

#[test]
fn groups_nested_without_end_are_refused() {
    // Field 15 opens a group, an ancient kind that is skipped by looking for its end.
    let frame = vec![0x7b; 100_000];
    assert_eq!(decode_all(&frame), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn random_bytes_never_panic(frame in prop::collection::vec(any::<u8>(), 0..256)) {
        decode_all(&frame);
    }

    #[test]
    fn mutated_frames_never_panic(
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut frame = valid_frame();
        for (at, byte) in hits {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        decode_all(&frame);
        decode_all(&frame[..cut.index(frame.len())]);
    }
}
