//! All regions by key: which one holds a key, which is left of it, which cover a range.
//!
//! Regions are kept by their end, because the region that holds a key is the first one that ends
//! behind it. Unbounded sorts last:
//!
//! ```text
//!   ["" , "m") ──▶ end "m"        key "k": first end > "k" is "m"      holds it if start <= "k"
//!   ["m", "" ) ──▶ end ∞          key "m": first end > "m" is ∞
//! ```
//!
//! Reports arrive late, twice and out of order. One that is older than what is known is refused: by
//! its epoch first, because that orders changes of a region, then by the term, because that orders
//! its leaders. One that is newer removes whatever it overlaps: two regions of which one has been
//! split or merged cannot both be as they were.

mod contradiction;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::{Epoch, KeyRange, Peer, PeerId, Region, RegionId, StoreId, Term};

pub use contradiction::Contradiction;
pub use tally::StoreTally;
use tally::Tallies;

/// What the leader of a region reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionReport {
    /// The region.
    pub region: Region,
    /// Who leads it, if anybody is known to: one of its peers.
    pub leader: Option<Peer>,
    /// In which term. Zero when nobody has reported since the scheduler began.
    pub term: Term,
    /// Whether it is in the middle of a joint change of peers.
    pub is_joint: bool,
    /// Peers that the leader has not heard of.
    pub down: Vec<DownPeer>,
    /// Peers that are far behind.
    pub pending: Vec<Peer>,
    /// Its size in bytes, roughly.
    pub size_bytes: u64,
    /// How many keys it has, roughly.
    pub keys: u64,
}

/// A peer that has not been heard of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DownPeer {
    /// The peer.
    pub peer: Peer,
    /// For how many seconds.
    pub seconds: u64,
}

impl RegionReport {
    /// What is known of a region before its leader reports: a single peer leads itself.
    pub fn new(region: Region) -> Self {
        let leader = match region.peers[..] {
            [only] => Some(only),
            _ => None,
        };
        Self {
            region,
            leader,
            term: Term(0),
            is_joint: false,
            down: Vec::new(),
            pending: Vec::new(),
            size_bytes: 0,
            keys: 0,
        }
    }

    /// Whether a leader has said this since the scheduler began.
    pub fn is_reported(&self) -> bool {
        self.term > Term(0)
    }

    /// Its peers that do not lead it.
    pub fn followers(&self) -> impl Iterator<Item = Peer> {
        let leader = self.leader.map(|leader| leader.id);
        self.region.peers.iter().copied().filter(move |peer| Some(peer.id) != leader)
    }

    /// Whether this peer is far behind.
    pub fn is_pending(&self, peer: PeerId) -> bool {
        self.pending.iter().any(|pending| pending.id == peer)
    }

    /// For how many seconds its leader has not heard of this peer; `None` when it has.
    pub fn down_seconds(&self, peer: PeerId) -> Option<u64> {
        self.down.iter().find(|down| down.peer.id == peer).map(|down| down.seconds)
    }
}

/// Why a report changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StaleReport {
    /// The region has changed since.
    #[error("the report of region {region} has epoch {reported:?}, known is {known:?}")]
    Epoch {
        /// The reported region.
        region: RegionId,
        /// Its epoch in the report.
        reported: Epoch,
        /// The epoch known, of the region or of one that has taken over some of its keys.
        known: Epoch,
    },
    /// The region has had another leader since.
    #[error("the report of region {region} is of term {reported}, known is {known}")]
    Term {
        /// The reported region.
        region: RegionId,
        /// The term of the report.
        reported: Term,
        /// The term known.
        known: Term,
    },
}

/// The first key behind a region, ordered so that "unbounded" is last.
type End = (bool, Bytes);

fn end_of(range: &KeyRange) -> End {
    (range.end().is_empty(), range.end().clone())
}

