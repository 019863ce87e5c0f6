//! A lock record from bytes that nobody checked. What decodes survives its own encoding.
#![no_main]

use bytes::Bytes;
use kiva_txn::lock::Lock;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(lock) = Lock::decode(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let again = Lock::decode(&lock.encode().into()).expect("a lock decodes from its own bytes");
    assert_eq!(lock, again, "encoding loses nothing");
});
