//! The regions that a cluster is born with.
//!
//! A cluster is bootstrapped with one region of all keys. The store that has it cuts it at once, on
//! its own disk, before it serves; the pieces are newer than the whole, so the scheduler replaces
//! the whole when it hears of them.
//!
//! ```text
//!   1, 1ttl    ├──────────────── raw and transactional keys ───────────────┤ eight 0xff… ├
//!   2          ├── m ──┤ raw keyspace 0 ├── r, t ──┤ transactional keyspace 0 ├── x ──────┤
//! ```
//!
//! Under API version 2 each kind of data of the default keyspace has regions of its own, which is
//! what clients of keyspaces find elsewhere, and lets one be split, moved and dropped without the
//! other.
//!
//! Under every version **no keys that people use are in the last region**. The raw scan of
//! `tikv-client` 0.4 goes on at the end of the region that it has just read, unless that end has
//! reached the end of its range. The end of the last region is empty and sorts below every key, so
//! there the scan starts over at the first key of all, and returns rows again until its limit is
//! reached.

use bytes::Bytes;
use kiva_base::{Epoch, Key, KeyRange, Peer, PeerId, Region, RegionId};
use kiva_kv::ApiVersion;

/// Whether nobody has cut this region yet.
pub(crate) fn is_whole(region: &Region) -> bool {
    region.range == KeyRange::ALL && region.epoch == Epoch::FIRST
}

/// Where a new cluster is cut, in the stored form of keys.
pub(crate) fn cuts(api: ApiVersion) -> Vec<Bytes> {
    let keys: &[&[u8]] = match api {
        // Raw clients read the boundary as it is, transactional ones decode it: the memcomparable
        // form is a high key to both.
        ApiVersion::V1 | ApiVersion::V1Ttl => &[&[0xff; 8]],
        ApiVersion::V2 => &[b"r\0\0\0", b"r\0\0\x01", b"x\0\0\0", b"x\0\0\x01"],
    };
    keys.iter().map(|key| Key::from(key.to_vec()).encode().0).collect()
}

/// The pieces of `whole`, in key order. The first keeps its id, the others take the `fresh` ones,
/// of which there must be as many as cuts.
pub(crate) fn pieces(
    whole: &Region,
    cuts: &[Bytes],
    fresh: impl IntoIterator<Item = (RegionId, PeerId)>,
) -> Vec<Region> {
    // As if they had been cut off one by one: every cut is a change of range.
    let version = whole.epoch.version + cuts.len() as u64;
    let epoch = Epoch { version, ..whole.epoch };
    let starts = std::iter::once(whole.range.start()).chain(cuts);
    let ends = cuts.iter().chain([whole.range.end()]);
    let ranges = starts.zip(ends).filter_map(|(a, b)| KeyRange::new(a.clone(), b.clone()));
    let kept = (whole.id, None);
    let ids = std::iter::once(kept).chain(fresh.into_iter().map(|(id, peer)| (id, Some(peer))));
    ranges
        .zip(ids)
        .map(|(range, (id, fresh))| {
            let renamed = |peer: &Peer| Peer { id: fresh.unwrap_or(peer.id), ..*peer };
            Region { id, range, epoch, peers: whole.peers.iter().map(renamed).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use kiva_base::{EncodedKey, PeerRole, StoreId};

    use super::*;

    fn born(api: ApiVersion) -> Vec<Region> {
        let id = |n| (RegionId::new(n).unwrap(), PeerId::new(n + 1).unwrap());
        let (region, peer) = id(2);
        let peer = Peer { id: peer, store: StoreId::new(1).unwrap(), role: PeerRole::Voter };
        let range = KeyRange::ALL;
        let whole = Region { id: region, range, epoch: Epoch::FIRST, peers: vec![peer] };
        assert!(is_whole(&whole));
        let cuts = cuts(api);
        let pieces = pieces(&whole, &cuts, (0..cuts.len() as u64).map(|n| id(10 + 2 * n)));
        assert_eq!(pieces.len(), cuts.len() + 1);
        pieces
    }

    #[test]
    fn the_pieces_cover_all_keys_without_overlap() {
        for api in [ApiVersion::V1, ApiVersion::V1Ttl, ApiVersion::V2] {
            let pieces = born(api);
            assert!(pieces[0].range.start().is_empty());
            assert!(pieces[pieces.len() - 1].range.end().is_empty());
            for pair in pieces.windows(2) {
                assert_eq!(pair[0].range.end(), pair[1].range.start());
                assert_ne!(pair[0].id, pair[1].id);
                assert_ne!(pair[0].peers[0].id, pair[1].peers[0].id);
            }
            assert!(pieces.iter().all(|piece| !piece.range.is_empty() && !is_whole(piece)));
        }
    }

    #[test]
    fn every_boundary_decodes_as_transactional_clients_decode_it() {
        for api in [ApiVersion::V1, ApiVersion::V2] {
            assert!(cuts(api).into_iter().all(|cut| EncodedKey(cut).decode().is_ok()));
        }
    }

    #[test]
    fn a_keyspace_has_regions_of_its_own() {
        let pieces = born(ApiVersion::V2);
        let holder = |key: &'static [u8]| {
            let stored = Key::from(key).encode();
            pieces.iter().position(|piece| piece.contains(stored.as_bytes()))
        };
        assert_eq!(holder(b"m"), Some(0));
        assert_eq!((holder(b"r\0\0\0"), holder(b"r\0\0\0\xff\xff")), (Some(1), Some(1)));
        assert_eq!(holder(b"t"), Some(2));
        assert_eq!((holder(b"x\0\0\0"), holder(b"x\0\0\0\xff\xff")), (Some(3), Some(3)));
        assert_eq!(holder(b"x\0\0\x01"), Some(4));
    }
}
