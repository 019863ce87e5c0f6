//! Every source file belongs to a crate: some `mod` leads to it.
//!
//! The compiler does not look at a file that nobody mentions, so it rots in silence.

use std::collections::BTreeSet;

use super::Finding;
use super::repo::Repo;
use super::source::{Source, find_word};

/// Sources that no `mod` reaches.
pub(crate) fn check(repo: &Repo) -> Vec<Finding> {
    let sources = repo.sources();
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&Source> = sources.iter().filter(|source| is_root(repo, source)).collect();
    while let Some(source) = open.pop() {
        if !reached.insert(&source.path) {
            continue;
        }
        for path in children(repo, source) {
            open.extend(sources.iter().find(|other| other.path == path));
        }
    }
    let dead = sources.iter().filter(|source| !reached.contains(&*source.path));
    dead.map(|source| {
        let wrong = "no `mod` leads to this file";
        Finding::new(&source.path, 1, wrong, "declare it where it belongs, or delete it")
    })
    .collect()
}

/// Whether cargo starts compiling here.
fn is_root(repo: &Repo, source: &Source) -> bool {
    let path = source.path.as_str();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (parent, last) = folder.rsplit_once('/').unwrap_or(("", folder));
    let has_manifest = |folder: &str| repo.text(&join(folder, "Cargo.toml")).is_some();
    let is_target = |folder: &str| matches!(folder, "tests" | "benches" | "examples");
    match (last, name) {
        (_, "build.rs") if has_manifest(folder) => true,
        ("src", "lib.rs" | "main.rs") => has_manifest(parent),
        ("bin", _) => parent.ends_with("src"),
        (last, _) if is_target(last) && has_manifest(parent) => true,
        // A target in a folder of its own, or one that the manifest names.
        (_, "main.rs") => {
            let above = parent.rsplit('/').next().unwrap_or(parent);
            is_target(above) || above == "bin"
        }
        _ => is_named(repo, path),
    }
}

/// Whether a manifest above it names the file as the path of a target.
fn is_named(repo: &Repo, path: &str) -> bool {
    let manifests = repo.files().iter().filter_map(|file| {
        let folder = match file.path.as_str() {
            "Cargo.toml" => "",
            path => path.strip_suffix("/Cargo.toml")?,
        };
        Some((folder, file.text.as_deref()?))
    });
    manifests.into_iter().any(|(folder, text)| {
        let inside = match folder {
            "" => Some(path),
            folder => path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')),
        };
        inside.is_some_and(|inside| text.contains(&format!("path = \"{inside}\"")))
    })
}

/// The files that `mod x;` in a source may mean.
fn children(repo: &Repo, source: &Source) -> Vec<String> {
    let (folder, name) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let stem = name.trim_end_matches(".rs");
    let owns_folder = matches!(stem, "mod" | "lib" | "main") || is_root(repo, source);
    let below = match owns_folder {
        true => folder.to_owned(),
        false => join(folder, stem),
    };
    let mut paths = Vec::new();
    for (position, code) in source.code.iter().enumerate() {
        let Some(found) = find_word(code, "mod") else {
            continue;
        };
        let Some((child, _)) = code[found + "mod".len()..].trim().split_once(';') else {
            continue;
        };
        let above = position.checked_sub(1).and_then(|above| source.lines.get(above));
        let named = above.and_then(|line| line.trim().strip_prefix("#[path = \""));
        match named.and_then(|rest| rest.split_once('"')) {
            Some((path, _)) => paths.push(resolve(folder, path)),
            None => {
                paths.push(join(&below, &format!("{}.rs", child.trim())));
                paths.push(join(&below, &format!("{}/mod.rs", child.trim())));
            }
        }
    }
    paths
}

fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.into(),
        folder => format!("{folder}/{name}"),
    }
}

/// `path` as seen from `folder`, without `.` and `..`.
pub(crate) fn resolve(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(files: &[(&str, &str)]) -> Vec<String> {
        let manifest = ("crates/x/Cargo.toml", "[[bin]]\npath = \"tool/entry.rs\"\n");
        let files: Vec<_> = files.iter().copied().chain([manifest]).collect();
        check(&Repo::of(&files)).into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn modules_and_targets_are_reached() {
        let files = [
            ("crates/x/src/lib.rs", "pub mod a;\nmod b;\n"),
            ("crates/x/src/a.rs", "#[cfg(test)]\nmod tests;\n"),
            ("crates/x/src/a/tests.rs", ""),
            ("crates/x/src/b/mod.rs", "mod c;"),
            ("crates/x/src/b/c.rs", ""),
            ("crates/x/src/bin/tool.rs", ""),
            ("crates/x/tests/t.rs", "mod shared;\n#[path = \"../src/far.rs\"]\nmod far;"),
            ("crates/x/tests/shared/mod.rs", ""),
            ("crates/x/src/far.rs", ""),
            ("crates/x/benches/b.rs", ""),
            ("crates/x/build.rs", ""),
            ("crates/x/tool/entry.rs", ""),
        ];
        assert_eq!(dead(&files), [""; 0]);
    }

    #[test]
    fn what_nobody_mentions_is_found() {
        let files = [
            ("crates/x/src/lib.rs", "mod a;\n// mod b;\nmod c {}\n"),
            ("crates/x/src/a.rs", ""),
            ("crates/x/src/b.rs", ""),
            ("crates/x/src/c.rs", ""),
            ("crates/x/src/a/lost.rs", ""),
        ];
        assert_eq!(
            dead(&files),
            ["crates/x/src/a/lost.rs", "crates/x/src/b.rs", "crates/x/src/c.rs"]
        );
    }
}
