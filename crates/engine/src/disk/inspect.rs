//! What is looked at before the library opens a directory.
//!
//! The library opens past damage in silence: it cuts a journal at the first byte it cannot read,
//! deletes a tree that its list of trees does not name, and names no file in its errors. So nothing
//! is opened before every name, marker, manifest and journal has been found to be what was written:
//!
//! ```text
//! KIVA                 "kiva engine 1\n": our format; written last, so without it nothing counts
//! SYNCED               how far the journal is durable
//! lock  version        the library's lock and format
//! 0.jnl  1.jnl  …      journals; all but the last one are complete
//! keyspaces/0          the library's list of trees
//! keyspaces/1          the one tree of ours: current, v7, tables/12
//! ```
//!
//! A journal may end in a batch that a crash has torn, and only the last journal, and only behind
//! what was synced. That tail is cut off here; it is all that inspection ever changes, besides what
//! is left of a creation that never ended.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::journal::{self, Met, Reader};
use super::synced::Synced;
use crate::EngineError;
use crate::tree::archive;
pub(super) use crate::tree::error::{damaged, io_error};

/// Our own marker.
const KIVA: &str = "KIVA";
/// The marker before it has its name.
const KIVA_NEW: &str = "KIVA.new";
/// How far the journal is durable.
pub(super) const SYNCED: &str = "SYNCED";
/// The folder of trees.
pub(super) const TREES: &str = "keyspaces";
const LOCK: &str = "lock";
const VERSION: &str = "version";
/// The library's list of trees, and our tree: numbers it gives out in this order.
const TREE_NUMBERS: [&str; 2] = ["0", "1"];

/// What `KIVA` begins with; a number and a line end follow.
const FORMAT_PREFIX: &str = "kiva engine ";
/// The format this version reads and writes.
const FORMAT: u32 = 1;

/// What is in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Nothing yet.
    Nothing,
    /// An engine whose active journal ends here.
    Engine(Synced),
}

/// Looks at everything, and says what can be opened.
pub(super) fn inspect(path: &Path) -> Result<Found, EngineError> {
    if !path.try_exists().map_err(|e| io_error("open", path, e))? {
        return Ok(Found::Nothing);
    }
    let names = names(path)?;
    for name in &names {
        let known = [KIVA, KIVA_NEW, SYNCED, TREES, LOCK, VERSION].contains(&&name[..])
            || journal_number(name).is_some();
        if !known {
            return Err(EngineError::Foreign {
                path: path.join(name),
                reason: "no file or folder of an engine has this name".to_owned(),
            });
        }
    }
    // Released again before the library takes it: whoever comes between fails there.
    let _lock = lock(path)?;
    if !names.iter().any(|name| name == KIVA) {
        remove_unfinished(path)?;
        return Ok(Found::Nothing);
    }
    check_format(&path.join(KIVA))?;
    check_version(&path.join(VERSION))?;
    for number in TREE_NUMBERS {
        check_tree(&path.join(TREES).join(number))?;
    }
    check_folders(&path.join(TREES))?;
    check_journals(path).map(Found::Engine)
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

/// Every journal, in order.
pub(super) fn journals(path: &Path) -> Result<Vec<(u64, PathBuf)>, EngineError> {
    let mut found: Vec<_> = names(path)?
        .iter()
        .filter_map(|name| Some((journal_number(name)?, path.join(name))))
        .collect();
    found.sort_unstable();
    Ok(found)
}

fn journal_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".jnl")?;
    let parsed = number.parse().ok()?;
    (number == format!("{parsed}")).then_some(parsed)
}

fn lock(path: &Path) -> Result<Option<File>, EngineError> {
    let path_of_lock = path.join(LOCK);
    let file = match File::open(&path_of_lock) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if path.join(KIVA).exists() {
                return Err(damaged(&path_of_lock, "it is missing"));
            }
            return Ok(None);
        }
        Err(error) => return Err(io_error("open", &path_of_lock, error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(EngineError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path_of_lock, error)),
    }
}

