//! The library's manifests and tables, read by us as far as damage must be found before it opens
//! them: it names no file, and trusts a manifest whose checksum it has.
//!
//! Both are one container, sections with a table of contents at the end (little-endian):
//!
//! ```text
//! file     = section* contents trailer
//! contents = "TOC!" count(4) (position(8) length(8) name_length(2) name)*
//! trailer  = "SFA!" 01 00 xxh3_128(contents)(16) position(8) length(8)
//! ```
//!
//! | file | what is checked |
//! |---|---|
//! | `current` | its size; it names the manifest, and its checksum |
//! | `v7` | its checksum, and that it can be read |
//! | small `tables/12` | its checksum, which the manifest has |
//! | large `tables/12` | the contents, and every block that is not data |
//!
//! Small is up to [`TABLE_BYTES_READ`]. Data blocks of large tables have checksums too, which are
//! checked when they are read.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::error::{damaged, io_error};
use crate::EngineError;
use crate::limits::TABLE_BYTES_READ;

const TRAILER_SIZE: usize = 4 + 1 + 1 + 16 + 8 + 8;
const BLOCK_HEADER_SIZE: usize = 4 + 1 + 16 + 4 + 4 + 4;
const BLOCK_MAGIC: &[u8] = b"LSM\x03";
const CURRENT_SIZE: usize = 8 + 16 + 1;

/// Sections of a table in which every byte belongs to a block with a checksum.
const BLOCK_SECTIONS: [&[u8]; 5] = [b"index", b"tli", b"filter", b"filter_tli", b"meta"];

/// A table, as the manifest lists it.
pub(super) struct Listed {
    pub(super) path: PathBuf,
    checksum: u128,
}

struct Section {
    name: Vec<u8>,
    position: u64,
    length: u64,
}

/// The tables of the tree in `directory`, from its current manifest.
pub(super) fn manifest(directory: &Path) -> Result<Vec<Listed>, EngineError> {
    let path = directory.join("current");
    let current = read(&path)?;
    let mut fields = Fields(&current);
    let (Some(version), Some(checksum), Some(0), CURRENT_SIZE) =
        (fields.u64(), fields.u128(), fields.u8(), current.len())
    else {
        return Err(damaged(&path, "it must have 25 bytes, and the last must be 0"));
    };
    let current = path;
    let path = directory.join(format!("v{version}"));
    if !path.exists() && has_manifest(directory, checksum) {
        let reason = format!("it names v{version}, and means another");
        return Err(damaged(&current, &reason));
    }
    let manifest = read(&path)?;
    if xxh3_128(&manifest) != checksum {
        return Err(damaged(&path, "its checksum is not the one in `current`"));
    }
    let unreadable = || damaged(&path, "its list of tables cannot be read");
    let sections = contents(&path)?;
    let tables = sections
        .iter()
        .find(|section| section.name == b"tables")
        .and_then(|section| {
            let start = usize::try_from(section.position).ok()?;
            let length = usize::try_from(section.length).ok()?;
            manifest.get(start..start.checked_add(length)?)
        })
        .ok_or_else(unreadable)?;
    tables_of(tables, &directory.join("tables")).ok_or_else(unreadable)
}

/// Whether some manifest has this checksum.
fn has_manifest(directory: &Path, checksum: u128) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('v'))
        .any(|entry| fs::read(entry.path()).is_ok_and(|bytes| xxh3_128(&bytes) == checksum))
}

fn tables_of(section: &[u8], directory: &Path) -> Option<Vec<Listed>> {
    let mut fields = Fields(section);
    let mut tables = Vec::new();
    for _level in 0..fields.u8()? {
        for _run in 0..fields.u8()? {
            for _table in 0..fields.u32()? {
                let number = fields.u64()?;
                let _kind_of_checksum = fields.u8()?;
                let checksum = fields.u128()?;
                let _seqno = fields.u64()?;
                tables.push(Listed { path: directory.join(number.to_string()), checksum });
            }
        }
    }
    Some(tables)
}

