//! A write record from bytes that nobody checked. What decodes survives its own encoding.
#![no_main]

use bytes::Bytes;
use kiva_txn::write::Write;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(write) = Write::decode(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let again = Write::decode(&write.encode().into()).expect("a record decodes from its own bytes");
    assert_eq!(write, again, "encoding loses nothing");
});
