//! A checksum over all pairs of some ranges, the same however they are stored.

use crc::{CRC_64_XZ, Crc};
use kiva_base::Key;
use kiva_base::api::{ApiVersion, KeyMode};
use kiva_engine::{Cf, Order};

use super::scan::scan_live;
use crate::command::{Command, Read, Touched, View};
use crate::error::{Error, Refusal};

const CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// The number by which the wire names the only algorithm there is.
const CRC64_XOR: i32 = 0;

/// Asks for the checksum of what some ranges hold in the region.
#[derive(Debug)]
pub struct Checksum {
    /// As the wire names it.
    pub algorithm: i32,
    /// Start and end of each; an empty bound is unbounded.
    pub ranges: Vec<(Key, Key)>,
}

/// The exclusive or, over all pairs, of the CRC-64/XZ of key and value; and how much that was.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChecksumReply {
    /// The exclusive or.
    pub checksum: u64,
    /// How many pairs.
    pub count: u64,
    /// The bytes of their keys and values.
    pub size: u64,
}

impl Command for Checksum {
    type Reply = ChecksumReply;
    const MODE: KeyMode = KeyMode::Raw;

    fn touches(
        &self,
        check: &mut dyn FnMut(Touched<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.ranges.iter().try_for_each(|(start, end)| check(Touched::Range(start, end)))
    }

    fn check(&self, _api: ApiVersion) -> Result<(), Refusal> {
        match self.algorithm {
            CRC64_XOR => Ok(()),
            other => Err(Refusal::UnknownChecksum(other)),
        }
    }
}

impl Read for Checksum {
    fn is_long(&self) -> bool {
        true
    }

    fn read(&self, view: &View<'_>) -> Result<ChecksumReply, Error> {
        let mut reply = ChecksumReply::default();
        for (start, end) in &self.ranges {
            let range = view.api.stored_range(KeyMode::Raw, start, end);
            let Some(range) = range.map(|range| range.intersect(view.range)) else {
                continue;
            };
            scan_live(view, Cf::Default, &range, Order::Forward, usize::MAX, |key, record| {
                let key = view.api.raw_user_key(&key)?;
                let mut digest = CRC.digest();
                digest.update(key.as_bytes());
                digest.update(&record.value);
                reply.checksum ^= digest.finalize();
                reply.count += 1;
                reply.size += (key.as_bytes().len() + record.value.len()) as u64;
                Ok(())
            })?;
        }
        Ok(reply)
    }
}
