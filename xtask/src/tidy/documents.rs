//! Every path that a document names exists.
//!
//! Two kinds of words are taken for paths: the target of a link, seen from the document, and a
//! word in backticks that begins with a folder of the root or of a crate, or is the name of a
//! source or document. Blocks of code are left alone: they show commands and examples.

use super::Finding;
use super::reach::resolve;
use super::repo::Repo;

/// Endings that make a single word the name of a file of ours.
const ENDINGS: [&str; 3] = [".rs", ".md", ".proto"];

/// Folders of the root that documents speak of, also before they exist.
const ROOTS: [&str; 8] = ["crates", "docs", "xtask", "fuzz", "compat", "config", ".ci", ".cargo"];

/// Names of paths that do not exist.
pub(crate) fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    let documents = repo.files().iter().filter(|file| file.path.ends_with(".md"));
    for document in documents {
        let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut in_block = false;
        let text = document.text.as_deref().unwrap_or_default();
        for (position, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
            }
            if in_block {
                continue;
            }
            let links = links(line).filter(|path| !repo.has(&resolve(folder, path)));
            let words = words(line).filter(|word| !is_known(repo, folder, word));
            for path in links.chain(words) {
                let wrong = format!("`{path}` does not exist");
                let instead = "name the file as it is now, or describe it in words";
                findings.push(Finding::new(&document.path, position + 1, wrong, instead));
            }
        }
    }
    findings
}

/// Targets of links that lead into the repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Words in backticks that may be paths.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|word| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "./_-".contains(c);
        !word.is_empty()
            && word.chars().all(is_plain)
            && !word.starts_with('/')
            && !ENDINGS.contains(word)
            && (word.contains('/') || ENDINGS.iter().any(|ending| word.ends_with(ending)))
    })
}

/// Whether a word is no path of ours, or one that exists.
fn is_known(repo: &Repo, folder: &str, word: &str) -> bool {
    let Some((first, _)) = word.split_once('/') else {
        let named = |path: &str| path.rsplit('/').next() == Some(word);
        return repo.files().iter().any(|file| named(&file.path));
    };
    let crate_path = format!("crates/{word}");
    let is_ours = ROOTS.contains(&first) || repo.has(&format!("crates/{first}"));
    !is_ours || repo.has(word) || repo.has(&crate_path) || repo.has(&resolve(folder, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(line: &str) -> usize {
        let files = [
            ("docs/page.md", line),
            ("docs/other.md", ""),
            ("README.md", ""),
            ("crates/kv/src/executor.rs", ""),
        ];
        check(&Repo::of(&files)).len()
    }

    #[test]
    fn paths_that_exist_are_fine() {
        for good in [
            "see [other](other.md) and [readme](../README.md#tests), [web](https://a.b/c.md)",
            "in `crates/kv/src/executor.rs`, `kv/src/executor.rs`, `executor.rs`, `docs/`",
            "about `a/b`, `Vec<u8>`, `/etc/hosts`, `GET /pd/api`, `txn/prewrite`",
            "of `store.toml`, `.rs`",
            "```\ncargo run crates/none/x.rs `docs/none.md`\n```",
            "[below](#below)",
        ] {
            assert_eq!(count(good), 0, "{good}");
        }
    }

    #[test]
    fn paths_that_do_not_are_found() {
        for bad in [
            "see [gone](gone.md)",
            "see [gone](../crates/kv/src/gone.rs)",
            "in `crates/kv/src/gone.rs`",
            "in `kv/src/gone.rs`",
            "in `gone.rs`",
            "in `docs/gone/`",
        ] {
            assert_eq!(count(bad), 1, "{bad}");
        }
    }
}
