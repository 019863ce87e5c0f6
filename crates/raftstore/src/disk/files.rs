//! [`FileDisk`]: a folder of the system.
//!
//! A sync is `fdatasync`: data, and what it takes to read it back, size included. Names are
//! synced through the folder itself, and the lock lies on it too, so nothing in it is ours but the
//! files that somebody asked for.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use super::runtime::pause;
use super::{Counters, Disk, DiskFile, FileName, OpenMode, Space};

/// How many zeros are written at once where the system cannot reserve room otherwise.
const ZEROS: usize = 64 * 1024;

/// A folder of the system. It stays locked while a handle to it or to a file in it lives.
#[derive(Clone)]
pub struct FileDisk {
    folder: Arc<Folder>,
}

/// What a disk does besides its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileDiskOptions {
    /// How much longer every sync takes. For measurements: with a disk that takes two
    /// milliseconds, how many writes share a sync can be computed. Zero in service.
    pub sync_delay: Duration,
}

/// What handles share.
struct Folder {
    path: PathBuf,
    /// Syncs the names, and holds the lock for as long as it is open.
    handle: File,
    options: FileDiskOptions,
    counted: Counted,
}

#[derive(Default)]
struct Counted {
    writes: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
    name_syncs: AtomicU64,
}

impl FileDisk {
    /// Makes the folder if need be and locks it. An error of kind `ResourceBusy` when another
    /// process, or another disk of this one, has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, FileDiskOptions::default())
    }

    /// As [`open`](Self::open), with options.
    pub fn open_with(path: &Path, options: FileDiskOptions) -> io::Result<Self> {
        make_folder(path).map_err(|error| named("create", path, error))?;
        let handle = File::open(path).map_err(|error| named("open", path, error))?;
        match handle.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let busy = io::Error::new(io::ErrorKind::ResourceBusy, "another process uses it");
                return Err(named("lock", path, busy));
            }
            Err(TryLockError::Error(error)) => return Err(named("lock", path, error)),
        }
        let path = path.to_owned();
        let folder = Folder { path, handle, options, counted: Counted::default() };
        Ok(Self { folder: Arc::new(folder) })
    }

    /// What it has done since it was opened.
    pub fn counters(&self) -> Counters {
        let counted = &self.folder.counted;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            writes: get(&counted.writes),
            written_bytes: get(&counted.written_bytes),
            syncs: get(&counted.syncs),
            name_syncs: get(&counted.name_syncs),
        }
    }

    fn path_of(&self, name: &FileName) -> PathBuf {
        self.folder.path.join(name.as_str())
    }
}

