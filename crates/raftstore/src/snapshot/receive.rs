//! [`Receiver`]: chunks become a file, or nothing.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::{Moment, RegionId};

use super::chunk::{Chunk, ChunkError, Count, Kind};
use super::folder::{Claim, Folder, Received, complete_name, partial_name};
use super::{Id, Meta};
use crate::disk::{DiskFile, FileName, OpenMode};
use crate::limits::{SNAPSHOT_STALL_MAX, SNAPSHOT_SYNC_BYTES};

/// What became of the first chunk.
#[derive(Debug)]
pub enum Begun {
    /// All of that snapshot is here already: the sender need not go on.
    Present(Received),
    /// The rest is expected.
    Receiving(Box<Receiver>),
}

/// A snapshot that is being received. Dropped before its end, it leaves nothing behind.
///
/// Invariants:
/// - The file has exactly the chunks that were taken, in their order, from number 0 on.
/// - Nobody else receives a snapshot of this region meanwhile.
pub struct Receiver {
    folder: Folder,
    meta: Meta,
    file: Arc<dyn DiskFile>,
    name: FileName,
    count: Count,
    written: u64,
    synced: u64,
    last_chunk: Moment,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Taking,
    Complete,
    Failed,
}

/// Why a snapshot is not taken. Nothing of it is kept, and it may be sent again from its start.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Somebody else sends one of that region.
    #[error("region {region} is receiving snapshot {receiving} already")]
    Busy {
        /// Which region.
        region: RegionId,
        /// What it is being sent.
        receiving: Id,
    },
    /// Bytes were changed on the way, or are of a newer version.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A chunk of another snapshot.
    #[error("a chunk of snapshot {found} came among those of {expected}")]
    Foreign {
        /// What is being received.
        expected: Id,
        /// What the chunk is of.
        found: Id,
    },
    /// A chunk is missing, or came again.
    #[error("chunk {found} of snapshot {id} came where {expected} was expected")]
    OutOfOrder {
        /// Which snapshot.
        id: Id,
        /// The number that was next.
        expected: u32,
        /// The number that came.
        found: u32,
    },
    /// The last chunk does not speak of those that came before it.
    #[error("the chunks of snapshot {id} do not add up")]
    Sum {
        /// Which snapshot.
        id: Id,
    },
    /// It has ended before, well or badly.
    #[error("snapshot {id} has ended")]
    Ended {
        /// Which snapshot.
        id: Id,
    },
    /// The disk. Nothing rests on a file that is not complete, so this is final for it only.
    #[error("{action} the file of snapshot {id}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which snapshot.
        id: Id,
        /// What the disk said.
        source: io::Error,
    },
}

impl Folder {
    /// Begins with the first chunk of a snapshot. Refused while another one of the region is being
    /// received, so that two senders cannot mix.
    pub fn begin(&self, first: Bytes, now: Moment) -> Result<Begun, ReceiveError> {
        let chunk = Chunk::decode(first)?;
        let id = chunk.id();
        if chunk.number() != 0 {
            return Err(ReceiveError::OutOfOrder { id, expected: 0, found: chunk.number() });
        }
        let meta = chunk.meta()?;
        if let Some(received) = self.get(id) {
            return Ok(Begun::Present(received));
        }
        match self.claim(id) {
            Claim::Present(received) => return Ok(Begun::Present(received)),
            Claim::Busy(receiving) => {
                return Err(ReceiveError::Busy { region: id.region, receiving });
            }
            Claim::Free => {}
        }
        let name = partial_name(id);
        let file = match self.make(&name) {
            Ok(file) => file,
            Err(source) => {
                self.release(id);
                return Err(ReceiveError::Io { action: "make", id, source });
            }
        };
        let mut receiver = Receiver {
            folder: self.clone(),
            meta,
            file,
            name,
            count: Count::default(),
            written: 0,
            synced: 0,
            last_chunk: now,
            stage: Stage::Taking,
        };
        receiver.write(&chunk)?;
        Ok(Begun::Receiving(receiver.into()))
    }

