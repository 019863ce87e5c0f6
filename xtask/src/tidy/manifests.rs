//! Dependencies are explained, used and named once; no crate is empty; nothing heavy is committed.

use super::Finding;
use super::repo::{File, Repo};
use super::source::Source;

/// Largest file in bytes. Data belongs to the script that makes it.
const FILE_SIZE_MAX: u64 = 1024 * 1024;

/// Fewest lines of code that make a crate. Below it is a promise, not a room.
const CRATE_LINES_MIN: usize = 20;

/// All findings about manifests and sizes.
pub(crate) fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings = explained(repo);
    findings.extend(inherited(repo));
    findings.extend(filled(repo));
    findings.extend(repo.files().iter().filter(|f| f.size > FILE_SIZE_MAX).map(|f| {
        let wrong = format!("{} bytes, the limit is {FILE_SIZE_MAX}", f.size);
        Finding::new(&f.path, 1, wrong, "commit the script that makes it")
    }));
    findings
}

/// Each dependency of the workspace stands below a comment, alone or with its relatives, and some
/// crate uses it.
fn explained(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    let manifest = repo.text("Cargo.toml").unwrap_or_default();
    let members = |file: &&File| file.path.ends_with("/Cargo.toml");
    let mut in_section = false;
    let mut is_explained = false;
    for (position, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            in_section = line == "[workspace.dependencies]";
        } else if line.starts_with('#') {
            is_explained = true;
        } else if line.is_empty() {
            is_explained = false;
        } else if in_section {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            let at =
                |wrong: String, instead| Finding::new("Cargo.toml", position + 1, wrong, instead);
            if !is_explained {
                let wrong = format!("nobody says what `{name}` is for");
                findings.push(at(wrong, "put a comment above it"));
            }
            let mut texts = repo.files().iter().filter(members);
            if !texts.any(|file| uses(file, name)) {
                let wrong = format!("no crate uses `{name}`");
                findings.push(at(wrong, "remove the line"));
            }
        }
    }
    findings
}

fn uses(manifest: &File, dependency: &str) -> bool {
    let text = manifest.text.as_deref().unwrap_or_default();
    text.lines().any(|line| {
        line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    })
}

/// Members take versions from the workspace, so that one line decides.
fn inherited(repo: &Repo) -> Vec<Finding> {
    let members = repo.crates().into_iter().map(|(_, file)| file);
    let xtask = repo.files().iter().filter(|f| f.path == "xtask/Cargo.toml");
    let mut findings = Vec::new();
    for file in members.chain(xtask) {
        let text = file.text.as_deref().unwrap_or_default();
        let manifest: toml::Table = match text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::new(&file.path, 1, error.to_string(), "valid TOML"));
                continue;
            }
        };
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(listed) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for (name, value) in listed {
                let is_inherited = value.get("workspace").and_then(toml::Value::as_bool);
                if is_inherited != Some(true) {
                    let line = text.lines().position(|line| line.starts_with(name.as_str()));
                    findings.push(Finding::new(
                        &file.path,
                        line.map_or(1, |position| position + 1),
                        format!("`{name}` has a version of its own"),
                        "name the version in the root manifest, here `workspace = true`",
                    ));
                }
            }
        }
    }
    findings
}

/// Every crate has something to hold.
fn filled(repo: &Repo) -> Vec<Finding> {
    let count = |name: &str| -> usize {
        let sources = repo.sources().iter().filter(|s| s.crate_name() == Some(name));
        sources.map(lines_of_code).sum()
    };
    let empty = |(name, file): (&str, &File)| {
        let lines = count(name);
        (lines < CRATE_LINES_MIN).then(|| {
            let wrong = format!("`{name}` has {lines} lines of code, it is a promise");
            Finding::new(&file.path, 1, wrong, "create a crate with its first content")
        })
    };
    repo.crates().into_iter().filter_map(empty).collect()
}

fn lines_of_code(source: &Source) -> usize {
    source.code.iter().filter(|line| !line.trim().is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.wrong).collect()
    }

    #[test]
    fn a_dependency_without_a_comment_is_found() {
        let member = "[dependencies]\na.workspace = true\nb = {}\nc.workspace = true\n";
        let good =
            "[workspace.dependencies]\n# Both do x.\na = \"1\"\nb = \"1\"\n# Does y.\nc = \"1\"";
        let repo = Repo::of(&[("Cargo.toml", good), ("crates/x/Cargo.toml", member)]);
        assert_eq!(explained(&repo), []);
        let bad = "[workspace.dependencies]\n# Does x.\na = \"1\"\n\nb = \"1\"\nc = \"1\"";
        let repo = Repo::of(&[("Cargo.toml", bad), ("crates/x/Cargo.toml", member)]);
        let found = explained(&repo);
        assert_eq!(found.iter().map(|f| f.line).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn a_dependency_that_nobody_uses_is_found() {
        let root = "[workspace.dependencies]\n# Does x.\nserde = \"1\"\n";
        let member = "[dependencies]\nserde_json.workspace = true\n";
        let repo = Repo::of(&[("Cargo.toml", root), ("crates/x/Cargo.toml", member)]);
        assert_eq!(wrongs(explained(&repo)), ["no crate uses `serde`"]);
    }

    #[test]
    fn a_version_of_its_own_is_found() {
        let member = "[dependencies]\na.workspace = true\nb = \"1\"\nc = { workspace = true }\n";
        let found = inherited(&Repo::of(&[("crates/x/Cargo.toml", member)]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 3);
    }

    #[test]
    fn an_empty_crate_is_found() {
        let full = "fn f() {}\n".repeat(CRATE_LINES_MIN);
        let comments = "// words\n".repeat(CRATE_LINES_MIN);
        let repo =
            |text: &str| Repo::of(&[("crates/x/Cargo.toml", ""), ("crates/x/src/lib.rs", text)]);
        assert_eq!(filled(&repo(&full)), []);
        assert_eq!(filled(&repo(&comments)).len(), 1);
    }

    #[test]
    fn a_heavy_file_is_found() {
        let heavy = "x".repeat(FILE_SIZE_MAX as usize + 1);
        assert_eq!(check(&Repo::of(&[("data.txt", &heavy)])).len(), 1);
        assert_eq!(check(&Repo::of(&[("data.txt", &heavy[1..])])), []);
    }
}
