//! What one store reads from another: a frame as it came, and one whose checksum is right whatever
//! it says. What decodes survives its own encoding.
#![no_main]

use bytes::Bytes;
use kiva_raftstore::wire::{decode_frame, encode_frames};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(Bytes::copy_from_slice(data));
    let mut sealed = vec![1];
    sealed.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    sealed.extend_from_slice(data);
    check(sealed.into());
});

fn check(frame: Bytes) {
    let Ok(envelopes) = decode_frame(frame) else {
        return;
    };
    for bytes_max in [usize::MAX, 64] {
        let frames = encode_frames(&envelopes, bytes_max).into_iter();
        let again: Vec<_> =
            frames.flat_map(|frame| decode_frame(frame).expect("our own frame decodes")).collect();
        assert_eq!(again, envelopes, "encoding loses nothing");
    }
}
