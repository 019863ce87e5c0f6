//! What a log entry may contain, as bytes.
//!
//! ```text
//! entry  = kind(1) body
//! kind   = 1 write        body = varint(version) write*      write = varint(length) batch
//!          2 compact log  body = index(8) term(8)
//! change = conf_ver(8) varint(count) change*                 change = kind(1) peer(17)
//! ```
//!
//! A *write* holds the batches of one or more clients that were proposed under the same version of
//! the region's range; each is a [`WriteBatch`](kiva_engine::WriteBatch), byte for byte. A change
//! of members is an entry of consensus itself, and carries a [`ChangePeers`] as its context, so
//! that every replica judges it by the epoch when it is applied.
//!
//! Reads are not here: they skip the log (see [`crate::read`]).

use bytes::{BufMut, Bytes, BytesMut};
use kiva_base::codec::{DecodeError, decode_varint, encode_varint};
use kiva_base::{Peer, PeerRole};
use kiva_raft::{Change, EntryId, Index, Term};

use crate::meta::{Reader, encode_peer, node_id};

const WRITE: u8 = 1;
const COMPACT_LOG: u8 = 2;

const ADD_VOTER: u8 = 1;
const ADD_LEARNER: u8 = 2;
const REMOVE: u8 = 3;

/// A decoded entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Batches of clients, proposed when the region's range was of this version.
    Write {
        /// What the range must still be when it is applied.
        version: u64,
        /// Each a whole batch; slices of the entry.
        batches: Vec<Bytes>,
    },
    /// Entries up to this one will be sent to nobody any more. Judged by no epoch: it is about the
    /// log, not about the range.
    CompactLog {
        /// The last entry that may go.
        upto: EntryId,
    },
}

impl Command {
    /// The command in an entry.
    pub fn decode(entry: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader(entry);
        match reader.byte()? {
            WRITE => {
                let version = reader.varint()?;
                let mut at = entry.len() - reader.0.len();
                let mut batches = Vec::with_capacity(1);
                while at < entry.len() {
                    let (len, rest) = decode_varint(&entry[at..])?;
                    let start = entry.len() - rest.len();
                    let end = usize::try_from(len)
                        .ok()
                        .and_then(|len| start.checked_add(len))
                        .filter(|end| *end <= entry.len())
                        .ok_or(DecodeError::Truncated("a write"))?;
                    batches.push(entry.slice(start..end));
                    at = end;
                }
                Ok(Self::Write { version, batches })
            }
            COMPACT_LOG => {
                let index = Index(reader.number()?);
                let upto = EntryId::new(Term(reader.number()?), index);
                reader.end()?;
                Ok(Self::CompactLog { upto })
            }
            _ => Err(DecodeError::Malformed("a command of an unknown kind")),
        }
    }

    /// The bytes of an entry that lets the log be truncated.
    pub fn compact_log(upto: EntryId) -> Bytes {
        let mut bytes = BytesMut::with_capacity(17);
        bytes.put_u8(COMPACT_LOG);
        bytes.put_u64(upto.index.0);
        bytes.put_u64(upto.term.0);
        bytes.freeze()
    }
}

/// Gathers batches of clients into one entry.
#[derive(Debug)]
pub struct WriteEntry {
    bytes: Vec<u8>,
}

impl WriteEntry {
    /// For writes under this version of the range, with room for `bytes` of batches.
    pub fn new(version: u64, bytes: usize) -> Self {
        let mut entry = Vec::with_capacity(bytes + 16);
        entry.push(WRITE);
        encode_varint(version, &mut entry);
        Self { bytes: entry }
    }

    /// Adds a batch.
    pub fn push(&mut self, batch: &[u8]) {
        encode_varint(batch.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(batch);
    }

    /// The entry.
    pub fn finish(self) -> Bytes {
        self.bytes.into()
    }
}

/// One step of a change of peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerChange {
    /// The peer is added with its role, or gets it if it is there.
    Add(Peer),
    /// The peer is no member afterwards.
    Remove(Peer),
}

