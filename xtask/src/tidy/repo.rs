//! The repository as a value: every file that is, or could be, committed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::source::Source;

/// One file of the repository.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// In bytes.
    pub(crate) size: u64,
    /// `None` when it is not UTF-8.
    pub(crate) text: Option<String>,
}

/// All files, sorted by path, and the Rust sources among them taken apart.
pub(crate) struct Repo {
    files: Vec<File>,
    sources: Vec<Source>,
}

impl Repo {
    /// Reads what git tracks and what it would track: a rule is more useful before `git add`.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("git could not be started")?;
        ensure!(
            output.status.success(),
            "git ls-files failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
        let mut files = Vec::new();
        for path in names.split('\0').filter(|name| !name.is_empty()) {
            // A file that is tracked but deleted in the working tree is not there to be read.
            let Ok(bytes) = std::fs::read(root.join(path)) else {
                continue;
            };
            files.push(File {
                path: path.into(),
                size: bytes.len() as u64,
                text: String::from_utf8(bytes).ok(),
            });
        }
        Ok(Self::new(files))
    }

    fn new(mut files: Vec<File>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        let sources = files
            .iter()
            .filter(|file| file.path.ends_with(".rs"))
            .filter_map(|file| Some(Source::new(&file.path, file.text.as_ref()?)))
            .collect();
        Self { files, sources }
    }

    /// A repository of samples.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: path.to_string(),
            size: text.len() as u64,
            text: Some(text.to_string()),
        };
        Self::new(files.iter().map(file).collect())
    }

    /// Every file, sorted by path.
    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    /// The Rust sources, sorted by path.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        let position = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files[position].text.as_deref()
    }

    /// Whether this is a file, or a folder with a file in it.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let inside = format!("{path}/");
        self.files.iter().any(|file| file.path == path || file.path.starts_with(&inside))
    }

    /// The crates of the house: name of the folder below `crates/`, path and text of the manifest.
    pub(crate) fn crates(&self) -> Vec<(&str, &File)> {
        let name = |file: &File| -> Option<(usize, usize)> {
            let rest = file.path.strip_prefix("crates/")?;
            let name = rest.strip_suffix("/Cargo.toml")?;
            (!name.contains('/')).then_some(("crates/".len(), "crates/".len() + name.len()))
        };
        self.files
            .iter()
            .filter_map(|file| name(file).map(|(start, end)| (&file.path[start..end], file)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_crates_are_found() {
        let repo = Repo::of(&[
            ("crates/base/src/lib.rs", ""),
            ("crates/base/Cargo.toml", "[package]"),
            ("crates/base/tests/data/Cargo.toml", ""),
        ]);
        assert!(repo.has("crates/base/src") && repo.has("crates/base/src/lib.rs"));
        assert!(repo.has("crates/base/src/"));
        assert!(!repo.has("crates/ba"));
        assert_eq!(repo.text("crates/base/Cargo.toml"), Some("[package]"));
        assert_eq!(repo.text("crates/none/Cargo.toml"), None);
        let names: Vec<&str> = repo.crates().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["base"]);
        assert_eq!(repo.sources().len(), 1);
    }
}