impl Disk for FileDisk {
    fn open(&self, name: &FileName, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path_of(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(mode == OpenMode::New);
        let file = options.open(&path).map_err(|error| named("open", &path, error))?;
        Ok(Arc::new(SystemFile { file, path, folder: Arc::clone(&self.folder) }))
    }

    fn rename(&self, from: &FileName, to: &FileName) -> io::Result<()> {
        let (from, to) = (self.path_of(from), self.path_of(to));
        std::fs::rename(&from, to).map_err(|error| named("rename", &from, error))
    }

    fn remove(&self, name: &FileName) -> io::Result<()> {
        let path = self.path_of(name);
        std::fs::remove_file(&path).map_err(|error| named("remove", &path, error))
    }

    /// Folders, and files whose names cannot be ours, are passed over.
    fn list(&self) -> io::Result<Vec<FileName>> {
        let path = &self.folder.path;
        let failed = |error| named("list", path, error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_file() {
                names.extend(entry.file_name().to_str().and_then(FileName::new));
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_names(&self) -> io::Result<()> {
        let folder = &self.folder;
        folder.counted.name_syncs.fetch_add(1, Ordering::Relaxed);
        pause(folder.options.sync_delay);
        folder.handle.sync_all().map_err(|error| named("sync", &folder.path, error))
    }

    fn space(&self) -> io::Result<Space> {
        let folder = &self.folder;
        let system = fstatvfs(&folder.handle)
            .map_err(|error| named("ask for the room in", &folder.path, error.into()))?;
        Ok(Space {
            total: system.f_blocks.saturating_mul(system.f_frsize),
            free: system.f_bavail.saturating_mul(system.f_frsize),
        })
    }
}

/// An open file of a folder.
struct SystemFile {
    file: File,
    /// As it was called when it was opened; for errors.
    path: PathBuf,
    folder: Arc<Folder>,
}

impl DiskFile for SystemFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| self.failed("read", error))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let counted = &self.folder.counted;
        counted.writes.fetch_add(1, Ordering::Relaxed);
        counted.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(bytes, offset).map_err(|error| self.failed("write", error))
    }

    fn sync(&self) -> io::Result<()> {
        self.folder.counted.syncs.fetch_add(1, Ordering::Relaxed);
        pause(self.folder.options.sync_delay);
        self.file.sync_data().map_err(|error| self.failed("sync", error))
    }

    fn size(&self) -> io::Result<u64> {
        let metadata = self.file.metadata().map_err(|error| self.failed("ask about", error))?;
        Ok(metadata.len())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let now = self.size()?;
        if size <= now {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::empty(), now, size - now) {
            Ok(()) => Ok(()),
            // Not every file system reserves room. There, room is what has been written to.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                write_zeros(&self.file, now, size).map_err(|error| self.failed("allocate", error))
            }
            Err(error) => Err(self.failed("allocate", error.into())),
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        if size >= self.size()? {
            return Ok(());
        }
        self.file.set_len(size).map_err(|error| self.failed("truncate", error))
    }
}

impl SystemFile {
    fn failed(&self, action: &'static str, error: io::Error) -> io::Error {
        named(action, &self.path, error)
    }
}

fn write_zeros(file: &File, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = [0; ZEROS];
    while from < to {
        let size = (to - from).min(ZEROS as u64);
        file.write_all_at(&zeros[..size as usize], from)?;
        from += size;
    }
    Ok(())
}

/// Makes a folder and those above it, each durable in the one above.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    make_folder(above)?;
    match std::fs::create_dir(path) {
        Ok(()) => File::open(above)?.sync_all(),
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// An error of the same kind that says what was tried on which file.
fn named(action: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{action} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_disks_never_share_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deeper/log");
        let disk = FileDisk::open(&path).expect("opens");
        let name = FileName::new("a").expect("a name");
        let file = Disk::open(&disk, &name, OpenMode::New).expect("makes a file");
        drop(disk);
        let error = FileDisk::open(&path).err().expect("a file is still open");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("log: another process uses it"), "{error}");
        drop(file);
        FileDisk::open(&path).expect("opens again");
    }

    #[test]
    fn what_is_not_ours_is_not_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("folder")).expect("makes a folder");
        for name in ["README", ".hidden", "b.log", "a.log"] {
            std::fs::write(folder.path().join(name), "").expect("makes a file");
        }
        let disk = FileDisk::open(folder.path()).expect("opens");
        let names = disk.list().expect("lists");
        assert_eq!(names.iter().map(FileName::as_str).collect::<Vec<_>>(), ["a.log", "b.log"]);
    }

    #[test]
    fn zeros_stand_in_where_room_cannot_be_reserved() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = FileDisk::open(folder.path()).expect("opens");
        let name = FileName::new("a").expect("a name");
        let made = Disk::open(&disk, &name, OpenMode::New).expect("makes a file");
        made.write_at(0, b"abc").expect("writes");
        let file = File::options().write(true).open(disk.path_of(&name)).expect("opens");
        write_zeros(&file, 3, 2 * ZEROS as u64 + 5).expect("writes");
        let mut bytes = vec![1; 2 * ZEROS + 5];
        made.read_at(0, &mut bytes).expect("reads");
        assert_eq!(&bytes[..3], b"abc");
        assert!(bytes[3..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn an_error_names_the_file_and_keeps_its_kind() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = FileDisk::open(folder.path()).expect("opens");
        let name = FileName::new("missing.log").expect("a name");
        let error = Disk::open(&disk, &name, OpenMode::Existing).err().expect("nothing there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing.log"), "{error}");
    }
}