/// A change of peers that happens as one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangePeers {
    /// The `conf_ver` it was decided under; with any other it is refused.
    pub conf_ver: u64,
    /// At least one. More than one go through a joint configuration.
    pub changes: Vec<PeerChange>,
}

impl ChangePeers {
    /// The bytes that the entry carries.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(10 + self.changes.len() * 18);
        bytes.extend_from_slice(&self.conf_ver.to_be_bytes());
        encode_varint(self.changes.len() as u64, &mut bytes);
        for change in &self.changes {
            let (kind, peer) = match change {
                PeerChange::Add(peer) => match peer.role {
                    PeerRole::Voter => (ADD_VOTER, peer),
                    PeerRole::Learner => (ADD_LEARNER, peer),
                },
                PeerChange::Remove(peer) => (REMOVE, peer),
            };
            bytes.push(kind);
            encode_peer(peer, &mut bytes);
        }
        bytes.into()
    }

    /// What these bytes say.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        let conf_ver = reader.number()?;
        let mut changes = Vec::new();
        for _ in 0..reader.varint()? {
            let kind = reader.byte()?;
            let mut peer = reader.peer()?;
            changes.push(match kind {
                ADD_VOTER => {
                    peer.role = PeerRole::Voter;
                    PeerChange::Add(peer)
                }
                ADD_LEARNER => {
                    peer.role = PeerRole::Learner;
                    PeerChange::Add(peer)
                }
                REMOVE => PeerChange::Remove(peer),
                _ => return Err(DecodeError::Malformed("a change of peers of an unknown kind")),
            });
        }
        reader.end()?;
        if changes.is_empty() {
            return Err(DecodeError::Malformed("a change of no peers"));
        }
        Ok(Self { conf_ver, changes })
    }

    /// The same in the words of consensus.
    pub fn to_raft(&self) -> Vec<Change> {
        let change = |change: &PeerChange| match change {
            PeerChange::Add(peer) => match peer.role {
                PeerRole::Voter => Change::AddVoter(node_id(peer.id)),
                PeerRole::Learner => Change::AddLearner(node_id(peer.id)),
            },
            PeerChange::Remove(peer) => Change::Remove(node_id(peer.id)),
        };
        self.changes.iter().map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use kiva_base::{PeerId, StoreId};
    use proptest::prelude::*;

    use super::*;

    fn peer(id: u64, role: PeerRole) -> Peer {
        Peer { id: PeerId::new(id).unwrap(), store: StoreId::new(id).unwrap(), role }
    }

    #[test]
    fn commands_come_back_as_they_were() {
        let mut entry = WriteEntry::new(7, 8);
        entry.push(b"one");
        entry.push(b"");
        let entry = entry.finish();
        let batches = vec![Bytes::from("one"), Bytes::new()];
        assert_eq!(Command::decode(&entry), Ok(Command::Write { version: 7, batches }));
        assert!(Command::decode(&entry.slice(..entry.len() - 2)).is_err());

        let upto = EntryId::new(Term(3), Index(4));
        let compact = Command::compact_log(upto);
        assert_eq!(Command::decode(&compact), Ok(Command::CompactLog { upto }));
        assert!(Command::decode(&compact.slice(..9)).is_err());

        let change = ChangePeers {
            conf_ver: 5,
            changes: vec![
                PeerChange::Add(peer(1, PeerRole::Learner)),
                PeerChange::Remove(peer(2, PeerRole::Voter)),
            ],
        };
        assert_eq!(ChangePeers::decode(&change.encode()), Ok(change));
    }

    proptest! {
        #[test]
        fn rubbish_is_an_error_and_no_panic(bytes: Vec<u8>) {
            let _ = ChangePeers::decode(&bytes);
            let _ = Command::decode(&Bytes::from(bytes));
        }
    }
}