/// The regions.
///
/// Invariants: no two overlap; `by_end` has exactly the regions of `by_id`, each under its end;
/// `tallies` is a count over them.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    by_id: BTreeMap<RegionId, Arc<RegionReport>>,
    by_end: BTreeMap<End, RegionId>,
    tallies: Tallies,
    /// Regions that differ from what is on the disk, or are only there.
    unsaved: BTreeSet<RegionId>,
}

impl Regions {
    /// Takes in a report unless it is stale, and says what about it cannot be.
    pub fn observe(&mut self, report: RegionReport) -> Result<Option<Contradiction>, StaleReport> {
        let id = report.region.id;
        let known = self.by_id.get(&id);
        if let Some(known) = known {
            check_fresh(&report, known)?;
        }
        let overlapped = self.overlapping(&report.region.range);
        for other in overlapped.iter().filter(|&&other| other != id) {
            let known = self.by_id[other].region.epoch;
            if known.version > report.region.epoch.version {
                return Err(StaleReport::Epoch {
                    region: id,
                    reported: report.region.epoch,
                    known,
                });
            }
        }
        let others = overlapped.iter().map(|other| &*self.by_id[other]);
        let contradiction = contradiction::find(&report, known.map(|k| &**k), others);
        if known.is_none_or(|k| k.region != report.region || k.leader != report.leader) {
            self.unsaved.insert(id);
        }
        self.detach(id);
        for gone in overlapped.into_iter().filter(|&other| other != id) {
            self.detach(gone);
            self.unsaved.insert(gone);
        }
        self.insert(report);
        Ok(contradiction)
    }

    /// The region that holds a stored key.
    pub fn by_key(&self, key: &[u8]) -> Option<&Arc<RegionReport>> {
        let found = self.ending_behind(key).next()?;
        found.region.contains(key).then_some(found)
    }

    /// The region with this id.
    pub fn by_id(&self, id: RegionId) -> Option<&Arc<RegionReport>> {
        self.by_id.get(&id)
    }

    /// The region that ends where the one that holds `key` begins.
    pub fn previous(&self, key: &[u8]) -> Option<&Arc<RegionReport>> {
        let start = self.by_key(key)?.region.range.start();
        if start.is_empty() {
            return None;
        }
        self.by_end.get(&(false, start.clone())).map(|id| &self.by_id[id])
    }

    /// The regions that hold keys of `range`, in key order.
    pub fn covering<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = &'a Arc<RegionReport>> {
        self.ending_behind(range.start()).take_while(|report| {
            range.end().is_empty() || report.region.range.start() < range.end()
        })
    }

    /// All regions in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<RegionReport>> {
        self.by_end.values().map(|id| &self.by_id[id])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What `store` has of them.
    pub fn tally(&self, store: StoreId) -> StoreTally {
        self.tallies.of(store)
    }

    /// Up to `count` regions from the id `first` on, in the order of ids.
    pub fn page(&self, first: RegionId, count: usize) -> impl Iterator<Item = &Arc<RegionReport>> {
        self.by_id.range(first..).take(count).map(|(_, report)| report)
    }

    /// Up to `count` ids whose regions differ from what is on the disk. Who takes them saves them.
    pub fn take_unsaved(&mut self, count: usize) -> Vec<RegionId> {
        let taken: Vec<_> = self.unsaved.iter().copied().take(count).collect();
        for id in &taken {
            self.unsaved.remove(id);
        }
        taken
    }

    /// On the disk are these regions: those that are no more have to go from there, the others are
    /// as they are here.
    pub fn on_loaded(&mut self, on_disk: impl IntoIterator<Item = RegionId>) {
        let gone = on_disk.into_iter().filter(|id| !self.by_id.contains_key(id));
        self.unsaved = gone.collect();
    }

    fn ending_behind(&self, key: &[u8]) -> impl Iterator<Item = &Arc<RegionReport>> {
        let from = Bound::Excluded((false, Bytes::copy_from_slice(key)));
        self.by_end.range((from, Bound::Unbounded)).map(|(_, id)| &self.by_id[id])
    }

    fn overlapping(&self, range: &KeyRange) -> Vec<RegionId> {
        self.covering(range).map(|report| report.region.id).collect()
    }

    fn insert(&mut self, report: RegionReport) {
        let (id, end) = (report.region.id, end_of(&report.region.range));
        let displaced = self.by_end.insert(end, id);
        assert!(displaced.is_none(), "regions {id} and {displaced:?} end at one key");
        self.tallies.add(&report);
        self.by_id.insert(id, Arc::new(report));
    }

    fn detach(&mut self, id: RegionId) {
        if let Some(report) = self.by_id.remove(&id) {
            self.by_end.remove(&end_of(&report.region.range));
            self.tallies.remove(&report);
        }
    }
}

