//! The library's journal, read by us: to verify it before the library does, and to know where it
//! ends when it is synced.
//!
//! ```text
//! journal = batch* zeros                                 numbers are little-endian
//! batch   = 01 count(4) seqno(8)  item*count  03 xxh3(8) "FJL" 03
//! item    = 02 kind(1) compression(1) tree(8) key_len(2) value_len(4) stored_len(4) key stored
//!         | 04 tree(8)
//! ```
//!
//! The checksum covers the items. It does not cover the sequence number, but that grows from batch
//! to batch, over all journals. A file is made with 64 MiB of zeros and filled from the front; one
//! that was opened again has been cut behind its last batch and grows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;

const START_SIZE: usize = 1 + 4 + 8;
const ITEM_SIZE: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
const CLEAR_SIZE: usize = 1 + 8;
const END_SIZE: usize = 1 + 8 + TRAILER.len();

/// What ends a batch, and what a `version` file holds.
pub(super) const TRAILER: &[u8] = b"FJL\x03";

/// How much is read at once.
const BLOCK: usize = 64 * 1024;

/// What the reader met where it stands.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Met {
    /// A whole batch, with this sequence number; the reader stands behind it.
    Batch { seqno: u64 },
    /// Nothing but zeros, to the end of the file.
    End,
    /// Bytes that are no batch.
    Garbage { reason: &'static str },
}

/// Reads batches one by one.
///
/// Invariant: every byte before `position` belongs to a batch that is whole.
pub(super) struct Reader<'a> {
    file: &'a File,
    /// Where in the file the window begins.
    position: u64,
    window: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// From `position`, which is the start of the file or the end of a batch.
    pub(super) fn new(file: &'a File, position: u64) -> Self {
        Self { file, position, window: Vec::new() }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Goes behind the batches that follow, and does not ask what comes after them.
    pub(super) fn skip_batches(&mut self) -> io::Result<()> {
        while let Ok((_, size)) = self.batch()? {
            self.skip(size);
        }
        Ok(())
    }

    /// The next batch, or what stands there instead: the rest of the file is read to tell.
    pub(super) fn next(&mut self) -> io::Result<Met> {
        match self.batch()? {
            Ok((seqno, size)) => {
                self.skip(size);
                Ok(Met::Batch { seqno })
            }
            Err(_) if self.first_is_zero()? && self.only_zeros_follow()? => Ok(Met::End),
            Err(reason) => Ok(Met::Garbage { reason }),
        }
    }

    /// Whether a whole batch stands anywhere behind this position.
    pub(super) fn finds_batch_behind(&self) -> io::Result<bool> {
        let mut rest = Vec::new();
        let mut file = self.file;
        file.seek(SeekFrom::Start(self.position))?;
        file.read_to_end(&mut rest)?;
        for (at, window) in rest.windows(START_SIZE + 1).enumerate().skip(1) {
            // Cheap to tell apart, before anything is read again.
            if window[0] != START || ![ITEM, CLEAR].contains(&window[START_SIZE]) {
                continue;
            }
            let behind = self.position + at as u64;
            if matches!(Reader::new(self.file, behind).next()?, Met::Batch { .. }) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The batch at the position: its sequence number and size, or why there is none.
    fn batch(&mut self) -> io::Result<Result<(u64, usize), &'static str>> {
        let Some(start) = self.bytes(0, START_SIZE)? else {
            return Ok(Err("a batch is cut off"));
        };
        if start[0] != START {
            return Ok(Err("no batch begins here"));
        }
        let count = u32::from_le_bytes(array(&start[1..]));
        let seqno = u64::from_le_bytes(array(&start[5..]));
        let mut size = START_SIZE;
        let mut checksum = Xxh3::new();
        for _ in 0..count {
            let item = match self.item_size(size)? {
                Ok(item) => item,
                Err(reason) => return Ok(Err(reason)),
            };
            let Some(bytes) = self.bytes(size, item)? else {
                return Ok(Err("an item is cut off"));
            };
            checksum.update(bytes);
            size += item;
        }
        let Some(end) = self.bytes(size, END_SIZE)? else {
            return Ok(Err("a batch is cut off"));
        };
        if end[0] != END || &end[9..] != TRAILER {
            return Ok(Err("a batch does not end where it should"));
        }
        if u64::from_le_bytes(array(&end[1..])) != checksum.digest() {
            return Ok(Err("the checksum of a batch does not match"));
        }
        Ok(Ok((seqno, size + END_SIZE)))
    }

    fn item_size(&mut self, at: usize) -> io::Result<Result<usize, &'static str>> {
        let Some(&[tag]) = self.bytes(at, 1)? else {
            return Ok(Err("a batch is cut off"));
        };
        if tag == CLEAR {
            return Ok(Ok(CLEAR_SIZE));
        }
        if tag != ITEM {
            return Ok(Err("no item begins where one should"));
        }
        let Some(header) = self.bytes(at, ITEM_SIZE)? else {
            return Ok(Err("an item is cut off"));
        };
        let key = u16::from_le_bytes(array(&header[11..]));
        let stored = u32::from_le_bytes(array(&header[17..]));
        Ok(Ok(ITEM_SIZE + usize::from(key) + stored as usize))
    }

    /// So many bytes, `at` so many behind the position; `None` when the file ends before.
    fn bytes(&mut self, at: usize, len: usize) -> io::Result<Option<&[u8]>> {
        let end = at + len;
        if end > self.window.len() {
            // A length that is garbage must not become memory.
            if self.position + end as u64 > self.file.metadata()?.len() {
                return Ok(None);
            }
            let have = self.window.len();
            let mut file = self.file;
            file.seek(SeekFrom::Start(self.position + have as u64))?;
            let want = (end - have).max(BLOCK) as u64;
            file.take(want).read_to_end(&mut self.window)?;
        }
        Ok(self.window.get(at..end))
    }

    fn skip(&mut self, size: usize) {
        self.position += size as u64;
        if size < self.window.len() {
            self.window.drain(..size);
        } else {
            self.window.clear();
        }
    }

    fn first_is_zero(&mut self) -> io::Result<bool> {
        Ok(self.bytes(0, 1)?.is_none_or(|first| first == [0]))
    }

    /// Whether what follows the first byte is zeros to the end.
    fn only_zeros_follow(&self) -> io::Result<bool> {
        const ZEROS: &[u8] = &[0; BLOCK];
        let mut file = self.file;
        file.seek(SeekFrom::Start(self.position + 1))?;
        let mut block = Vec::with_capacity(BLOCK);
        loop {
            block.clear();
            file.take(BLOCK as u64).read_to_end(&mut block)?;
            if block.is_empty() {
                return Ok(true);
            }
            if block[..] != ZEROS[..block.len()] {
                return Ok(false);
            }
        }
    }
}

