//! Which part of which journal has been synced: what tells damage from the tail a crash tore.
//!
//! ```text
//! SYNCED = journal(8) position(8) crc32(4)               little-endian; the crc covers the rest
//! ```
//!
//! It is written after every sync and not synced itself. After `kill -9` it is exact. After a loss
//! of power it may be older, so it never claims too much, or missing; then a bad batch is damage
//! when a good one follows it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::inspect::SYNCED;

const SIZE: usize = 8 + 8 + 4;

/// Everything before `position` in this journal, and all journals before it, is durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Synced {
    pub(super) journal: u64,
    pub(super) position: u64,
}

impl Synced {
    /// What the directory says; `None` when it says nothing that can be read.
    pub(super) fn load(directory: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(directory.join(SYNCED)) {
            Ok(bytes) => Ok(Self::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, crc) = bytes.split_last_chunk::<4>()?;
        let (journal, position) = fields.split_first_chunk::<8>()?;
        (crc32fast::hash(fields) == u32::from_le_bytes(*crc)).then_some(Self {
            journal: u64::from_le_bytes(*journal),
            position: u64::from_le_bytes(position.try_into().ok()?),
        })
    }

    fn encode(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(&self.journal.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Writes the mark, always through one handle.
pub(super) struct Marker(File);

impl Marker {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(SYNCED))
            .map(Self)
    }

    pub(super) fn write(&mut self, synced: Synced) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(0))?;
        self.0.write_all(&synced.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_damaged_one_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Synced::load(directory.path()).unwrap(), None);
        let mut marker = Marker::open(directory.path()).unwrap();
        let mut mark = Synced { journal: 3, position: 70_000 };
        marker.write(mark).unwrap();
        mark.position += 1;
        marker.write(mark).unwrap();
        assert_eq!(Synced::load(directory.path()).unwrap(), Some(mark));
        let bytes = mark.encode();
        for at in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert_eq!(Synced::decode(&flipped), None);
            assert_eq!(Synced::decode(&bytes[..at]), None);
        }
    }
}
