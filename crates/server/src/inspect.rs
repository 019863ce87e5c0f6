//! The directory of a store that is stopped, for people who want to see what is in it.
//!
//! Log and data are looked at apart: of a store that does not start, one of them is usually fine.
//! Both are locked while they are looked at, as by a store that runs, so neither can change
//! meanwhile and a store cannot be looked at by mistake while it works.
//!
//! [`log`] changes nothing. [`Data::open`] opens the engine as a start would, which may clear away
//! what a crash has left half-way there; it removes nothing that can be read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kiva_base::KeyRange;
use kiva_engine::tree::{Options, TreeEngine};
use kiva_engine::{Engine, EngineError, Order, Snapshot};
use kiva_raftstore::disk::FileDisk;
use kiva_raftstore::log::LogOpenError;
use kiva_raftstore::meta::{self, MetaError};

pub use kiva_engine::Cf;
pub use kiva_raft::{EntryId, HardState};
pub use kiva_raftstore::log::{
    Damage, InspectedItem, InspectedRecord, InspectedRun, Inspection, Lost, Position, Tombstone,
};
pub use kiva_raftstore::meta::{ApplyState, RegionRecord, StoreIdent};

use crate::limits::INSPECT_CACHE_BYTES;
use crate::store::{ENGINE_FOLDER, LOG_FOLDER};

/// Why a directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is none of a store.
    #[error("{path} is not the directory of a store: it has no {folder:?} with anything in it",
        path = path.display())]
    NoStore {
        /// The directory.
        path: PathBuf,
        /// The folder that should be there.
        folder: &'static str,
    },
    /// A store runs on it.
    #[error("{path} is in use: a store runs on it", path = path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The system refused to read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The log.
    #[error("{path}: {source}", path = path.display())]
    Log {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        source: LogOpenError,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store's own records.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

/// The folder in a data directory; an error when nothing is in it, because opening would make it.
fn existing(data_dir: &Path, folder: &'static str) -> Result<PathBuf, InspectError> {
    let path = data_dir.join(folder);
    match fs::read_dir(&path).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Ok(path),
        Ok(false) => Err(InspectError::NoStore { path: data_dir.to_owned(), folder }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(InspectError::NoStore { path: data_dir.to_owned(), folder })
        }
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("open {}: {error}", path.display())).into())
        }
    }
}

/// Reads the log record by record, in the order in which it was written.
pub fn log(
    data_dir: &Path,
    visit: &mut dyn FnMut(InspectedRecord),
) -> Result<Inspection, InspectError> {
    let path = existing(data_dir, LOG_FOLDER)?;
    let disk = FileDisk::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => InspectError::InUse { path: path.clone() },
        _ => error.into(),
    })?;
    kiva_raftstore::log::inspect(&disk, visit).map_err(|source| InspectError::Log { path, source })
}

/// The data of a store, as it is found.
pub struct Data {
    view: Arc<dyn Snapshot>,
}

/// What one family holds in a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// Keys with a value.
    pub pairs: u64,
    /// Bytes of the keys.
    pub key_bytes: u64,
    /// Bytes of the values.
    pub value_bytes: u64,
}

impl Data {
    /// Opens the data in the directory of a store.
    pub fn open(data_dir: &Path) -> Result<Self, InspectError> {
        let path = existing(data_dir, ENGINE_FOLDER)?;
        // Without the filter of a store that runs, so that nothing expires while it is looked at.
        let options = Options { cache_bytes: INSPECT_CACHE_BYTES, ..Default::default() };
        let engine = TreeEngine::open(path, options).map_err(|error| match error {
            EngineError::InUse { path } => InspectError::InUse { path },
            error => error.into(),
        })?;
        // The snapshot keeps the directory open, and locked.
        Ok(Self { view: engine.snapshot() })
    }

    /// Which store it belongs to; `None` when the store never came to life.
    pub fn ident(&self) -> Result<Option<StoreIdent>, InspectError> {
        Ok(meta::load_ident(&*self.view)?)
    }

    /// The regions that have data here, by id.
    pub fn regions(&self) -> Result<Vec<(RegionRecord, ApplyState)>, InspectError> {
        Ok(meta::load_regions(&*self.view)?)
    }

    /// Counts all pairs of a family in `range`.
    pub fn count(&self, cf: Cf, range: &KeyRange) -> Result<Contents, InspectError> {
        let mut contents = Contents::default();
        let mut pairs = self.view.iter(cf, range, Order::Forward);
        while let Some((key, value)) = pairs.next()? {
            contents.pairs += 1;
            contents.key_bytes += key.len() as u64;
            contents.value_bytes += value.len() as u64;
        }
        Ok(contents)
    }

    /// The first pairs of a family in `range`, at most `limit`.
    pub fn pairs(
        &self,
        cf: Cf,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, InspectError> {
        let mut found = Vec::new();
        let mut pairs = self.view.iter(cf, range, Order::Forward);
        while found.len() < limit {
            match pairs.next()? {
                Some(pair) => found.push(pair),
                None => break,
            }
        }
        Ok(found)
    }
}