/// The first bytes of a slice that is long enough.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn batch(seqno: u64, value: &[u8]) -> Vec<u8> {
        let mut item = vec![ITEM, 0, 0];
        item.extend(1_u64.to_le_bytes());
        item.extend(1_u16.to_le_bytes());
        item.extend((value.len() as u32).to_le_bytes());
        item.extend((value.len() as u32).to_le_bytes());
        item.push(b'k');
        item.extend(value);
        let mut bytes = vec![START];
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(seqno.to_le_bytes());
        bytes.extend(&item);
        bytes.push(END);
        bytes.extend(xxhash_rust::xxh3::xxh3_64(&item).to_le_bytes());
        bytes.extend(TRAILER);
        bytes
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn batches_are_read_to_the_zeros() {
        let mut bytes = [batch(3, b"v"), batch(5, &[7; 200_000]), batch(6, b"")].concat();
        let end = bytes.len() as u64;
        bytes.resize(bytes.len() + 300_000, 0);
        let file = file(&bytes);
        let mut reader = Reader::new(&file, 0);
        for seqno in [3, 5, 6] {
            assert_eq!(reader.next().unwrap(), Met::Batch { seqno });
        }
        assert_eq!(reader.next().unwrap(), Met::End);
        assert_eq!(reader.position(), end);
    }

    #[test]
    fn every_cut_and_every_flip_is_garbage_at_the_batch_it_hits() {
        let first = batch(1, b"first");
        let whole = [first.clone(), batch(2, b"second")].concat();
        for len in 1..whole.len() {
            let file = file(&whole[..len]);
            let mut reader = Reader::new(&file, 0);
            while matches!(reader.next().unwrap(), Met::Batch { .. }) {}
            let expected = if len < first.len() { 0 } else { first.len() };
            assert_eq!(reader.position(), expected as u64);
            let clean = len == first.len();
            assert_eq!(reader.next().unwrap() == Met::End, clean, "at {len}");
        }
        // The sequence number, bytes 5 to 12, is not covered by the checksum.
        for at in (0..first.len()).filter(|at| !(5..13).contains(at)) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            let file = file(&flipped);
            let mut reader = Reader::new(&file, 0);
            assert!(matches!(reader.next().unwrap(), Met::Garbage { .. }), "{at}");
            assert!(reader.finds_batch_behind().unwrap(), "{at}");
        }
    }

    #[test]
    fn the_last_batch_is_not_vouched_for() {
        let mut bytes = batch(1, b"value");
        bytes[20] ^= 1;
        bytes.extend([0; 100]);
        let file = file(&bytes);
        let reader = Reader::new(&file, 0);
        assert!(!reader.finds_batch_behind().unwrap());
    }
}
