//! What a store knows of itself and of its regions, in the Local family of `data`.
//!
//! | key | value |
//! |---|---|
//! | `s` | format(1) cluster(8) store(8) api(1) |
//! | `r` region(8) | format(1) conf_ver(8) version(8) start end peers members |
//! | `a` region(8) | format(1) applied index(8) term(8) truncated index(8) term(8) |
//!
//! Numbers are big-endian; `start` and `end` are a varint length and the bytes; `peers` is a varint
//! count and for each `id(8) store(8) role(1)`; `members` is a [`Membership`] as
//! [`crate::codec`] writes it.
//!
//! The last two change in the same batch as what they describe, so whoever takes a snapshot of the
//! engine knows exactly which entry it is of. Tombstones are not here but in the log, which is
//! synced.

use bytes::Bytes;
use kiva_base::api::ApiVersion;
use kiva_base::codec::{DecodeError, decode_varint, encode_varint};
use kiva_base::{ClusterId, Epoch, KeyRange, Peer, PeerId, PeerRole, Region, RegionId, StoreId};
use kiva_engine::{Cf, EngineError, Order, Snapshot, WriteBatch};
use kiva_raft::{EntryId, Index, Membership, NodeId, Term};

use crate::codec;

const FORMAT: u8 = 2;
const IDENT_KEY: &[u8] = b"s";
const REGION_PREFIX: &[u8] = b"r";
const APPLY_PREFIX: &[u8] = b"a";

/// Where the log of a region that is born whole begins. Above zero, so that a peer that is made
/// from nothing later, and stands at zero, is never taken for one that has the first data.
pub const FIRST: EntryId = EntryId::new(Term(5), Index(5));

/// Which store of which cluster a directory belongs to. Written once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreIdent {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store.
    pub store: StoreId,
    /// The mode in which its raw values are stored.
    pub api: ApiVersion,
}

/// A region as one of its replicas stores it.
///
/// Invariants:
/// - `membership` lists exactly the ids of the region's peers.
/// - The two change together, and every change raises `conf_ver`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionRecord {
    /// Range, epoch and peers.
    pub region: Region,
    /// Who counts in which majority.
    pub membership: Membership,
}

impl RegionRecord {
    /// A region outside of any change of members.
    pub fn settled(region: Region) -> Self {
        let of = |role: PeerRole| {
            let peers = region.peers.iter().filter(move |peer| peer.role == role);
            peers.map(|peer| node_id(peer.id)).collect::<Vec<_>>()
        };
        let membership = Membership::new(of(PeerRole::Voter), of(PeerRole::Learner));
        Self { region, membership }
    }
}

/// How far a region's log has been executed here, and from where on its entries are still of use.
///
/// Invariant: `truncated.index <= applied.index`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplyState {
    /// The last entry whose effect `data` has.
    pub applied: EntryId,
    /// The last entry that nobody will be sent again; its term is what precedes the first one.
    pub truncated: EntryId,
}

/// The name of a peer inside its group.
pub fn node_id(peer: PeerId) -> NodeId {
    NodeId::new(peer.get()).expect("ids are not zero")
}

/// The peer that a group knows by this name.
pub fn peer_id(node: NodeId) -> PeerId {
    PeerId::new(node.get()).expect("ids are not zero")
}

/// Why a store's metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Another version wrote this directory.
    #[error(
        "this directory has format {found}, this version of kiva reads format {FORMAT}: open it \
         with the version that wrote it, or start the store on an empty directory"
    )]
    OtherFormat {
        /// The directory's.
        found: u8,
    },
    /// A record that this version could not have written.
    #[error("the metadata of this store is damaged, in {record}: {source}")]
    Damaged {
        /// Which record.
        record: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
}

fn damaged(record: &'static str) -> impl Fn(DecodeError) -> MetaError {
    move |source| MetaError::Damaged { record, source }
}