/// Checks a table as far as opening needs it.
pub(super) fn check_table(table: &Listed) -> Result<(), EngineError> {
    let path = &table.path;
    let size = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Err(damaged(path, "it must be a file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged(path, "it is missing, and the manifest lists it"));
        }
        Err(error) => return Err(io_error("inspect", path, error)),
    };
    if size <= TABLE_BYTES_READ {
        return check_whole(path, table.checksum);
    }
    for section in contents(path)? {
        if BLOCK_SECTIONS.contains(&&section.name[..]) {
            check_blocks(path, &section)?;
        }
    }
    Ok(())
}

/// Checks every byte of a table.
pub(super) fn check_whole(path: &Path, checksum: u128) -> Result<(), EngineError> {
    let failed = |error| io_error("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Xxh3::new();
    let mut block = vec![0; 256 * 1024];
    loop {
        match file.read(&mut block).map_err(failed)? {
            0 => break,
            read => hasher.update(&block[..read]),
        }
    }
    if hasher.digest128() == checksum {
        Ok(())
    } else {
        Err(damaged(path, "its checksum does not match"))
    }
}

/// The table of contents, checked.
fn contents(path: &Path) -> Result<Vec<Section>, EngineError> {
    let failed = |error| io_error("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let cut = || damaged(path, "it does not end as it should");
    let trailer_at = size.checked_sub(TRAILER_SIZE as u64).ok_or_else(cut)?;
    let mut trailer = [0; TRAILER_SIZE];
    file.seek(SeekFrom::Start(trailer_at)).map_err(failed)?;
    file.read_exact(&mut trailer).map_err(failed)?;
    let mut fields = Fields(&trailer);
    let (Some(b"SFA!\x01\0"), Some(checksum), Some(position), Some(length)) =
        (fields.bytes(6), fields.u128(), fields.u64(), fields.u64())
    else {
        return Err(cut());
    };
    if position.checked_add(length) != Some(trailer_at) {
        return Err(cut());
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(position)).map_err(failed)?;
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    if xxh3_128(&bytes) != checksum {
        return Err(damaged(path, "the checksum of its table of contents does not match"));
    }
    sections(&bytes).ok_or_else(|| damaged(path, "its table of contents cannot be read"))
}

fn sections(bytes: &[u8]) -> Option<Vec<Section>> {
    let mut fields = Fields(bytes);
    fields.bytes(4).filter(|magic| *magic == b"TOC!")?;
    let count = fields.u32()?;
    let mut sections = Vec::new();
    for _ in 0..count {
        let position = fields.u64()?;
        let length = fields.u64()?;
        let name_length = fields.u16()?;
        sections.push(Section {
            name: fields.bytes(name_length.into())?.to_vec(),
            position,
            length,
        });
    }
    Some(sections)
}

/// Checks a section that is nothing but blocks:
/// `"LSM" 03 kind(1) xxh3_128(data)(16) length(4) unpacked(4) xxh3(header)(4) data`.
fn check_blocks(path: &Path, section: &Section) -> Result<(), EngineError> {
    let failed = |error| io_error("read", path, error);
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(section.position)).map_err(failed)?;
    file.take(section.length).read_to_end(&mut bytes).map_err(failed)?;
    let name = String::from_utf8_lossy(&section.name);
    let mut fields = Fields(&bytes);
    while !fields.0.is_empty() {
        let at = section.position + (bytes.len() - fields.0.len()) as u64;
        let bad = || damaged(path, &format!("a block of its {name} section, at byte {at}"));
        let header = fields.bytes(BLOCK_HEADER_SIZE).ok_or_else(bad)?;
        let (head, sum) = header.split_last_chunk::<4>().ok_or_else(bad)?;
        let mut head_fields = Fields(head);
        let magic = head_fields.bytes(BLOCK_MAGIC.len());
        let _kind = head_fields.u8();
        let (Some(checksum), Some(length)) = (head_fields.u128(), head_fields.u32()) else {
            return Err(bad());
        };
        let data = fields.bytes(length as usize).ok_or_else(bad)?;
        if magic != Some(BLOCK_MAGIC)
            || xxh3_128(head) as u32 != u32::from_le_bytes(*sum)
            || xxh3_128(data) != checksum
        {
            return Err(bad());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => damaged(path, "it is missing"),
        _ => io_error("read", path, error),
    })
}

/// Takes little-endian fields off the front; `None` when they run out.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }
}
