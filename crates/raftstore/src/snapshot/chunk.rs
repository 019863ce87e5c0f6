//! [`Chunk`]: a piece of a snapshot that cannot be taken for another.
//!
//! ```text
//! chunk = format(1) kind(1) region(8) term(8) index(8) number(4) length(4) crc32(4) payload
//! head  = bytes(start) bytes(end) bytes(record)                          kind 'h', number 0
//! pairs = a part of pair*, cut anywhere                                  kind 'p'
//! tail  = chunks(4) pairs(8) bytes(8) digest(4)                          kind 't', the last number
//! pair  = family(1) bytes(key) bytes(value)
//! bytes = varint(length) byte*length
//! ```
//!
//! Numbers are big-endian. The checksum covers everything before it and the payload, so it also
//! vouches for which snapshot the chunk is of and for its place.

use bytes::Bytes;
use crc32fast::Hasher;
use kiva_base::codec::DecodeError;
use kiva_base::{KeyRange, RegionId};
use kiva_raft::{EntryId, Index, Term};

use super::{Id, Meta, Totals};
use crate::codec::{Input, encode_bytes};
use crate::limits::SNAPSHOT_CHUNK_SIZE_MAX;

const FORMAT: u8 = 1;

/// Bytes before the payload.
pub(super) const HEADER_SIZE: usize = 38;

/// Where the checksum stands in the header.
const CRC_AT: usize = 34;

/// Bytes of a whole tail chunk: where in a file it begins.
pub(super) const TAIL_SIZE: usize = HEADER_SIZE + 24;

/// What a chunk holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The [`Meta`]: the first chunk.
    Head,
    /// A part of the encoded pairs.
    Pairs,
    /// The [`Totals`]: the last chunk.
    Tail,
}

/// One piece of a snapshot, as it travels and as it lies in a file.
///
/// Invariant: the checksum is right, and the length is that of the payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    header: Header,
    bytes: Bytes,
}

/// What precedes a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) id: Id,
    pub(super) number: u32,
    pub(super) length: usize,
    pub(super) crc: u32,
}

/// Why bytes are not a chunk.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChunkError {
    /// Written by a version that knows more.
    #[error("a chunk has format {0}, this version reads {FORMAT}")]
    Format(u8),
    /// Cut off, or followed by something.
    #[error("a chunk of {expected} bytes has {found}")]
    Size {
        /// What its header says.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// More than any sender puts into one.
    #[error("a chunk says it has {0} bytes, the limit is {SNAPSHOT_CHUNK_SIZE_MAX}")]
    TooLarge(usize),
    /// Not what was sent.
    #[error("chunk {number} of snapshot {id} fails its checksum")]
    Checksum {
        /// The snapshot it seems to be of.
        id: Id,
        /// The place it seems to have.
        number: u32,
    },
    /// The checksum is right and the content makes no sense.
    #[error("a chunk cannot be read: {0}")]
    Malformed(#[from] DecodeError),
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Head => b'h',
            Self::Pairs => b'p',
            Self::Tail => b't',
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'h' => Some(Self::Head),
            b'p' => Some(Self::Pairs),
            b't' => Some(Self::Tail),
            _ => None,
        }
    }
}

impl Chunk {
    /// The chunk that these bytes are, checked.
    pub fn decode(bytes: Bytes) -> Result<Self, ChunkError> {
        let header = bytes
            .first_chunk::<HEADER_SIZE>()
            .ok_or(ChunkError::Size { expected: HEADER_SIZE, found: bytes.len() })?;
        let header = Header::decode(header)?;
        let expected = HEADER_SIZE + header.length;
        if bytes.len() != expected {
            return Err(ChunkError::Size { expected, found: bytes.len() });
        }
        if checksum(&bytes[..CRC_AT], &bytes[HEADER_SIZE..]) != header.crc {
            return Err(ChunkError::Checksum { id: header.id, number: header.number });
        }
        Ok(Self { header, bytes })
    }

    /// Which snapshot it is of.
    pub fn id(&self) -> Id {
        self.header.id
    }

    /// Its place, counted from 0.
    pub fn number(&self) -> u32 {
        self.header.number
    }

    /// What it holds.
    pub fn kind(&self) -> Kind {
        self.header.kind
    }

    /// What is sent, and what lies in a file.
    pub fn encoded(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_SIZE..)
    }

    pub(super) fn crc(&self) -> u32 {
        self.header.crc
    }

    /// What a head says.
    pub(super) fn meta(&self) -> Result<Meta, ChunkError> {
        if self.header.kind != Kind::Head {
            return Err(DecodeError::Malformed("the kind of the first chunk").into());
        }
        let mut input = Input::new(self.payload());
        let start = input.bytes("the start of a range")?;
        let end = input.bytes("the end of a range")?;
        let range = KeyRange::new(start, end).ok_or(DecodeError::Malformed("a range"))?;
        let record = input.bytes("the record of a snapshot")?;
        input.end("what follows a head")?;
        Ok(Meta { id: self.id(), range, record })
    }

    /// What a tail says.
    pub(super) fn totals(&self) -> Result<Totals, ChunkError> {
        let malformed = DecodeError::Malformed("the last chunk");
        if self.header.kind != Kind::Tail {
            return Err(malformed.into());
        }
        let payload = &self.bytes[HEADER_SIZE..];
        let (chunks, payload) = payload.split_first_chunk().ok_or(malformed)?;
        let (pairs, payload) = payload.split_first_chunk().ok_or(malformed)?;
        let (bytes, payload) = payload.split_first_chunk().ok_or(malformed)?;
        let digest = payload.try_into().map_err(|_| malformed)?;
        Ok(Totals {
            chunks: u32::from_be_bytes(*chunks),
            pairs: u64::from_be_bytes(*pairs),
            bytes: u64::from_be_bytes(*bytes),
            digest: u32::from_be_bytes(digest),
        })
    }
}