    /// A new file; an older one of that name could not be removed when it should have been.
    fn make(&self, name: &FileName) -> io::Result<Arc<dyn DiskFile>> {
        let disk = &self.shared.disk;
        match disk.open(name, OpenMode::New) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(name)?;
                disk.open(name, OpenMode::New)
            }
            opened => opened,
        }
    }
}

impl Receiver {
    /// What is being received.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// How many bytes have come.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether nothing has come for so long that it should be dropped.
    pub fn is_stalled(&self, now: Moment) -> bool {
        self.stage == Stage::Taking && now.since(self.last_chunk) >= SNAPSHOT_STALL_MAX
    }

    /// Takes the next chunk. With the last one the snapshot is durable, and given out. After an
    /// error nothing more is taken.
    pub fn on_chunk(
        &mut self,
        bytes: Bytes,
        now: Moment,
    ) -> Result<Option<Received>, ReceiveError> {
        if self.stage != Stage::Taking {
            return Err(ReceiveError::Ended { id: self.meta.id });
        }
        let taken = self.take(bytes, now);
        match &taken {
            Ok(None) => self.last_chunk = now,
            Ok(Some(_)) => self.stage = Stage::Complete,
            Err(_) => self.stage = Stage::Failed,
        }
        taken
    }

    fn take(&mut self, bytes: Bytes, now: Moment) -> Result<Option<Received>, ReceiveError> {
        let chunk = Chunk::decode(bytes)?;
        let (id, expected) = (self.meta.id, self.count.chunks());
        if chunk.id() != id {
            return Err(ReceiveError::Foreign { expected: id, found: chunk.id() });
        }
        if chunk.number() != expected {
            return Err(ReceiveError::OutOfOrder { id, expected, found: chunk.number() });
        }
        match chunk.kind() {
            Kind::Head => Err(ReceiveError::Sum { id }),
            Kind::Pairs => {
                self.write(&chunk)?;
                if self.written - self.synced >= SNAPSHOT_SYNC_BYTES {
                    self.sync()?;
                }
                Ok(None)
            }
            Kind::Tail => {
                let totals = chunk.totals()?;
                // How many pairs there are is known to whoever reads them.
                if totals != self.count.totals(totals.pairs) {
                    return Err(ReceiveError::Sum { id });
                }
                self.write(&chunk)?;
                self.sync()?;
                self.publish()?;
                Ok(Some(self.folder.add(self.meta.clone(), totals, now)))
            }
        }
    }

    fn write(&mut self, chunk: &Chunk) -> Result<(), ReceiveError> {
        let bytes = chunk.encoded();
        let written = self.file.write_at(self.written, bytes);
        written.map_err(|source| self.failed("write", source))?;
        self.written += bytes.len() as u64;
        self.count.add(chunk);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), ReceiveError> {
        self.file.sync().map_err(|source| self.failed("sync", source))?;
        self.synced = self.written;
        Ok(())
    }

    /// Everything in the file is durable; now its name becomes so.
    fn publish(&mut self) -> Result<(), ReceiveError> {
        let disk = &self.folder.shared.disk;
        let name = complete_name(self.meta.id);
        disk.rename(&self.name, &name).map_err(|source| self.failed("rename", source))?;
        // What is to be removed if the name cannot be made durable.
        self.name = name;
        disk.sync_names().map_err(|source| self.failed("sync the name of", source))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> ReceiveError {
        ReceiveError::Io { action, id: self.meta.id, source }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.stage != Stage::Complete
            && let Err(error) = self.folder.shared.disk.remove(&self.name)
        {
            // The next attempt or the next start removes it.
            tracing::info!(name = %self.name, %error, "a part of a snapshot could not be removed");
        }
        self.folder.release(self.meta.id);
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver({}, {} bytes so far)", self.meta.id, self.written)
    }
}