/// Removes what is left when a creation did not end: nothing can have been written to it.
fn remove_unfinished(path: &Path) -> Result<(), EngineError> {
    let missing = || Err(damaged(&path.join(KIVA), "it is missing, and the directory holds data"));
    let journals = journals(path)?;
    for (_, journal) in &journals {
        let file = File::open(journal).map_err(|e| io_error("open", journal, e))?;
        let met = Reader::new(&file, 0).next();
        if met.map_err(|e| io_error("read", journal, e))? != Met::End {
            return missing();
        }
    }
    let tables = path.join(TREES).join(TREE_NUMBERS[1]).join("tables");
    if tables.exists() && !names(&tables)?.is_empty() {
        return missing();
    }
    for (_, journal) in &journals {
        fs::remove_file(journal).map_err(|e| io_error("remove", journal, e))?;
    }
    for name in [SYNCED, KIVA_NEW, VERSION] {
        match fs::remove_file(path.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path.join(name), e));
            }
            _ => {}
        }
    }
    match fs::remove_dir_all(path.join(TREES)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", &path.join(TREES), e))
        }
        _ => Ok(()),
    }
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
                "the data has format {newer}, and this version reads up to format {FORMAT}: \
                 open it with the version that wrote it, or a newer one"
            ),
        }),
        _ => {
            Err(damaged(path, &format!("it must read \"{FORMAT_PREFIX}{FORMAT}\" and a line end")))
        }
    }
}

fn check_version(path: &Path) -> Result<(), EngineError> {
    match fs::read(path) {
        Ok(bytes) if bytes == journal::TRAILER => Ok(()),
        Ok(_) => Err(damaged(path, "it must hold \"FJL\" and the byte 3")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(damaged(path, "it is missing"))
        }
        Err(error) => Err(io_error("read", path, error)),
    }
}

fn check_folders(path: &Path) -> Result<(), EngineError> {
    for name in names(path)? {
        if !TREE_NUMBERS.contains(&&name[..]) {
            return Err(EngineError::Foreign {
                path: path.join(name),
                reason: "an engine has the trees 0 and 1 only".to_owned(),
            });
        }
    }
    Ok(())
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
        if !(manifest || unfinished || ["current", "tables", "blobs"].contains(&&name[..])) {
            return Err(EngineError::Foreign {
                path: path.join(name),
                reason: "no file or folder of a tree has this name".to_owned(),
            });
        }
    }
    let listed = archive::manifest(path)?;
    for table in &listed {
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
    name.parse::<u64>().is_ok()
}

/// Reads every journal, and cuts off the torn tail of the last one.
fn check_journals(path: &Path) -> Result<Synced, EngineError> {
    let journals = journals(path)?;
    let mark_path = path.join(SYNCED);
    let mark = Synced::load(path).map_err(|e| io_error("read", &mark_path, e))?;
    let Some((last, _)) = journals.last() else {
        let name = path.join(format!("{}.jnl", mark.map_or(0, |mark| mark.journal)));
        return Err(damaged(&name, "the journal is missing"));
    };
    if let Some(mark) = mark.filter(|mark| mark.journal > *last) {
        let name = path.join(format!("{}.jnl", mark.journal));
        return Err(damaged(&name, "the journal is missing"));
    }
    for pair in journals.windows(2) {
        let missing = pair[0].0 + 1;
        if pair[1].0 != missing {
            let name = path.join(format!("{missing}.jnl"));
            return Err(damaged(&name, "the journal is missing"));
        }
    }
    let mut seqno = None;
    let mut end = 0;
    for (number, journal) in &journals {
        let failed = |e| io_error("read", journal, e);
        let file = File::open(journal).map_err(failed)?;
        let mut reader = Reader::new(&file, 0);
        let met = loop {
            let position = reader.position();
            match reader.next().map_err(failed)? {
                Met::Batch { seqno: next } if seqno.is_some_and(|seqno| next <= seqno) => {
                    return Err(damaged(
                        journal,
                        &format!("batches are out of order at byte {position}"),
                    ));
                }
                Met::Batch { seqno: next } => seqno = Some(next),
                met => break met,
            }
        };
        end = reader.position();
        let promised = match mark {
            Some(mark) if mark.journal == *number => mark.position,
            _ => 0,
        };
        if end < promised {
            let reason = match met {
                Met::Garbage { reason } => reason,
                _ => "the journal ends",
            };
            return Err(damaged(
                journal,
                &format!("{reason} at byte {end}, and {promised} bytes were synced"),
            ));
        }
        if let Met::Garbage { reason } = met {
            let torn = number == last
                && (mark.is_some() || !reader.finds_batch_behind().map_err(failed)?);
            if !torn {
                return Err(damaged(journal, &format!("{reason} at byte {end}")));
            }
            tracing::info!(journal = %journal.display(), end, reason, "torn tail is cut off");
            cut(journal, end).map_err(|e| io_error("cut", journal, e))?;
        }
    }
    Ok(Synced { journal: *last, position: end })
}

fn cut(journal: &Path, end: u64) -> io::Result<()> {
    let file = File::options().write(true).open(journal)?;
    file.set_len(end)?;
    file.sync_all()
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