fn check_fresh(report: &RegionReport, known: &RegionReport) -> Result<(), StaleReport> {
    let region = report.region.id;
    if report.region.epoch.is_stale_against(known.region.epoch) {
        return Err(StaleReport::Epoch {
            region,
            reported: report.region.epoch,
            known: known.region.epoch,
        });
    }
    // A report without a term is from before the first election, or from a store that has none.
    if report.term < known.term {
        return Err(StaleReport::Term { region, reported: report.term, known: known.term });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use kiva_base::{PeerId, PeerRole};

    fn report(id: u64, start: &'static str, end: &'static str, version: u64) -> RegionReport {
        let peer = Peer {
            id: PeerId::new(id + 100).unwrap(),
            store: StoreId::new(1).unwrap(),
            role: PeerRole::Voter,
        };
        RegionReport::new(Region {
            id: RegionId::new(id).unwrap(),
            range: KeyRange::new(start, end).unwrap(),
            epoch: Epoch { conf_ver: 1, version },
            peers: vec![peer],
        })
    }

    fn regions(reports: impl IntoIterator<Item = RegionReport>) -> Regions {
        let mut regions = Regions::default();
        for report in reports {
            regions.observe(report).unwrap();
        }
        regions
    }

    fn three() -> Regions {
        regions([report(1, "", "g", 3), report(2, "g", "p", 3), report(3, "p", "", 3)])
    }

    fn id(found: Option<&Arc<RegionReport>>) -> Option<u64> {
        found.map(|report| report.region.id.get())
    }

    fn ids(regions: &Regions) -> Vec<u64> {
        regions.iter().map(|report| report.region.id.get()).collect()
    }

    #[test]
    fn a_key_is_in_the_region_that_ends_behind_it() {
        let regions = three();
        let expected = [("", 1), ("f", 1), ("g", 2), ("o\u{7f}", 2), ("p", 3), ("z", 3)];
        for (key, holder) in expected {
            assert_eq!(id(regions.by_key(key.as_bytes())), Some(holder), "{key}");
        }
        assert_eq!(id(regions.by_id(RegionId::new(2).unwrap())), Some(2));
    }

    #[test]
    fn a_hole_holds_no_key() {
        let regions = regions([report(1, "b", "c", 1), report(2, "d", "", 1)]);
        for key in ["", "a", "c", "cz"] {
            assert_eq!(id(regions.by_key(key.as_bytes())), None, "{key}");
        }
        assert_eq!(id(regions.previous(b"d")), None);
        assert_eq!(id(regions.previous(b"c")), None);
    }

    /// Covers 3C-region-tree, with the four above and below.
    #[test]
    fn the_previous_region_ends_where_this_one_begins() {
        let regions = three();
        assert_eq!(id(regions.previous(b"h")), Some(1));
        assert_eq!(id(regions.previous(b"z")), Some(2));
        assert_eq!(id(regions.previous(b"a")), None);
    }

    #[test]
    fn a_range_is_covered_from_its_first_key_to_its_last() {
        let regions = three();
        let covering = |start, end| {
            let range = KeyRange::new(start, end).unwrap();
            let found = regions.covering(&range).map(|report| report.region.id.get());
            found.collect::<Vec<_>>()
        };
        assert_eq!(covering("", ""), [1, 2, 3]);
        assert_eq!(covering("g", "p"), [2]);
        assert_eq!(covering("f", "pa"), [1, 2, 3]);
        assert_eq!(covering("q", ""), [3]);
    }

    /// Covers 3C-stale-check and 3C-valid-region.
    #[test]
    fn a_report_is_refused_by_epoch_then_by_term() {
        let mut regions = three();
        let older = regions.observe(report(2, "g", "p", 2)).unwrap_err();
        assert!(matches!(older, StaleReport::Epoch { .. }));
        let term = |term| RegionReport { term: Term(term), ..report(2, "g", "p", 3) };
        regions.observe(term(7)).unwrap();
        let older = regions.observe(term(6)).unwrap_err();
        assert!(matches!(older, StaleReport::Term { .. }));
        regions.observe(term(7)).unwrap();
        // A newer epoch does not excuse an older term, nor the other way round.
        assert!(regions.observe(RegionReport { term: Term(9), ..report(2, "g", "p", 2) }).is_err());
    }

    #[test]
    fn a_split_replaces_the_region_whichever_piece_reports_first() {
        for order in [[0, 1], [1, 0]] {
            let mut regions = regions([report(1, "", "", 1)]);
            let pieces = [report(1, "", "m", 2), report(2, "m", "", 2)];
            for piece in order {
                regions.observe(pieces[piece].clone()).unwrap();
            }
            assert_eq!(ids(&regions), [1, 2]);
            // What was before the split comes too late.
            regions.observe(report(1, "", "", 1)).unwrap_err();
            assert_eq!(ids(&regions), [1, 2]);
        }
    }

    /// Covers 3C-hb-split-merge: every region is cut in two seven times, then all are merged again,
    /// and after each round exactly the regions of that round are found by any of their keys.
    #[test]
    fn splits_and_merges_leave_exactly_the_regions_there_are() {
        const LEVELS: u64 = 7;
        let size = 1 << LEVELS;
        let key = |at: u64| match at {
            0 => Bytes::new(),
            at if at == size => Bytes::new(),
            at => Bytes::from(vec![at as u8]),
        };
        let mut regions = regions([report(1, "", "", 1)]);
        let mut version = 1;
        // Down to pieces of one key, up again, and down and up by turns.
        let down_up = (1..=LEVELS).chain((0..LEVELS).rev());
        let turns = (1..=LEVELS).flat_map(|level| [level, level - 1]);
        for level in down_up.chain(turns) {
            version += 1;
            let width = size >> level;
            let ranges: Vec<_> = (0..1 << level).map(|n| (n * width, (n + 1) * width)).collect();
            for &(start, end) in ranges.iter().rev() {
                // A piece keeps the id of the region that began where it begins.
                let mut piece = report(start + 1, "", "", version);
                piece.region.range = KeyRange::new(key(start), key(end)).unwrap();
                regions.observe(piece).unwrap();
            }
            let expected: Vec<_> = ranges.iter().map(|(start, _)| start + 1).collect();
            assert_eq!(ids(&regions), expected, "at level {level}");
            for at in 0..size {
                let holder = at / width * width + 1;
                assert_eq!(id(regions.by_key(&[at as u8])), Some(holder), "key {at}");
            }
        }
    }

    /// The rules that reports of a store without defects keep.
    #[test]
    fn what_cannot_be_is_said_and_taken_in() {
        let with = |conf_ver, stores: &[u64]| {
            let mut report = report(1, "", "m", 5);
            let peer = |&store: &u64| Peer {
                id: PeerId::new(100 + store).unwrap(),
                store: StoreId::new(store).unwrap(),
                role: PeerRole::Voter,
            };
            report.region.peers = stores.iter().map(peer).collect();
            report.region.epoch.conf_ver = conf_ver;
            report
        };
        let second = |conf_ver, stores: &[u64]| {
            let mut regions = regions([with(3, &[1, 2, 3])]);
            let found = regions.observe(with(conf_ver, stores)).unwrap();
            let known = regions.by_id(RegionId::new(1).unwrap()).unwrap();
            assert_eq!(known.region.peers.len(), stores.len(), "its leader knows best");
            found
        };
        let id = RegionId::new(1).unwrap();
        assert_eq!(second(3, &[1, 2, 3]), None);
        assert_eq!(second(3, &[3, 1, 2]), None, "the order means nothing");
        let changed = Contradiction::PeersChanged { region: id, conf_ver: 3 };
        assert_eq!(second(3, &[1, 2]), Some(changed));
        assert_eq!(second(3, &[1, 2, 4]), Some(changed));
        assert_eq!(second(4, &[1, 2, 3, 4]), None);
        assert_eq!(second(4, &[1, 3]), None);
        let at_once = Contradiction::PeersAtOnce { region: id, peers: 2, conf_ver: 4 };
        assert_eq!(second(4, &[1, 2, 4]), Some(at_once));
        assert_eq!(second(5, &[1, 2, 4]), None, "a version was not seen");

        let mut regions = regions([with(3, &[1])]);
        let found = regions.observe(report(2, "a", "b", 5)).unwrap();
        let other = RegionId::new(2).unwrap();
        let overlap = Contradiction::Overlap { region: other, other: id, version: 5 };
        assert_eq!(found, Some(overlap));
    }

    #[test]
    fn a_region_older_than_what_it_overlaps_is_refused() {
        let mut regions = regions([report(1, "", "", 5)]);
        regions.observe(report(9, "a", "b", 4)).unwrap_err();
        assert_eq!(ids(&regions), [1]);
        regions.observe(report(9, "a", "b", 5)).unwrap();
        assert_eq!(ids(&regions), [9]);
    }

    #[test]
    fn only_what_changed_is_unsaved() {
        let mut regions = three();
        let number = |regions: &mut Regions| regions.take_unsaved(10).len();
        assert_eq!(number(&mut regions), 3);
        regions.observe(RegionReport { keys: 5, ..report(2, "g", "p", 3) }).unwrap();
        assert_eq!(number(&mut regions), 0, "sizes are not saved");
        regions.observe(RegionReport { leader: None, ..report(2, "g", "p", 3) }).unwrap();
        assert_eq!(number(&mut regions), 1);
        regions.observe(report(1, "", "", 4)).unwrap();
        assert_eq!(regions.take_unsaved(2).len(), 2);
        assert_eq!(number(&mut regions), 1, "the two that are gone count as well");
    }

    proptest! {
        #[test]
        fn any_order_of_reports_leaves_regions_apart(
            reports in proptest::collection::vec((1..8_u64, 0..6_u8, 1..7_u8, 1..5_u64), 1..40),
        ) {
            let mut regions = Regions::default();
            for (id, start, length, version) in reports {
                let key = |at: u8| if at == 0 { Bytes::new() } else { Bytes::from(vec![at]) };
                let end = if start + length > 6 { Bytes::new() } else { key(start + length) };
                let mut report = report(id, "", "", version);
                report.region.range = KeyRange::new(key(start), end).unwrap();
                report.size_bytes = u64::from(length);
                report.pending = report.region.peers.clone();
                let _ = regions.observe(report);
                let all: Vec<_> = regions.iter().collect();
                let recount = StoreTally {
                    peers: all.len(),
                    leaders: all.len(),
                    pending: all.len(),
                    size_bytes: all.iter().map(|report| report.size_bytes).sum(),
                };
                prop_assert_eq!(regions.tally(StoreId::new(1).unwrap()), recount);
                prop_assert_eq!(all.len(), regions.len());
                for pair in all.windows(2) {
                    let (left, right) = (&pair[0].region.range, &pair[1].region.range);
                    prop_assert!(!left.end().is_empty() && left.end() <= right.start());
                }
                for at in 0..8 {
                    let key = key(at);
                    let holder = all.iter().find(|report| report.region.contains(&key));
                    prop_assert_eq!(regions.by_key(&key), holder.copied());
                }
            }
        }
    }
}
