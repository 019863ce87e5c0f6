//! Files of the log: their names, those in use, those that wait to be used.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::format::TRAILER;
use crate::disk::{Disk, DiskFile, FileName, OpenMode};

/// A file that holds a part of the log.
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) file: Arc<dyn DiskFile>,
    /// Of the file.
    pub(super) size: u64,
    /// The position of its first byte.
    pub(super) base: u64,
    /// Bytes written.
    pub(super) used: AtomicU64,
    /// Bytes of entries that are still needed.
    live: AtomicI64,
}

impl Segment {
    pub(super) fn new(prepared: Prepared, base: u64, used: u64) -> Self {
        let Prepared { number, file, size } = prepared;
        Self { number, file, size, base, used: AtomicU64::new(used), live: AtomicI64::new(0) }
    }

    pub(super) fn live(&self) -> u64 {
        // Two threads may have added and taken away in another order than they were told to.
        self.live.load(Ordering::Relaxed).max(0) as u64
    }

    pub(super) fn add_live(&self, bytes: i64) {
        self.live.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Where the trailer is.
    pub(super) fn trailer(&self) -> u64 {
        self.size - TRAILER as u64
    }
}

/// A file that waits to be written: its name and size are durable. It begins with zeros or with the
/// header of the segment that it was.
pub(super) struct Prepared {
    pub(super) number: u32,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) size: u64,
}

/// The files that wait. Their numbers follow that of the segment being written.
pub(super) struct Spares {
    pub(super) ready: VecDeque<Prepared>,
    /// What the next file will be.
    pub(super) next: u32,
}

/// What the file of a segment is called.
pub(super) fn file_name(number: u32) -> FileName {
    FileName::new(&format!("{number:010}.log")).expect("digits and a suffix make a name")
}

/// The number of the segment whose file is called so.
pub(super) fn file_number(name: &FileName) -> Option<u32> {
    let digits = name.as_str().strip_suffix(".log")?;
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    (file_name(number) == *name).then_some(number)
}

/// Makes a file. Everything about it is durable when it returns.
pub(super) fn create(disk: &dyn Disk, number: u32, size: u64) -> io::Result<Prepared> {
    let name = file_name(number);
    let file = disk.open(&name, OpenMode::New)?;
    let made = file.allocate(size).and_then(|()| file.sync()).and_then(|()| disk.sync_names());
    match made {
        Ok(()) => Ok(Prepared { number, file, size }),
        Err(error) => {
            // Half a file would be in the way of the next attempt; what failed first is reported.
            let _ = disk.remove(&name);
            Err(error)
        }
    }
}

/// Makes a segment that is not needed any more the file of another one. Its number must be known to
/// be dropped when the log is opened.
pub(super) fn recycle(disk: &dyn Disk, segment: &Segment, number: u32) -> io::Result<Prepared> {
    disk.rename(&file_name(segment.number), &file_name(number))?;
    disk.sync_names()?;
    Ok(Prepared { number, file: Arc::clone(&segment.file), size: segment.size })
}
