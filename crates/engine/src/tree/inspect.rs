//! What is looked at before the library opens a directory.
//!
//! The library trusts what it finds: it reads a manifest without comparing its checksum, aborts on
//! a folder among its tables, and names no file in its errors. So nothing is opened before every
//! name, marker, manifest and table has been found to be what was written:
//!
//! ```text
//! KIVA       "kiva engine 2\n": our format; written last, so without it nothing counts
//! lock       empty; locked while an engine, a snapshot or an iterator lives
//! tree/      the one tree: current, v7, tables/12
//! ```
//!
//! Inspection changes nothing, but for what is left of a creation that never ended.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use super::archive;
use super::error::{damaged, io_error};
use crate::EngineError;

/// Our own marker.
const KIVA: &str = "KIVA";
/// The marker before it has its name.
const KIVA_NEW: &str = "KIVA.new";
const LOCK: &str = "lock";
/// The folder of the tree.
pub(super) const TREE: &str = "tree";

/// What `KIVA` begins with; a number and a line end follow.
const FORMAT_PREFIX: &str = "kiva engine ";
/// The format this version reads and writes. Format 1 had a journal.
const FORMAT: u32 = 2;

/// What is in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Nothing yet.
    Nothing,
    /// An engine.
    Engine,
}

/// Looks at everything, and says what can be opened. The directory is locked as long as the file
/// lives.
pub(super) fn inspect(path: &Path) -> Result<(Found, File), EngineError> {
    fs::create_dir_all(path).map_err(|e| io_error("make", path, e))?;
    let names = names(path)?;
    let complete = names.iter().any(|name| name == KIVA);
    if complete {
        check_format(&path.join(KIVA))?;
    }
    for name in &names {
        if ![KIVA, KIVA_NEW, LOCK, TREE].contains(&&name[..]) {
            return Err(EngineError::Foreign {
                path: path.join(name),
                reason: "no file or folder of an engine has this name".to_owned(),
            });
        }
    }
    if complete && !names.iter().any(|name| name == LOCK) {
        return Err(damaged(&path.join(LOCK), "it is missing"));
    }
    let lock = lock(path)?;
    if !complete {
        remove_unfinished(path)?;
        return Ok((Found::Nothing, lock));
    }
    check_tree(&path.join(TREE))?;
    Ok((Found::Engine, lock))
}

/// Marks a new engine as complete.
pub(super) fn complete(path: &Path) -> Result<(), EngineError> {
    let new = path.join(KIVA_NEW);
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{FORMAT_PREFIX}{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&new, path.join(KIVA))?;
        File::open(path)?.sync_all()?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|error| io_error("write", &path.join(KIVA), error))
}

fn lock(path: &Path) -> Result<File, EngineError> {
    let path_of_lock = path.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path_of_lock)
        .map_err(|error| io_error("open", &path_of_lock, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EngineError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path_of_lock, error)),
    }
}

/// Removes what is left when a creation did not end: nothing can have been written to it.
fn remove_unfinished(path: &Path) -> Result<(), EngineError> {
    let tree = path.join(TREE);
    let tables = tree.join("tables");
    if tables.exists() && !names(&tables)?.is_empty() {
        return Err(damaged(&path.join(KIVA), "it is missing, and the directory holds data"));
    }
    let gone = |path: &Path, done: io::Result<()>| match done {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path, e)),
        _ => Ok(()),
    };
    let marker = path.join(KIVA_NEW);
    gone(&marker, fs::remove_file(&marker))?;
    gone(&tree, fs::remove_dir_all(&tree))
}

fn check_format(path: &Path) -> Result<(), EngineError> {
    let text = fs::read(path).map_err(|e| io_error("read", path, e))?;
    let format = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.strip_prefix(FORMAT_PREFIX)?.strip_suffix('\n'))
        .and_then(|number| number.parse::<u32>().ok());
    match format {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => Err(EngineError::Foreign {
            path: path.to_owned(),
            reason: format!(
                "the data has format {newer}, and this version reads format {FORMAT}: \
                 open it with the version that wrote it, or a newer one"
            ),
        }),
        Some(1) => Err(EngineError::Foreign {
            path: path.to_owned(),
            reason: format!(
                "the data has format 1, which had a journal, and this version reads format \
                 {FORMAT}: copy the data with the version that wrote it"
            ),
        }),
        _ => {
            Err(damaged(path, &format!("it must read \"{FORMAT_PREFIX}{FORMAT}\" and a line end")))
        }
    }
}

fn check_tree(path: &Path) -> Result<(), EngineError> {
    if !path.is_dir() {
        return Err(damaged(path, "the folder is missing"));
    }
    let tables = path.join("tables");
    for name in names(path)? {
        let manifest = name.strip_prefix('v').is_some_and(is_number);
        // A manifest is renamed to `current` from a name that begins like this.
        let unfinished = name.starts_with(".tmp");
        if !(manifest || unfinished || ["current", "tables"].contains(&&name[..])) {
            return Err(EngineError::Foreign {
                path: path.join(name),
                reason: "no file or folder of a tree has this name".to_owned(),
            });
        }
    }
    for table in &archive::manifest(path)? {
        archive::check_table(table)?;
    }
    if tables.exists() {
        for name in names(&tables)? {
            let path = tables.join(&name);
            if !is_number(&name) || path.is_dir() {
                return Err(EngineError::Foreign {
                    path,
                    reason: "tables are files that have numbers for names".to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn is_number(name: &str) -> bool {
    name.parse::<u64>().is_ok_and(|number| name == number.to_string())
}

/// Sorted. A name that is not text belongs to nobody we know.
fn names(path: &Path) -> Result<Vec<String>, EngineError> {
    let failed = |e| io_error("list", path, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        match name.into_string() {
            Ok(name) => names.push(name),
            Err(name) => {
                return Err(EngineError::Foreign {
                    path: path.join(name),
                    reason: "no file or folder of an engine has this name".to_owned(),
                });
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}
