//! A write batch from bytes that nobody checked: it decodes or it does not, and what decodes can
//! be walked, counted and decoded again to the same.
#![no_main]

use bytes::Bytes;
use kiva_engine::WriteBatch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(batch) = WriteBatch::decode(&bytes) else {
        return;
    };
    assert_eq!(batch.ops().count(), batch.len(), "every operation can be reached");
    let again = WriteBatch::decode(&Bytes::copy_from_slice(batch.as_bytes()));
    let again = again.expect("a batch decodes from its own bytes");
    assert!(again.ops().eq(batch.ops()), "decoding twice gives the same operations");
});
