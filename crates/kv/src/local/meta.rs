//! What a store knows of itself, in the Local family.
//!
//! | key | value |
//! |---|---|
//! | `s` | format(1) cluster(8) store(8) api(1) |
//! | `r` region(8) | format(1) conf_ver(8) version(8) start end peers, see below |
//!
//! Numbers are big-endian; `start` and `end` are a varint length and the bytes; `peers` is a varint
//! count and for each `id(8) store(8) role(1)`.

use bytes::Bytes;
use kiva_base::api::ApiVersion;
use kiva_base::codec::{DecodeError, decode_varint, encode_varint};
use kiva_base::{ClusterId, Epoch, KeyRange, Peer, PeerId, PeerRole, Region, RegionId, StoreId};
use kiva_engine::{Cf, EngineError, Order, Snapshot, WriteBatch};

const FORMAT: u8 = 1;
const IDENT_KEY: &[u8] = b"s";
const REGION_PREFIX: &[u8] = b"r";

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

/// Why a store's metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
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
    match view.get(Cf::Local, IDENT_KEY)? {
        Some(bytes) => decode_ident(&bytes).map(Some).map_err(damaged("the store's identity")),
        None => Ok(None),
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

/// The regions that have a replica here, by id.
pub fn load_regions(view: &dyn Snapshot) -> Result<Vec<Region>, MetaError> {
    let mut records = view.iter(Cf::Local, &KeyRange::prefix(REGION_PREFIX), Order::Forward);
    let mut regions = Vec::new();
    while let Some((key, value)) = records.next()? {
        regions.push(decode_region(&key, &value).map_err(damaged("a region"))?);
    }
    Ok(regions)
}

fn region_key(region: RegionId) -> Vec<u8> {
    let mut key = REGION_PREFIX.to_vec();
    key.extend_from_slice(&region.get().to_be_bytes());
    key
}

/// Adds the removal of a region's metadata to `batch`.
pub fn remove_region(region: RegionId, batch: &mut WriteBatch) {
    batch.delete(Cf::Local, &region_key(region));
}

/// Adds the metadata of `region` to `batch`.
pub fn save_region(region: &Region, batch: &mut WriteBatch) {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&region.epoch.conf_ver.to_be_bytes());
    bytes.extend_from_slice(&region.epoch.version.to_be_bytes());
    for bound in [region.range.start(), region.range.end()] {
        encode_varint(bound.len() as u64, &mut bytes);
        bytes.extend_from_slice(bound);
    }
    encode_varint(region.peers.len() as u64, &mut bytes);
    for peer in &region.peers {
        bytes.extend_from_slice(&peer.id.get().to_be_bytes());
        bytes.extend_from_slice(&peer.store.get().to_be_bytes());
        bytes.push(match peer.role {
            PeerRole::Voter => 0,
            PeerRole::Learner => 1,
        });
    }
    batch.put(Cf::Local, &region_key(region.id), &bytes);
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

fn decode_region(key: &[u8], bytes: &[u8]) -> Result<Region, DecodeError> {
    let mut reader = Reader(key.get(REGION_PREFIX.len()..).unwrap_or_default());
    let id = RegionId::new(reader.number()?).ok_or(ZERO_ID)?;
    reader.end()?;
    let mut reader = Reader(bytes);
    reader.format()?;
    let epoch = Epoch { conf_ver: reader.number()?, version: reader.number()? };
    let (start, end) = (reader.bytes()?, reader.bytes()?);
    let range = KeyRange::new(start, end).ok_or(DecodeError::Malformed("a region's range"))?;
    let mut peers = Vec::new();
    for _ in 0..reader.varint()? {
        peers.push(Peer {
            id: PeerId::new(reader.number()?).ok_or(ZERO_ID)?,
            store: StoreId::new(reader.number()?).ok_or(ZERO_ID)?,
            role: match reader.byte()? {
                0 => PeerRole::Voter,
                1 => PeerRole::Learner,
                _ => return Err(DecodeError::Malformed("a peer's role")),
            },
        });
    }
    reader.end()?;
    Ok(Region { id, range, epoch, peers })
}

const ZERO_ID: DecodeError = DecodeError::Malformed("an id");

/// Takes fields off the front of a record.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn format(&mut self) -> Result<(), DecodeError> {
        match self.byte()? {
            FORMAT => Ok(()),
            _ => Err(DecodeError::Malformed("the format, which is newer than this version,")),
        }
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.0.split_first().ok_or(DecodeError::Truncated("a record"))?;
        self.0 = rest;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated("a record"))?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let (number, rest) = decode_varint(self.0)?;
        self.0 = rest;
        Ok(number)
    }

    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.varint()?;
        let (bytes, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or(DecodeError::Truncated("a record"))?;
        self.0 = rest;
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed("what follows a record"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn region() -> Region {
        let peer = |id, store, role| Peer {
            id: PeerId::new(id).unwrap(),
            store: StoreId::new(store).unwrap(),
            role,
        };
        Region {
            id: RegionId::new(9).unwrap(),
            range: KeyRange::new("a", "").unwrap(),
            epoch: Epoch { conf_ver: 3, version: 4 },
            peers: vec![peer(1, 2, PeerRole::Voter), peer(3, 4, PeerRole::Learner)],
        }
    }

    fn only_put(batch: &WriteBatch) -> (Vec<u8>, Vec<u8>) {
        match batch.ops().next() {
            Some(kiva_engine::Op::Put { key, value, .. }) => (key.to_vec(), value.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn metadata_comes_back_as_it_was() {
        let mut batch = WriteBatch::new();
        save_region(&region(), &mut batch);
        let (key, value) = only_put(&batch);
        assert_eq!(decode_region(&key, &value), Ok(region()));
        for cut in 0..value.len() {
            assert!(decode_region(&key, &value[..cut]).is_err());
        }
        let ident = StoreIdent {
            cluster: ClusterId::new(5).unwrap(),
            store: StoreId::new(6).unwrap(),
            api: ApiVersion::V1Ttl,
        };
        let mut batch = WriteBatch::new();
        save_ident(&ident, &mut batch);
        assert_eq!(decode_ident(&only_put(&batch).1), Ok(ident));
    }

    proptest! {
        #[test]
        fn damaged_metadata_is_an_error_and_no_panic(key: Vec<u8>, value: Vec<u8>) {
            let _ = decode_region(&key, &value);
            let _ = decode_ident(&value);
        }
    }
}
