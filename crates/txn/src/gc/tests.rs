//! The verdicts, by example and for random histories.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;

fn write(kind: WriteKind, start_ts: u64, is_long: bool) -> Write {
    Write {
        kind,
        start_ts: Timestamp(start_ts),
        short_value: (kind == WriteKind::Put && !is_long).then(|| Bytes::from("v")),
        is_rolled_back_too: false,
        is_protected: false,
    }
}

/// Verdicts on records given newest first.
fn judge(safe_point: u64, records: &[(u64, Write)]) -> Vec<Verdict> {
    let mut gc = KeyGc::new(Timestamp(safe_point));
    records.iter().map(|(commit_ts, write)| gc.judge(Timestamp(*commit_ts), write)).collect()
}

/// The drawing of the module's doc. Covers 4C-gc-safe-point.
#[test]
fn the_newest_put_at_the_safe_point_stays_and_what_it_hides_goes() {
    let records = [
        (60, write(WriteKind::Put, 59, true)),
        (55, write(WriteKind::Lock, 54, false)),
        (48, write(WriteKind::Rollback, 48, false)),
        (40, write(WriteKind::Put, 39, true)),
        (30, write(WriteKind::Delete, 29, false)),
        (20, write(WriteKind::Put, 19, true)),
        (10, write(WriteKind::Put, 9, false)),
    ];
    use Verdict::*;
    assert_eq!(
        judge(50, &records),
        [Keep, Keep, DropRecord, Keep, DropRecord, DropRecordAndValue, DropRecord]
    );
    assert_eq!(judge(9, &records), [Keep; 7]);
    assert_eq!(judge(40, &records)[3], Keep, "at the safe point is below it");
    assert_eq!(judge(39, &records)[3], Keep);
}

/// Covers 4C-gc-safe-point: deletes vanish with what they hide.
#[test]
fn a_delete_at_the_safe_point_takes_everything_under_it() {
    let records = [
        (40, write(WriteKind::Delete, 39, false)),
        (30, write(WriteKind::Put, 29, true)),
        (20, write(WriteKind::Lock, 19, false)),
    ];
    use Verdict::*;
    assert_eq!(judge(40, &records), [DropRecord, DropRecordAndValue, DropRecord]);
    // A delete that somebody can still see from below stays, with what it hides.
    assert_eq!(judge(39, &records), [Keep, Keep, DropRecord]);
}

/// What a read sees: the start of the transaction that wrote the value.
fn read(records: &BTreeMap<u64, Write>, ts: u64) -> Option<Timestamp> {
    let mut data = records.range(..=ts).rev();
    data.find(|(_, write)| write.is_data())
        .filter(|(_, write)| write.kind == WriteKind::Put)
        .map(|(_, write)| write.start_ts)
}

proptest! {
    /// Covers 4C-gc-safe-point: no read at or above the safe point notices, nothing above it goes,
    /// and at most one record at or below it is left.
    #[test]
    fn reads_at_or_above_the_safe_point_do_not_change(
        records in btree_map(1..40_u64, (0..4_u8, any::<bool>()), 0..20),
        safe_point in 0..45_u64,
    ) {
        let kinds = [WriteKind::Put, WriteKind::Delete, WriteKind::Lock, WriteKind::Rollback];
        let before: BTreeMap<u64, Write> = records
            .iter()
            .map(|(&ts, &(kind, is_long))| (ts, write(kinds[usize::from(kind)], ts - 1, is_long)))
            .collect();
        let mut gc = KeyGc::new(Timestamp(safe_point));
        let mut after = before.clone();
        for (&ts, write) in before.iter().rev() {
            match gc.judge(Timestamp(ts), write) {
                Verdict::Keep => {}
                verdict => {
                    let takes_value = verdict == Verdict::DropRecordAndValue;
                    prop_assert_eq!(takes_value, write.has_long_value());
                    after.remove(&ts);
                }
            }
        }
        for ts in safe_point..50 {
            prop_assert_eq!(read(&before, ts), read(&after, ts), "at {}", ts);
        }
        prop_assert!(after.range(..=safe_point).count() <= 1);
        let above = |records: &BTreeMap<u64, Write>| records.range(safe_point + 1..).count();
        prop_assert_eq!(above(&before), above(&after));
    }
}
