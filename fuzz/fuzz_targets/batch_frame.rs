//! What a store reads off the wire: a frame of many commands, and single requests. What decodes
//! survives its own encoding.
#![no_main]

use std::fmt::Debug;

use kiva_proto::kvrpcpb::{CommitRequest, PrewriteRequest, RawBatchPutRequest, ScanRequest};
use kiva_proto::tikvpb::BatchCommandsRequest;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    round_trip::<BatchCommandsRequest>(data);
    round_trip::<PrewriteRequest>(data);
    round_trip::<CommitRequest>(data);
    round_trip::<RawBatchPutRequest>(data);
    round_trip::<ScanRequest>(data);
});

fn round_trip<M: Message + Default + PartialEq + Debug>(data: &[u8]) {
    let Ok(message) = M::decode(data) else {
        return;
    };
    let again = M::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message), "encoding loses nothing");
}