impl Header {
    /// Checked in itself only: the checksum needs the payload.
    pub(super) fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<Self, ChunkError> {
        let [format, kind, rest @ ..] = bytes;
        if *format != FORMAT {
            return Err(ChunkError::Format(*format));
        }
        let kind = Kind::from_byte(*kind).ok_or(DecodeError::Malformed("the kind of a chunk"))?;
        let long = |at: usize| {
            u64::from_be_bytes(rest[at..at + 8].try_into().expect("eight bytes were taken"))
        };
        let short = |at: usize| {
            u32::from_be_bytes(rest[at..at + 4].try_into().expect("four bytes were taken"))
        };
        let region = RegionId::new(long(0)).ok_or(DecodeError::Malformed("a region id"))?;
        let last = EntryId::new(Term(long(8)), Index(long(16)));
        let length = short(28) as usize;
        if length > SNAPSHOT_CHUNK_SIZE_MAX {
            return Err(ChunkError::TooLarge(length));
        }
        Ok(Self { kind, id: Id { region, last }, number: short(24), length, crc: short(32) })
    }
}

/// A chunk that is being filled.
pub(super) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    /// With room for that much payload.
    pub(super) fn with_capacity(payload: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_SIZE + payload);
        bytes.resize(HEADER_SIZE, 0);
        Self { bytes }
    }

    /// How much payload it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - HEADER_SIZE
    }

    /// Where payload is appended.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The chunk. Panics when there is more payload than fits: the caller counts it.
    pub(super) fn finish(mut self, kind: Kind, id: Id, number: u32) -> Chunk {
        let length = self.len();
        assert!(length <= SNAPSHOT_CHUNK_SIZE_MAX, "a chunk of {length} bytes is too large");
        let (header, payload) = self.bytes.split_at_mut(HEADER_SIZE);
        let fields = [
            &[FORMAT, kind.byte()][..],
            &id.region.get().to_be_bytes(),
            &id.last.term.0.to_be_bytes(),
            &id.last.index.0.to_be_bytes(),
            &number.to_be_bytes(),
            &(length as u32).to_be_bytes(),
        ];
        header[..CRC_AT].copy_from_slice(&fields.concat());
        let crc = checksum(&header[..CRC_AT], payload);
        header[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        let header = Header { kind, id, number, length, crc };
        Chunk { header, bytes: self.bytes.into() }
    }
}

pub(super) fn head(meta: &Meta) -> Chunk {
    let size = meta.range.start().len() + meta.range.end().len() + meta.record.len();
    let mut frame = Frame::with_capacity(size + 3 * 10);
    for bytes in [meta.range.start(), meta.range.end(), &meta.record] {
        encode_bytes(bytes, frame.payload());
    }
    frame.finish(Kind::Head, meta.id, 0)
}

pub(super) fn tail(id: Id, totals: Totals) -> Chunk {
    let mut frame = Frame::with_capacity(TAIL_SIZE - HEADER_SIZE);
    frame.payload().extend_from_slice(&totals.chunks.to_be_bytes());
    frame.payload().extend_from_slice(&totals.pairs.to_be_bytes());
    frame.payload().extend_from_slice(&totals.bytes.to_be_bytes());
    frame.payload().extend_from_slice(&totals.digest.to_be_bytes());
    frame.finish(Kind::Tail, id, totals.chunks - 1)
}

/// Adds up the chunks of a snapshot, on either side.
#[derive(Clone, Default)]
pub(super) struct Count {
    chunks: u32,
    bytes: u64,
    digest: Hasher,
}

impl Count {
    pub(super) fn add(&mut self, chunk: &Chunk) {
        // A stream that long is refused for its numbers, which cannot go on.
        self.chunks = self.chunks.saturating_add(1);
        if chunk.kind() == Kind::Pairs {
            self.bytes += chunk.header.length as u64;
        }
        self.digest.update(&chunk.crc().to_be_bytes());
    }

    /// How many chunks there were: the number of the next one.
    pub(super) fn chunks(&self) -> u32 {
        self.chunks
    }

    /// With the tail that comes now, and that many pairs.
    pub(super) fn totals(&self, pairs: u64) -> Totals {
        let digest = self.digest.clone().finalize();
        Totals { chunks: self.chunks.saturating_add(1), pairs, bytes: self.bytes, digest }
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}