/// Which store this directory belongs to; `None` when it is new.
pub fn load_ident(view: &dyn Snapshot) -> Result<Option<StoreIdent>, MetaError> {
    let Some(bytes) = view.get(Cf::Local, IDENT_KEY)? else {
        return Ok(None);
    };
    match bytes.first() {
        // All records of a directory have the format of the first one that is written.
        Some(&found) if found != FORMAT => Err(MetaError::OtherFormat { found }),
        _ => decode_ident(&bytes).map(Some).map_err(damaged("the store's identity")),
    }
}

/// Adds the identity to `batch`.
pub fn save_ident(ident: &StoreIdent, batch: &mut WriteBatch) {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&ident.cluster.get().to_be_bytes());
    bytes.extend_from_slice(&ident.store.get().to_be_bytes());
    bytes.push(match ident.api {
        ApiVersion::V1 => 1,
        ApiVersion::V1Ttl => 11,
        ApiVersion::V2 => 2,
    });
    batch.put(Cf::Local, IDENT_KEY, &bytes);
}

/// The regions that have an initialised replica here, by id.
pub fn load_regions(view: &dyn Snapshot) -> Result<Vec<(RegionRecord, ApplyState)>, MetaError> {
    let mut records = view.iter(Cf::Local, &KeyRange::prefix(REGION_PREFIX), Order::Forward);
    let mut regions = Vec::new();
    while let Some((key, value)) = records.next()? {
        let id = region_of(&key).map_err(damaged("a region"))?;
        let record = decode_region(id, &value).map_err(damaged("a region"))?;
        let state = load_apply_state(view, id)?.ok_or(MetaError::Damaged {
            record: "the apply state of a region",
            source: DecodeError::Truncated("a record"),
        })?;
        regions.push((record, state));
    }
    Ok(regions)
}

/// One region; `None` when it has no initialised replica here.
pub fn load_region(
    view: &dyn Snapshot,
    region: RegionId,
) -> Result<Option<RegionRecord>, MetaError> {
    let Some(bytes) = view.get(Cf::Local, &key_of(REGION_PREFIX, region))? else {
        return Ok(None);
    };
    decode_region(region, &bytes).map(Some).map_err(damaged("a region"))
}

/// How far a region has been applied.
pub fn load_apply_state(
    view: &dyn Snapshot,
    region: RegionId,
) -> Result<Option<ApplyState>, MetaError> {
    let Some(bytes) = view.get(Cf::Local, &key_of(APPLY_PREFIX, region))? else {
        return Ok(None);
    };
    decode_apply(&bytes).map(Some).map_err(damaged("the apply state of a region"))
}

/// How far every region has been applied, by id.
pub fn load_apply_states(view: &dyn Snapshot) -> Result<Vec<(RegionId, ApplyState)>, MetaError> {
    let mut records = view.iter(Cf::Local, &KeyRange::prefix(APPLY_PREFIX), Order::Forward);
    let mut states = Vec::new();
    let damaged = damaged("the apply state of a region");
    while let Some((key, value)) = records.next()? {
        let region = region_of(&key).map_err(&damaged)?;
        states.push((region, decode_apply(&value).map_err(&damaged)?));
    }
    Ok(states)
}

/// Adds a region's record to `batch`.
pub fn save_region(record: &RegionRecord, batch: &mut WriteBatch) {
    batch.put(Cf::Local, &key_of(REGION_PREFIX, record.region.id), &encode_region(record));
}

/// Adds a region that begins its life with a replica here, without data, to `batch`.
pub fn save_born(region: Region, batch: &mut WriteBatch) {
    save_apply_state(region.id, ApplyState { applied: FIRST, truncated: FIRST }, batch);
    save_region(&RegionRecord::settled(region), batch);
}

/// The key and value of a region's record and of its apply state, for an ingestion.
pub fn items(record: &RegionRecord, state: ApplyState) -> [(Vec<u8>, Vec<u8>); 2] {
    let id = record.region.id;
    // In key order: `a` before `r`.
    [
        (key_of(APPLY_PREFIX, id), encode_apply(state)),
        (key_of(REGION_PREFIX, id), encode_region(record)),
    ]
}

