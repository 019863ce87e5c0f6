//! [`Builder`]: a view of the engine becomes chunks, one at a time.

use std::mem;
use std::sync::Arc;

use kiva_base::codec::encode_varint;
use kiva_engine::{EngineError, Iter, Order, Snapshot};

use super::chunk::{self, Chunk, Count, Frame, Kind};
use super::{FAMILIES, Meta};
use crate::limits::{SNAPSHOT_CHUNK_SIZE, SNAPSHOT_CHUNK_SIZE_MAX};

/// A snapshot on its way out. It reads the engine only as fast as chunks are taken from it.
///
/// Invariants:
/// - The view is that of the entry in `meta`: whoever makes a builder vouches for it.
/// - `rest[rest_at..]` is what the last pair that was read has left over.
pub struct Builder {
    meta: Meta,
    view: Arc<dyn Snapshot>,
    chunk_size: usize,
    stage: Stage,
    rest: Vec<u8>,
    rest_at: usize,
    pairs: u64,
    count: Count,
}

/// What comes next.
enum Stage {
    Head,
    /// The family at this position; no iterator yet, or what is left of it.
    Pairs(usize, Option<Box<dyn Iter>>),
    End,
}

impl Builder {
    /// A snapshot of `view`, which is the state after the entry that `meta` names.
    ///
    /// # Panics
    /// When `meta` does not fit into a chunk.
    pub fn new(view: Arc<dyn Snapshot>, meta: Meta) -> Self {
        Self::with_chunk_size(view, meta, SNAPSHOT_CHUNK_SIZE)
    }

    /// As [`new`](Self::new), with other chunks than usual.
    ///
    /// # Panics
    /// When `meta` does not fit into a chunk, or chunks of this size would not be taken.
    pub fn with_chunk_size(view: Arc<dyn Snapshot>, meta: Meta, chunk_size: usize) -> Self {
        assert!(
            (1..=SNAPSHOT_CHUNK_SIZE_MAX).contains(&chunk_size),
            "chunks of {chunk_size} bytes"
        );
        Self {
            meta,
            view,
            chunk_size,
            stage: Stage::Head,
            rest: Vec::new(),
            rest_at: 0,
            pairs: 0,
            count: Count::default(),
        }
    }

    /// What it is a snapshot of.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The next chunk; `None` behind the last. An error ends it: a snapshot without its tail is
    /// none, and whoever wants it begins anew.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, EngineError> {
        match self.advance() {
            Ok(Some(chunk)) => {
                self.count.add(&chunk);
                Ok(Some(chunk))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.stage = Stage::End;
                Err(error)
            }
        }
    }

    fn advance(&mut self) -> Result<Option<Chunk>, EngineError> {
        match self.stage {
            Stage::Head => {
                self.stage = Stage::Pairs(0, None);
                Ok(Some(chunk::head(&self.meta)))
            }
            Stage::Pairs(..) => {
                let frame = self.fill()?;
                if frame.len() > 0 {
                    let number = self.count.chunks();
                    return Ok(Some(frame.finish(Kind::Pairs, self.meta.id, number)));
                }
                self.stage = Stage::End;
                Ok(Some(chunk::tail(self.meta.id, self.count.totals(self.pairs))))
            }
            Stage::End => Ok(None),
        }
    }

    /// As many bytes of pairs as fit; fewer only at the end.
    fn fill(&mut self) -> Result<Frame, EngineError> {
        let mut frame = Frame::with_capacity(self.chunk_size);
        loop {
            let room = self.chunk_size - frame.len();
            let rest = &self.rest[self.rest_at..];
            let taken = rest.len().min(room);
            frame.payload().extend_from_slice(&rest[..taken]);
            self.rest_at += taken;
            if taken == room || !self.read_pair()? {
                return Ok(frame);
            }
        }
    }

    /// Encodes the next pair into `rest`; whether there was one.
    fn read_pair(&mut self) -> Result<bool, EngineError> {
        let Stage::Pairs(position, iter) = &mut self.stage else {
            return Ok(false);
        };
        while let Some(&cf) = FAMILIES.get(*position) {
            let view = &self.view;
            let range = &self.meta.range;
            let pairs = iter.get_or_insert_with(|| view.iter(cf, range, Order::Forward));
            if let Some((key, value)) = pairs.next()? {
                let mut rest = mem::take(&mut self.rest);
                rest.clear();
                rest.push(cf.byte());
                for bytes in [&key, &value] {
                    encode_varint(bytes.len() as u64, &mut rest);
                    rest.extend_from_slice(bytes);
                }
                self.rest = rest;
                self.rest_at = 0;
                self.pairs += 1;
                return Ok(true);
            }
            *position += 1;
            *iter = None;
        }
        Ok(false)
    }
}
