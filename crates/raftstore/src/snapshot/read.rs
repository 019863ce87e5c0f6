//! [`Pairs`]: the pairs of a received file, each chunk checked again as it is read.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kiva_base::codec::{DecodeError, decode_varint};
use kiva_engine::limits::{KEY_SIZE_MAX, VALUE_SIZE_MAX};
use kiva_engine::{Cf, EngineError};

use super::FAMILIES;
use super::chunk::{Chunk, Count, HEADER_SIZE, Header, Kind};
use super::folder::Stored;
use crate::disk::{DiskFile, FileName};

/// The pairs of a snapshot in their order. Holds one chunk and one pair at a time.
///
/// It gives nothing that is outside of the snapshot's range, in another family, or not above what
/// it gave before; and it only ends without an error when everything added up. An error, which is
/// of the kind `Damaged` or `Io`, bars the file: it may be sent again.
pub struct Pairs {
    file: Arc<dyn DiskFile>,
    name: FileName,
    stored: Arc<Stored>,
    /// Where the next chunk begins.
    offset: u64,
    count: Count,
    /// Of chunks that were read, what is not given yet.
    buffer: Bytes,
    pairs: u64,
    last: Option<(Cf, Bytes)>,
    is_at_end: bool,
}

impl Pairs {
    pub(super) fn new(file: Arc<dyn DiskFile>, name: FileName, stored: Arc<Stored>) -> Self {
        Self {
            file,
            name,
            stored,
            offset: 0,
            count: Count::default(),
            buffer: Bytes::new(),
            pairs: 0,
            last: None,
            is_at_end: false,
        }
    }

    /// The next family, key and value; `None` at the end.
    pub fn next_pair(&mut self) -> Result<Option<(Cf, Bytes, Bytes)>, EngineError> {
        let next = self.advance();
        if next.is_err() {
            self.stored.report_damage();
        }
        next
    }

    fn advance(&mut self) -> Result<Option<(Cf, Bytes, Bytes)>, EngineError> {
        loop {
            if let Some(pair) = self.take_pair()? {
                self.check(&pair)?;
                self.pairs += 1;
                return Ok(Some(pair));
            }
            if self.is_at_end {
                return Ok(None);
            }
            self.read_chunk()?;
        }
    }

    /// The first pair of the buffer; `None` when it is not all there.
    fn take_pair(&mut self) -> Result<Option<(Cf, Bytes, Bytes)>, EngineError> {
        let Some(layout) = layout(&self.buffer).map_err(|what| self.damaged(what))? else {
            return Ok(None);
        };
        let mut pair = self.buffer.split_to(layout.size);
        let value = pair.split_off(layout.size - layout.value_size);
        let key = pair.slice(layout.key_at..layout.key_at + layout.key_size);
        Ok(Some((layout.cf, key, value)))
    }

    fn check(&mut self, (cf, key, _): &(Cf, Bytes, Bytes)) -> Result<(), EngineError> {
        if !self.stored.meta.range.contains(key) {
            return Err(self.damaged("a key lies outside of its range"));
        }
        let position = Some((*cf, key.clone()));
        if self.last >= position {
            return Err(self.damaged("its keys do not ascend"));
        }
        self.last = position;
        Ok(())
    }

    /// Reads the next chunk. The last one has to say what was read before it.
    fn read_chunk(&mut self) -> Result<(), EngineError> {
        let chunk = read_at(&*self.file, self.offset).map_err(|error| self.failed(error))?;
        if chunk.id() != self.stored.meta.id || chunk.number() != self.count.chunks() {
            return Err(self.damaged("a chunk is in the wrong place"));
        }
        match chunk.kind() {
            Kind::Head if chunk.number() == 0 => {}
            Kind::Pairs if chunk.number() > 0 => self.append(chunk.payload()),
            Kind::Tail => {
                let adds_up = chunk.totals() == Ok(self.count.totals(self.pairs));
                if !adds_up || !self.buffer.is_empty() {
                    return Err(self.damaged("its chunks do not add up"));
                }
                self.is_at_end = true;
            }
            Kind::Head | Kind::Pairs => return Err(self.damaged("a chunk has the wrong kind")),
        }
        self.offset += chunk.encoded().len() as u64;
        self.count.add(&chunk);
        Ok(())
    }