/// Adds a region's apply state to `batch`.
pub fn save_apply_state(region: RegionId, state: ApplyState, batch: &mut WriteBatch) {
    batch.put(Cf::Local, &key_of(APPLY_PREFIX, region), &encode_apply(state));
}

/// Adds the removal of all that is stored about a region to `batch`.
pub fn remove_region(region: RegionId, batch: &mut WriteBatch) {
    batch.delete(Cf::Local, &key_of(APPLY_PREFIX, region));
    batch.delete(Cf::Local, &key_of(REGION_PREFIX, region));
}

fn key_of(prefix: &[u8], region: RegionId) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(&region.get().to_be_bytes());
    key
}

fn region_of(key: &[u8]) -> Result<RegionId, DecodeError> {
    let mut reader = Reader(key.get(1..).unwrap_or_default());
    let id = RegionId::new(reader.number()?).ok_or(ZERO_ID)?;
    reader.end()?;
    Ok(id)
}

/// The bytes of a region's record, which snapshots carry too.
pub fn encode_region(record: &RegionRecord) -> Vec<u8> {
    let RegionRecord { region, membership } = record;
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&region.epoch.conf_ver.to_be_bytes());
    bytes.extend_from_slice(&region.epoch.version.to_be_bytes());
    for bound in [region.range.start(), region.range.end()] {
        encode_varint(bound.len() as u64, &mut bytes);
        bytes.extend_from_slice(bound);
    }
    encode_varint(region.peers.len() as u64, &mut bytes);
    region.peers.iter().for_each(|peer| encode_peer(peer, &mut bytes));
    codec::encode_membership(membership, &mut bytes);
    bytes
}

/// Appends a peer in 17 bytes.
pub(crate) fn encode_peer(peer: &Peer, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&peer.id.get().to_be_bytes());
    bytes.extend_from_slice(&peer.store.get().to_be_bytes());
    bytes.push(match peer.role {
        PeerRole::Voter => 0,
        PeerRole::Learner => 1,
    });
}

/// The region that these bytes describe.
pub fn decode_region(id: RegionId, bytes: &Bytes) -> Result<RegionRecord, DecodeError> {
    let mut reader = Reader(bytes);
    reader.format()?;
    let epoch = Epoch { conf_ver: reader.number()?, version: reader.number()? };
    let (start, end) = (reader.bytes()?, reader.bytes()?);
    let range = KeyRange::new(start, end).ok_or(DecodeError::Malformed("a region's range"))?;
    let mut peers = Vec::new();
    for _ in 0..reader.varint()? {
        peers.push(reader.peer()?);
    }
    let mut input = codec::Input::new(bytes.slice(bytes.len() - reader.0.len()..));
    let membership = codec::decode_membership(&mut input)?;
    input.end("what follows a record")?;
    Ok(RegionRecord { region: Region { id, range, epoch, peers }, membership })
}

fn encode_apply(state: ApplyState) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    for id in [state.applied, state.truncated] {
        bytes.extend_from_slice(&id.index.0.to_be_bytes());
        bytes.extend_from_slice(&id.term.0.to_be_bytes());
    }
    bytes
}

fn decode_apply(bytes: &[u8]) -> Result<ApplyState, DecodeError> {
    let mut reader = Reader(bytes);
    reader.format()?;
    let mut id = || {
        let index = Index(reader.number()?);
        Ok(EntryId::new(Term(reader.number()?), index))
    };
    let state = ApplyState { applied: id()?, truncated: id()? };
    reader.end()?;
    if state.truncated.index > state.applied.index {
        return Err(DecodeError::Malformed("a log truncated beyond what is applied"));
    }
    Ok(state)
}

fn decode_ident(bytes: &[u8]) -> Result<StoreIdent, DecodeError> {
    let mut reader = Reader(bytes);
    reader.format()?;
    let ident = StoreIdent {
        cluster: ClusterId::new(reader.number()?).ok_or(ZERO_ID)?,
        store: StoreId::new(reader.number()?).ok_or(ZERO_ID)?,
        api: match reader.byte()? {
            1 => ApiVersion::V1,
            11 => ApiVersion::V1Ttl,
            2 => ApiVersion::V2,
            _ => return Err(DecodeError::Malformed("an API version")),
        },
    };
    reader.end()?;
    Ok(ident)
}

