//! The bytes of one file in memory: what is read, and what a crash may leave of it.

use std::collections::BTreeMap;

/// What a disk writes whole or not at all, in bytes.
pub(super) const SECTOR_SIZE: usize = 512;

/// One sector; `None` was never written and reads as zeros.
type Sector = Option<Box<[u8; SECTOR_SIZE]>>;

/// The bytes of one file.
///
/// Between two syncs the system may write any sector back at any moment, each by itself. So a crash
/// leaves, of every sector, one of the contents that it has had since the last sync, and one of the
/// sizes that the file has had: what came later may survive what came earlier.
#[derive(Default)]
pub(super) struct Contents {
    size: u64,
    /// By number; what is missing is zeros.
    sectors: BTreeMap<u64, Box<[u8; SECTOR_SIZE]>>,
    /// Of the sectors that changed since the last sync.
    unsynced: BTreeMap<u64, Unsynced>,
    /// What the size was before each change since the last sync, oldest first.
    older_sizes: Vec<u64>,
}

/// What one sector held since the last sync.
#[derive(Default)]
struct Unsynced {
    /// Before each change, oldest first.
    older: Vec<Sector>,
    /// A sync failed on it. The system believes that it is clean then, and will not write it again.
    is_given_up: bool,
}

impl Contents {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the file reaches as far as that; fills `buffer` if so.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.size) {
            return false;
        }
        for piece in pieces(offset, buffer.len()) {
            let target = &mut buffer[piece.from..piece.from + piece.size];
            match self.sectors.get(&piece.sector) {
                Some(sector) => {
                    target.copy_from_slice(&sector[piece.skip..piece.skip + piece.size]);
                }
                None => target.fill(0),
            }
        }
        true
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.grow(offset + bytes.len() as u64);
        for piece in pieces(offset, bytes.len()) {
            let source = &bytes[piece.from..piece.from + piece.size];
            let sector = self.change(piece.sector);
            sector[piece.skip..piece.skip + piece.size].copy_from_slice(source);
        }
    }

    /// Makes it that long, if it is shorter.
    pub(super) fn grow(&mut self, size: u64) {
        if size > self.size {
            self.older_sizes.push(self.size);
            self.size = size;
        }
    }

    /// Makes it that short, if it is longer.
    pub(super) fn truncate(&mut self, size: u64) {
        if size >= self.size {
            return;
        }
        self.older_sizes.push(self.size);
        self.size = size;
        let beyond: Vec<u64> =
            self.sectors.range(size / SECTOR_SIZE as u64..).map(|(number, _)| *number).collect();
        for number in beyond {
            let keep = size.saturating_sub(number * SECTOR_SIZE as u64) as usize;
            self.change(number)[keep..].fill(0);
            if keep == 0 {
                self.sectors.remove(&number);
            }
        }
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.retain(|_, unsynced| unsynced.is_given_up);
        self.older_sizes.clear();
    }

    /// Nothing became durable, and only what is written again ever will.
    pub(super) fn fail_sync(&mut self) {
        self.unsynced.values_mut().for_each(|unsynced| unsynced.is_given_up = true);
    }

    /// What is found after a crash; `draw(n)` gives a number below `n`, and the larger it is, the
    /// more has survived.
    pub(super) fn crash(&self, draw: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut found = Self { size: self.size, ..Self::default() };
        if !self.older_sizes.is_empty() {
            let drawn = draw(self.older_sizes.len() + 1);
            found.size = self.older_sizes.get(drawn).copied().unwrap_or(self.size);
        }
        found.sectors = self.sectors.clone();
        for (number, unsynced) in &self.unsynced {
            match unsynced.older.get(draw(unsynced.older.len() + 1)) {
                Some(Some(older)) => found.sectors.insert(*number, older.clone()),
                Some(None) => found.sectors.remove(number),
                None => None,
            };
        }
        let size = std::mem::replace(&mut found.size, u64::MAX);
        found.truncate(size);
        found.sync();
        found
    }

    /// Changes a bit in everything that can be read, now or after a crash.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        let number = offset / SECTOR_SIZE as u64;
        let at = (offset % SECTOR_SIZE as u64) as usize;
        let flip = |sector: &mut [u8; SECTOR_SIZE]| sector[at] ^= 1 << bit;
        flip(self.sectors.entry(number).or_insert_with(zeros));
        if let Some(unsynced) = self.unsynced.get_mut(&number) {
            for older in &mut unsynced.older {
                flip(older.get_or_insert_with(zeros));
            }
        }
    }

    /// A sector that is about to change.
    fn change(&mut self, number: u64) -> &mut [u8; SECTOR_SIZE] {
        let unsynced = self.unsynced.entry(number).or_default();
        unsynced.older.push(self.sectors.get(&number).cloned());
        unsynced.is_given_up = false;
        self.sectors.entry(number).or_insert_with(zeros)
    }
}

fn zeros() -> Box<[u8; SECTOR_SIZE]> {
    Box::new([0; SECTOR_SIZE])
}

/// The part of a buffer that lies in one sector.
struct Piece {
    sector: u64,
    /// Where it begins in the sector.
    skip: usize,
    /// Where it begins in the buffer.
    from: usize,
    size: usize,
}

fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = offset + from as u64;
        let skip = (at % SECTOR_SIZE as u64) as usize;
        let size = (SECTOR_SIZE - skip).min(len - from);
        let piece = Piece { sector: at / SECTOR_SIZE as u64, skip, from, size };
        from += size;
        (size > 0).then_some(piece)
    })
}