    /// A pair that spans chunks is put together; all others are parts of their chunk.
    fn append(&mut self, payload: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = payload;
            return;
        }
        let mut joined = match std::mem::take(&mut self.buffer).try_into_mut() {
            Ok(joined) => joined,
            Err(shared) => BytesMut::from(&shared[..]),
        };
        joined.extend_from_slice(&payload);
        self.buffer = joined.freeze();
    }

    fn damaged(&self, reason: impl Into<String>) -> EngineError {
        EngineError::Damaged { path: PathBuf::from(self.name.as_str()), reason: reason.into() }
    }

    fn failed(&self, error: ReadError) -> EngineError {
        match error {
            ReadError::Io(source) => {
                let path = PathBuf::from(self.name.as_str());
                EngineError::Io { action: "read", path, source }
            }
            ReadError::Damaged(reason) => self.damaged(reason),
        }
    }
}

/// Why a chunk could not be read from a file.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(std::io::Error),
    Damaged(String),
}

/// The chunk that begins at `offset`.
pub(super) fn read_at(file: &dyn DiskFile, offset: u64) -> Result<Chunk, ReadError> {
    let read = |buffer: &mut [u8], offset| {
        file.read_at(offset, buffer).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ReadError::Damaged("it is cut off".into()),
            _ => ReadError::Io(error),
        })
    };
    let mut header = [0; HEADER_SIZE];
    read(&mut header, offset)?;
    let length =
        Header::decode(&header).map_err(|error| ReadError::Damaged(error.to_string()))?.length;
    let mut bytes = vec![0; HEADER_SIZE + length];
    let (start, payload) = bytes.split_at_mut(HEADER_SIZE);
    start.copy_from_slice(&header);
    read(payload, offset + HEADER_SIZE as u64)?;
    Chunk::decode(bytes.into()).map_err(|error| ReadError::Damaged(error.to_string()))
}

/// Where in the encoding of a pair its parts are.
struct Layout {
    cf: Cf,
    key_at: usize,
    key_size: usize,
    value_size: usize,
    size: usize,
}

/// That of the pair at the front; `None` when it is not all there.
fn layout(bytes: &[u8]) -> Result<Option<Layout>, &'static str> {
    let Some((&family, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let cf = Cf::from_byte(family)
        .filter(|cf| FAMILIES.contains(cf))
        .ok_or("a pair is in no family that travels")?;
    let Some((key_size, rest)) = size(rest, KEY_SIZE_MAX)? else {
        return Ok(None);
    };
    let key_at = bytes.len() - rest.len();
    let Some(rest) = rest.get(key_size..) else {
        return Ok(None);
    };
    let Some((value_size, rest)) = size(rest, VALUE_SIZE_MAX)? else {
        return Ok(None);
    };
    if rest.len() < value_size {
        return Ok(None);
    }
    let size = bytes.len() - rest.len() + value_size;
    Ok(Some(Layout { cf, key_at, key_size, value_size, size }))
}

/// A length and what follows it; `None` when it is cut off. The limit bounds how much is gathered
/// for one pair.
fn size(bytes: &[u8], limit: usize) -> Result<Option<(usize, &[u8])>, &'static str> {
    match decode_varint(bytes) {
        Ok((size, rest)) if size <= limit as u64 => Ok(Some((size as usize, rest))),
        Ok(_) => Err("a key or value is too long"),
        Err(DecodeError::Truncated(_)) => Ok(None),
        Err(DecodeError::Malformed(_)) => Err("a length is malformed"),
    }
}
