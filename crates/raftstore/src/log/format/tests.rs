//! Headers, records and directories: as documented, and nothing else.

use kiva_raft::{Entries, Entry, Payload};
use proptest::prelude::*;

use super::*;
use crate::log::LogBatch;

#[test]
fn a_header_is_good_only_as_it_was_written() {
    let header = SegmentHeader { number: 7, base: 1 << 40, dropped: 3 };
    let bytes = header.encode();
    assert_eq!(SegmentHeader::decode(&bytes), Head::Header(header));
    assert_eq!(SegmentHeader::decode(&[0; SEGMENT_HEADER]), Head::Zeros);
    assert_eq!(SegmentHeader::decode(&bytes[..SEGMENT_HEADER - 1]), Head::Bad);
    for position in 0..SEGMENT_HEADER {
        for bit in 0..8 {
            let mut bytes = bytes;
            bytes[position] ^= 1 << bit;
            match SegmentHeader::decode(&bytes) {
                Head::Bad => {}
                // What cannot be told from a greater format is left alone, which is loud enough.
                Head::Newer(_) => assert_eq!(position, 7),
                head => panic!("{head:?} with a flipped bit at {position}"),
            }
        }
    }
    let trailer = Trailer { footer: 100, size: 50 };
    let bytes = trailer.encode(7);
    assert_eq!(Trailer::decode(&bytes, 7), Some(trailer));
    assert_eq!(Trailer::decode(&bytes, 8), None, "a recycled one");
}

#[test]
fn a_record_is_good_only_where_it_was_written() {
    let directory = [1, 2, 3];
    let header = RecordHeader {
        kind: RecordKind::Batch,
        directory_size: 3,
        payload_size: 5,
        position: 1000,
        synced: 900,
        incarnation: 4,
    };
    let mut record = vec![0; header.size()];
    record[RECORD_HEADER..RECORD_HEADER + 3].copy_from_slice(&directory);
    header.encode_into(&mut record, 7, 64);
    assert_eq!(RecordHeader::decode(&record, 7, 64), Some(header));
    assert_eq!(RecordHeader::decode(&record, 8, 64), None, "in another segment");
    assert_eq!(RecordHeader::decode(&record, 7, 72), None, "in another place");
    assert_eq!(RecordHeader::decode(&record[..record.len() - 1], 7, 64), None, "cut short");
    for position in 0..RECORD_HEADER + 3 {
        let mut record = record.clone();
        record[position] ^= 4;
        assert_eq!(RecordHeader::decode(&record, 7, 64), None, "flipped at {position}");
    }
}

#[test]
fn a_directory_looks_like_this() {
    let entry = |index, payload| Entry { index: Index(index), term: Term(2), payload };
    let command = Payload::Command(Bytes::from_static(b"abc"));
    let entries: Entries = vec![entry(300, Payload::Empty), entry(301, command)].into();
    let mut batch = LogBatch::new();
    batch.entries(RegionId::new(9).expect("not zero"), &entries);
    batch.ident(b"me");
    let checksum = crc32fast::hash(b"abc").to_le_bytes();
    let expected = [
        // Region 9, entries, a sequence number that is filled in later; one run of two from 300 in
        // term 2.
        &b"\x09\x04\0\0\0\0\x01\xAC\x02\x02\x02"[..],
        // The same term, empty; the same term, three bytes of a command.
        &b"\x00\x00\x00\x0D"[..],
        &checksum,
        &b"\x00\x01\x02me"[..],
    ];
    assert_eq!(batch.directory, expected.concat());
}

fn walk(directory: &[u8]) {
    for item in Items::new(directory) {
        if let Ok(Item::Region(item)) = item {
            item.runs.for_each(|_, _| {});
        }
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, region in 0..4_u8, sections: u8) {
        walk(&bytes);
        walk(&[&[region, sections, 0, 0, 0, 0], &bytes[..]].concat());
        let _ = SegmentHeader::decode(&bytes);
        let _ = RecordHeader::decode(&bytes, 1, 64);
        let mut footer = Bytes::from(bytes);
        while decode_footer_entry(&mut footer).is_some() {}
    }

    #[test]
    fn a_directory_that_was_changed_never_panics(
        at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        let entry = |index| {
            let payload = Payload::Command(vec![1; index as usize % 7].into());
            Entry { index: Index(index), term: Term(index / 3), payload }
        };
        let mut batch = LogBatch::new();
        let region = RegionId::new(200).expect("not zero");
        batch.restart(region, EntryId::new(Term(1), Index(5)));
        batch.entries(region, &(6..20).map(entry).collect());
        batch.tombstone(region, PeerId::new(7).expect("not zero"), Epoch::FIRST);
        batch.ident(b"someone");
        let mut directory = batch.directory;
        let length = directory.len();
        directory[at.index(length)] = byte;
        walk(&directory);
        walk(&directory[..cut.index(length)]);
    }
}
