//! The port to the files of the log and of snapshots.
//!
//! A [`Disk`] is one folder. What was synced survives a crash; of the rest any part may be lost or
//! torn, names included: a file that was made, renamed or removed is so for good only after
//! [`Disk::sync_names`].
//!
//! [`FileDisk`] is a folder of the system. [`MemoryDisk`] remembers what was synced, breaks in all
//! the ways that disks break, and is what tests and simulations run on.
//!
//! What is deliberately not here: no retries and no caches. A failed sync is final, and whoever
//! sees one stops (`fsync` marks dirty pages clean when it fails, so a second one proves nothing).

#[cfg(test)]
mod contract;
mod files;
mod memory;
mod name;
mod runtime;

use std::io;
use std::sync::Arc;

pub use files::{FileDisk, FileDiskOptions};
pub use memory::{MemoryDisk, Operation};
pub use name::FileName;

/// One folder of files.
pub trait Disk: Send + Sync {
    /// Opens a file. An open file can be read and written by any number of handles.
    fn open(&self, name: &FileName, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name; whatever had that name is gone.
    fn rename(&self, from: &FileName, to: &FileName) -> io::Result<()>;

    /// Removes a file. Handles that are open go on working.
    fn remove(&self, name: &FileName) -> io::Result<()>;

    /// All files, sorted by name.
    fn list(&self) -> io::Result<Vec<FileName>>;

    /// Makes durable which names there are.
    fn sync_names(&self) -> io::Result<()>;

    /// How much room there is.
    fn space(&self) -> io::Result<Space>;
}

/// One open file. Methods take `&self`: a reader and a writer share it.
pub trait DiskFile: Send + Sync {
    /// Fills `buffer` from `offset` on. An error of kind `UnexpectedEof` when the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, beyond the end if need be. Not durable yet.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what was written before the call, and the file's size. Not its name.
    fn sync(&self) -> io::Result<()>;

    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Makes the file `size` bytes long with room for all of them, so that writing into it needs no
    /// more room. New bytes read as zero. A file that is that long already stays as it is.
    fn allocate(&self, size: u64) -> io::Result<()>;

    /// Cuts the file off. A file that is no longer than that stays as it is.
    fn truncate(&self, size: u64) -> io::Result<()>;
}

/// What [`Disk::open`] expects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// The file is there; `NotFound` otherwise. Read and write.
    Existing,
    /// The file is not there; `AlreadyExists` otherwise.
    New,
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What can still be written.
    pub free: u64,
}

/// What a disk has done, for whoever measures it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Calls of [`DiskFile::write_at`].
    pub writes: u64,
    /// Bytes given to them.
    pub written_bytes: u64,
    /// Calls of [`DiskFile::sync`].
    pub syncs: u64,
    /// Calls of [`Disk::sync_names`].
    pub name_syncs: u64,
}