const ZERO_ID: DecodeError = DecodeError::Malformed("an id");

/// Takes fields off the front of a record.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    fn format(&mut self) -> Result<(), DecodeError> {
        match self.byte()? {
            FORMAT => Ok(()),
            _ => Err(DecodeError::Malformed("the format, which is another version's,")),
        }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.0.split_first().ok_or(DecodeError::Truncated("a record"))?;
        self.0 = rest;
        Ok(byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated("a record"))?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let (number, rest) = decode_varint(self.0)?;
        self.0 = rest;
        Ok(number)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.varint()?;
        let (bytes, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or(DecodeError::Truncated("a record"))?;
        self.0 = rest;
        Ok(Bytes::copy_from_slice(bytes))
    }

    pub(crate) fn peer(&mut self) -> Result<Peer, DecodeError> {
        Ok(Peer {
            id: PeerId::new(self.number()?).ok_or(ZERO_ID)?,
            store: StoreId::new(self.number()?).ok_or(ZERO_ID)?,
            role: match self.byte()? {
                0 => PeerRole::Voter,
                1 => PeerRole::Learner,
                _ => return Err(DecodeError::Malformed("a peer's role")),
            },
        })
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed("what follows a record"))
        }
    }
}

#[cfg(test)]
mod tests {
    use kiva_engine::memory::MemoryEngine;
    use kiva_engine::{Engine, Op};
    use proptest::prelude::*;

    use super::*;

    fn record() -> RegionRecord {
        let peer = |id, store, role| Peer {
            id: PeerId::new(id).unwrap(),
            store: StoreId::new(store).unwrap(),
            role,
        };
        RegionRecord::settled(Region {
            id: RegionId::new(9).unwrap(),
            range: KeyRange::new("a", "").unwrap(),
            epoch: Epoch { conf_ver: 3, version: 4 },
            peers: vec![peer(1, 2, PeerRole::Voter), peer(3, 4, PeerRole::Learner)],
        })
    }

    fn only_put(batch: &WriteBatch) -> (Vec<u8>, Vec<u8>) {
        match batch.ops().next() {
            Some(Op::Put { key, value, .. }) => (key.to_vec(), value.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn metadata_comes_back_as_it_was() {
        let record = record();
        let bytes = Bytes::from(encode_region(&record));
        assert_eq!(decode_region(record.region.id, &bytes), Ok(record.clone()));
        for cut in 0..bytes.len() {
            assert!(decode_region(record.region.id, &bytes.slice(..cut)).is_err(), "cut at {cut}");
        }
        let ident = StoreIdent {
            cluster: ClusterId::new(5).unwrap(),
            store: StoreId::new(6).unwrap(),
            api: ApiVersion::V1Ttl,
        };
        let mut batch = WriteBatch::new();
        save_ident(&ident, &mut batch);
        assert_eq!(decode_ident(&only_put(&batch).1), Ok(ident));
        let state = ApplyState { applied: EntryId::new(Term(7), Index(9)), truncated: FIRST };
        assert_eq!(decode_apply(&encode_apply(state)), Ok(state));
        let backwards = ApplyState { applied: state.truncated, truncated: state.applied };
        assert!(decode_apply(&encode_apply(backwards)).is_err());
    }

    #[test]
    fn the_directory_of_another_version_is_named_as_such() {
        let engine = MemoryEngine::new();
        let mut batch = WriteBatch::new();
        batch.put(Cf::Local, IDENT_KEY, &[1, 0, 0, 0]);
        engine.write(&batch).unwrap();
        let error = load_ident(&*engine.snapshot()).unwrap_err().to_string();
        assert!(error.contains("has format 1") && error.contains("empty directory"), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_metadata_is_an_error_and_no_panic(value: Vec<u8>) {
            let _ = decode_ident(&value);
            let _ = decode_apply(&value);
            let _ = decode_region(RegionId::new(1).unwrap(), &Bytes::from(value));
        }
    }
}
