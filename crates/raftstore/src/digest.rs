//! What a replica holds, in a few numbers, so that replicas can be compared.
//!
//! Replicas that have applied the same entries hold the same pairs. [`digest()`] reads one snapshot
//! of the engine, which has the data and the applied index that belongs to it; whoever compares two
//! of them looks at the index first, because replicas that stand elsewhere differ by right.
//!
//! What is compared is what can be read. Stores drop what nobody can read any more in compactions,
//! each at a time of its own, so the caller names it with the filter that compactions use, and it
//! does not count anywhere.

use kiva_base::RegionId;
use kiva_engine::{Cf, Filter, Order, Snapshot, Verdict};
use kiva_raft::EntryId;
use xxhash_rust::xxh3::Xxh3;

use crate::meta::{self, MetaError, RegionRecord};

/// The families that a region's entries change. `local` is about the store that it lies on.
const FAMILIES: [Cf; 3] = [Cf::Default, Cf::Lock, Cf::Write];

/// What one replica holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digest {
    /// The region as applied.
    pub record: RegionRecord,
    /// The last entry whose effect is in the numbers.
    pub applied: EntryId,
    /// One for each family, in the order of their keys.
    pub families: Vec<FamilyDigest>,
}

/// What one family holds in the range of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FamilyDigest {
    /// Which.
    pub cf: Cf,
    /// Keys with a value.
    pub pairs: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// XXH3 over all pairs in key order, each length before its bytes.
    pub hash: u64,
}

/// Reads all that the region has in `view`; `None` when it has no data there. What `vanishing`
/// would remove is passed over. Takes as long as reading the region.
pub fn digest(
    view: &dyn Snapshot,
    region: RegionId,
    vanishing: Option<&dyn Filter>,
) -> Result<Option<Digest>, MetaError> {
    let record = meta::load_region(view, region)?;
    let state = meta::load_apply_state(view, region)?;
    let (Some(record), Some(state)) = (record, state) else {
        return Ok(None);
    };
    let mut families = Vec::with_capacity(FAMILIES.len());
    for cf in FAMILIES {
        let mut found = FamilyDigest { cf, pairs: 0, bytes: 0, hash: 0 };
        let mut hash = Xxh3::new();
        let mut pairs = view.iter(cf, &record.region.range, Order::Forward);
        while let Some((key, value)) = pairs.next()? {
            let verdict = vanishing.map(|filter| filter.judge(cf, &key, &value));
            if verdict == Some(Verdict::Remove) {
                continue;
            }
            for bytes in [&key, &value] {
                hash.update(&(bytes.len() as u64).to_be_bytes());
                hash.update(bytes);
                found.bytes += bytes.len() as u64;
            }
            found.pairs += 1;
        }
        found.hash = hash.digest();
        families.push(found);
    }
    Ok(Some(Digest { record, applied: state.applied, families }))
}

#[cfg(test)]
mod tests {
    use kiva_base::{Epoch, KeyRange, Peer, PeerId, PeerRole, Region, StoreId};
    use kiva_engine::memory::MemoryEngine;
    use kiva_engine::{Engine, WriteBatch};

    use super::*;

    fn region() -> Region {
        let (id, store) = (PeerId::new(3).unwrap(), StoreId::new(4).unwrap());
        Region {
            id: RegionId::new(2).unwrap(),
            range: KeyRange::new("b", "d").unwrap(),
            epoch: Epoch::FIRST,
            peers: vec![Peer { id, store, role: PeerRole::Voter }],
        }
    }

    /// A replica that holds these.
    fn replica(pairs: &[(Cf, &str, &str)]) -> MemoryEngine {
        let engine = MemoryEngine::new();
        let mut batch = WriteBatch::new();
        meta::save_born(region(), &mut batch);
        for (cf, key, value) in pairs {
            batch.put(*cf, key.as_bytes(), value.as_bytes());
        }
        engine.write(&batch).unwrap();
        engine
    }

    fn of(engine: &MemoryEngine, vanishing: Option<&dyn Filter>) -> Digest {
        let found = digest(&*engine.snapshot(), region().id, vanishing).unwrap();
        found.expect("the region has data")
    }

    #[test]
    fn replicas_with_the_same_pairs_agree_whatever_lies_beside_the_region() {
        let one = replica(&[(Cf::Default, "b", "1"), (Cf::Write, "c", "2")]);
        let beside = [(Cf::Default, "a", "x"), (Cf::Default, "d", "x"), (Cf::Local, "c", "x")];
        let other =
            replica(&[&beside[..], &[(Cf::Write, "c", "2"), (Cf::Default, "b", "1")]].concat());
        assert_eq!(of(&one, None), of(&other, None));
        let found = of(&one, None);
        assert_eq!(found.applied, meta::FIRST);
        let counts: Vec<_> =
            found.families.iter().map(|one| (one.cf, one.pairs, one.bytes)).collect();
        assert_eq!(counts, [(Cf::Default, 1, 2), (Cf::Lock, 0, 0), (Cf::Write, 1, 2)]);
    }

    #[test]
    fn whatever_differs_is_seen() {
        let good = of(&replica(&[(Cf::Default, "b", "12"), (Cf::Lock, "c", "3")]), None);
        for bad in [
            &[(Cf::Default, "b", "13"), (Cf::Lock, "c", "3")][..],
            &[(Cf::Default, "b1", "2"), (Cf::Lock, "c", "3")],
            &[(Cf::Default, "b", "12")],
            &[(Cf::Default, "b", "12"), (Cf::Write, "c", "3")],
            &[(Cf::Default, "b", "12"), (Cf::Lock, "c", "3"), (Cf::Lock, "c\0", "")],
        ] {
            assert_ne!(of(&replica(bad), None).families, good.families, "{bad:?}");
        }
    }

    #[test]
    fn what_may_vanish_does_not_count() {
        struct Vanishing;
        impl Filter for Vanishing {
            fn judge(&self, _: Cf, _: &[u8], value: &[u8]) -> Verdict {
                if value == b"old" { Verdict::Remove } else { Verdict::Keep }
            }
        }
        let before = replica(&[(Cf::Default, "b", "old"), (Cf::Default, "c", "new")]);
        let after = replica(&[(Cf::Default, "c", "new")]);
        assert_ne!(of(&before, None), of(&after, None));
        assert_eq!(of(&before, Some(&Vanishing)), of(&after, Some(&Vanishing)));
    }

    #[test]
    fn a_store_without_the_region_says_so() {
        let engine = MemoryEngine::new();
        assert_eq!(digest(&*engine.snapshot(), region().id, None).unwrap(), None);
    }
}
