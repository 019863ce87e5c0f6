//! Who may import whom: the table of ARCHITECTURE.md, read from the manifests.
//!
//! Cargo refuses a cycle; this refuses an edge that merely points the wrong way. Tests may use
//! more, so dev-dependencies are free.

use super::Finding;
use super::repo::{File, Repo};

/// A room and the rooms it may import.
struct Row {
    name: &'static str,
    imports: &'static [&'static str],
}

const fn row(name: &'static str, imports: &'static [&'static str]) -> Row {
    Row { name, imports }
}

/// Bottom up. A crate may only import from rows above its own in this list.
const TABLE: [Row; 14] = [
    row("base", &[]),
    row("proto", &[]),
    row("raft", &[]),
    row("engine", &["base"]),
    row("txn", &["base", "engine"]),
    row("coprocessor", &["base", "engine", "txn"]),
    row("raftstore", &["base", "proto", "raft", "engine"]),
    row("kv", &["base", "engine", "txn", "coprocessor", "raftstore"]),
    row("scheduler", &["base", "proto", "engine", "raftstore"]),
    row("client", &["base", "proto"]),
    row(
        "node",
        &[
            "base",
            "proto",
            "raft",
            "engine",
            "txn",
            "coprocessor",
            "raftstore",
            "kv",
            "scheduler",
            "client",
        ],
    ),
    row(
        "server",
        &[
            "base",
            "proto",
            "raft",
            "engine",
            "txn",
            "coprocessor",
            "raftstore",
            "kv",
            "scheduler",
            "client",
            "node",
        ],
    ),
    // `bench` times other systems by the same clock, and speaks to them in a `grpc` module.
    row("cli", &["base", "proto", "client", "node", "server"]),
    row(
        "testkit",
        &[
            "base",
            "proto",
            "raft",
            "engine",
            "txn",
            "coprocessor",
            "raftstore",
            "kv",
            "scheduler",
            "client",
            "node",
        ],
    ),
];

/// Rooms that may not depend on an async runtime or a transport, and the packages meant. `proto`
/// holds generated stubs, so only the runtime is closed to it.
const RUNTIMES: [(&[&str], &[&str]); 2] = [
    (
        &[
            "base",
            "raft",
            "engine",
            "txn",
            "coprocessor",
            "raftstore",
            "kv",
            "scheduler",
            "testkit",
        ],
        &["tokio", "tokio-stream", "tonic", "axum", "hyper-util", "async-std", "smol"],
    ),
    (&["proto"], &["tokio", "tokio-stream", "axum", "hyper-util"]),
];

/// Every edge between crates that the table does not allow.
pub(crate) fn check(repo: &Repo) -> Vec<Finding> {
    let crates = repo.crates();
    let findings = crates.iter().flat_map(|(name, manifest)| check_crate(name, manifest));
    findings.collect()
}

fn check_crate(name: &str, manifest: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let at =
        |line, wrong: String, instead: &str| Finding::new(&manifest.path, line, wrong, instead);
    let Some(row) = TABLE.iter().find(|row| row.name == name) else {
        let wrong = format!("`{name}` has no row in the table of layers");
        findings.push(at(
            1,
            wrong,
            "give it one in ARCHITECTURE.md and in xtask/src/tidy/layers.rs",
        ));
        return findings;
    };
    for (line, dependency) in dependencies(manifest) {
        let closed = RUNTIMES
            .iter()
            .any(|(rooms, packages)| rooms.contains(&name) && packages.contains(&&*dependency));
        if closed {
            let wrong = format!("`{name}` depends on `{dependency}`, a runtime or a transport");
            findings.push(at(line, wrong, "await `std` futures, and take I/O through a port"));
        }
        match dependency.strip_prefix("kiva-") {
            Some("testkit") => findings.push(at(
                line,
                format!("`{name}` depends on testkit"),
                "make it a dev-dependency: the product knows nothing of its tests",
            )),
            Some(room) if !row.imports.contains(&room) => findings.push(at(
                line,
                format!("`{name}` may not import `{room}`"),
                "imports point down: move what is needed to a lower room, or let this room \
                 declare a port that the other one is plugged into from above",
            )),
            _ => {}
        }
    }
    findings
}

/// The normal dependencies of a manifest with their lines; also those for one platform.
fn dependencies(manifest: &File) -> Vec<(usize, String)> {
    let text = manifest.text.as_deref().unwrap_or_default();
    let mut listed = Vec::new();
    let mut in_section = false;
    for (position, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            in_section = header == "dependencies" || header.ends_with(".dependencies");
            // The long form: a table per dependency.
            if let Some(name) = header.strip_prefix("dependencies.") {
                listed.push((position + 1, name.to_owned()));
            }
        } else if in_section && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', '=', ' ']).unwrap_or(line.len());
            listed.push((position + 1, line[..end].trim_matches('"').to_owned()));
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, manifest: &str) -> Vec<Finding> {
        check(&Repo::of(&[(&format!("crates/{name}/Cargo.toml"), manifest)]))
    }

    #[test]
    fn an_import_downwards_is_fine() {
        let manifest = "[dependencies]\nkiva-base.workspace = true\nbytes = \"1\"\n\n\
                        [dev-dependencies]\nkiva-testkit.workspace = true\n\
                        kiva-kv.workspace = true\n";
        assert_eq!(findings("engine", manifest), []);
    }

    #[test]
    fn an_import_upwards_or_sideways_is_found_at_its_line() {
        let found = findings("txn", "[dependencies]\n# why\nkiva-kv.workspace = true\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 3);
        assert!(found[0].wrong.contains("`txn` may not import `kv`"));
        assert_eq!(findings("kv", "[dependencies.kiva-scheduler]\nworkspace = true\n").len(), 1);
        assert_eq!(findings("base", "[dependencies]\nkiva-proto = { path = \"\" }\n").len(), 1);
    }

    #[test]
    fn the_testkit_is_for_tests_only() {
        let found = findings("server", "[dependencies]\nkiva-testkit.workspace = true\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].instead.contains("dev-dependency"));
    }

    #[test]
    fn a_runtime_below_the_edge_is_found() {
        assert_eq!(findings("kv", "[dependencies]\ntokio.workspace = true\n").len(), 1);
        assert_eq!(findings("proto", "[dependencies]\ntonic.workspace = true\n"), []);
        assert_eq!(findings("server", "[dependencies]\ntokio.workspace = true\n"), []);
        assert_eq!(findings("kv", "[dev-dependencies]\ntokio.workspace = true\n"), []);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(findings("attic", "[dependencies]\n").len(), 1);
    }

    #[test]
    fn the_table_itself_points_down() {
        for (position, row) in TABLE.iter().enumerate() {
            let below: Vec<&str> = TABLE[..position].iter().map(|row| row.name).collect();
            for import in row.imports {
                assert!(below.contains(import), "{} imports {import}", row.name);
            }
        }
    }
}
