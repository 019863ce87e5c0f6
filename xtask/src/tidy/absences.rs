//! Calls and types that may appear in certain rooms only.
//!
//! What a room does not do cannot be seen by reading it, so it is listed here: each [`Absence`] is
//! a set of words, the places where they may stand, and what to write elsewhere. Tests may do as
//! they like, unless clippy says otherwise.

use super::Finding;
use super::repo::Repo;
use super::source::{Source, find_word};

/// Words that may only stand where `may` says so.
struct Absence {
    words: &'static [&'static str],
    may: fn(&Source) -> bool,
    wrong: &'static str,
    instead: &'static str,
}

const ABSENCES: [Absence; 8] = [
    Absence {
        words: &[
            "thread::spawn",
            "thread::scope",
            "thread::Builder",
            "tokio::spawn",
            "task::spawn",
            "spawn_blocking",
            "spawn_local",
            "JoinSet",
            "Runtime::new",
            "runtime::Builder",
        ],
        may: |source| is_in(source, &["runtime"]),
        wrong: "only `runtime` modules start threads, tasks and runtimes",
        instead: "write a loop with `handle`, and let the crate's `runtime` module drive it",
    },
    Absence {
        words: &[
            "Instant::now",
            "SystemTime::now",
            "thread::sleep",
            "thread_rng",
            "rand::rng",
            "rand::random",
            "RandomState",
        ],
        may: |source| {
            is_in(source, &["runtime"])
                || source.path == "crates/server/src/clock.rs"
                || is_crate(source, &["cli"])
                || source.path.starts_with("xtask/src/")
        },
        wrong: "time and randomness are not ours to take: two runs of one seed would differ",
        instead: "take a `kiva_base::Clock`, a `Moment` or a seed as an argument",
    },
    Absence {
        words: &["kiva_proto"],
        may: |source| {
            is_in(source, &["wire", "grpc", "service"])
                || is_crate(source, &["proto"])
                || (is_crate(source, &["server"]) && is_in(source, &["transport", "placement"]))
        },
        wrong: "generated types stay in `wire`, `grpc` and `service`",
        instead: "convert in a `wire` module, and use our own types from there on",
    },
    Absence {
        words: &["tokio", "tonic"],
        may: |source| !is_crate(source, &["client"]) || is_in(source, &["grpc", "runtime"]),
        wrong: "the client knows its runtime and transport in `grpc` and `runtime` only",
        instead: "await `std` futures and ask through the ports of `client::rpc`",
    },
    Absence {
        words: &["HashMap", "HashSet"],
        may: |source| source.path == "crates/base/src/map.rs",
        wrong: "the order of a standard hash map differs from run to run",
        instead: "`BTreeMap`, `BTreeSet`, or `kiva_base::map` with a seed",
    },
    Absence {
        words: &[".unwrap()"],
        may: |_| false,
        wrong: "an `unwrap` says nothing when it fails",
        instead: "return an error, or `expect` the fact that makes it impossible",
    },
    Absence {
        words: &["println!", "eprintln!", "print!", "eprint!"],
        may: |source| {
            is_crate(source, &["cli"])
                || source.path.starts_with("xtask/")
                || source.path.ends_with("/build.rs")
                || is_in(source, &["bin"])
        },
        wrong: "a library does not own the terminal",
        instead: "return a value, or write a `tracing` event",
    },
    Absence {
        words: &["dbg!(", "todo!(", "unimplemented!("],
        may: |_| false,
        wrong: "this is a note to ourselves, not a program",
        instead: "finish it, or refuse with an error that says what is not served",
    },
];

fn is_in(source: &Source, rooms: &[&str]) -> bool {
    source.rooms().any(|room| rooms.contains(&room))
}

fn is_crate(source: &Source, names: &[&str]) -> bool {
    source.crate_name().is_some_and(|name| names.contains(&name))
}

/// Every banned word in the product's code.
pub(crate) fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_ours =
        |source: &&Source| source.path.starts_with("crates/") || source.path.starts_with("xtask/");
    for source in repo.sources().iter().filter(is_ours) {
        for absence in ABSENCES.iter().filter(|absence| !(absence.may)(source)) {
            for (line, code) in source.product_code() {
                if let Some(word) = absence.words.iter().find(|w| find_word(code, w).is_some()) {
                    let wrong = format!("`{}`: {}", word.trim_end_matches('('), absence.wrong);
                    findings.push(Finding::new(&source.path, line, wrong, absence.instead));
                }
            }
        }
        findings.extend(unsafety(source));
    }
    findings
}

/// `unsafe` exists in `engine` only, below a comment that argues for it.
fn unsafety(source: &Source) -> Vec<Finding> {
    // How far above the block the argument may begin.
    const ARGUMENT_LINES: usize = 6;
    let mut findings = Vec::new();
    for (position, code) in source.code.iter().enumerate() {
        if find_word(code, "unsafe").is_none() {
            continue;
        }
        let above = &source.comments[position.saturating_sub(ARGUMENT_LINES)..position];
        if !is_crate(source, &["engine"]) {
            let wrong = "`unsafe` outside of `engine`";
            let instead = "safe code; a crate that does it well is better than a block here";
            findings.push(Finding::new(&source.path, position + 1, wrong, instead));
        } else if !above.iter().any(|line| line.contains("SAFETY:")) {
            let wrong = "`unsafe` without an argument";
            let instead = "a comment above it that begins with SAFETY: and says why it is sound";
            findings.push(Finding::new(&source.path, position + 1, wrong, instead));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Repo::of(&[(path, text)])).len()
    }

    /// Each row: a line, a file where it must not stand, a file where it may.
    #[test]
    fn each_absence_fires_where_it_should_and_nowhere_else() {
        let kv = "crates/kv/src/executor.rs";
        for (line, bad, good) in [
            ("std::thread::spawn(f);", kv, "crates/kv/src/runtime.rs"),
            ("std::thread::Builder::new();", kv, "crates/kv/src/local/runtime.rs"),
            ("tokio::spawn(f);", "crates/server/src/lib.rs", "crates/server/src/runtime.rs"),
            ("spawn_blocking(f);", "crates/server/src/lib.rs", "crates/server/src/runtime/io.rs"),
            ("runtime::Builder::new();", "crates/cli/src/main.rs", "crates/cli/src/runtime.rs"),
            ("Instant::now();", kv, "crates/server/src/clock.rs"),
            ("SystemTime::now();", "crates/server/src/lib.rs", "crates/cli/src/bench.rs"),
            ("rand::rng();", kv, "crates/kv/benches/b.rs"),
            ("use kiva_proto::pdpb;", kv, "crates/scheduler/src/wire.rs"),
            (
                "use kiva_proto::pdpb;",
                "crates/kv/src/transport.rs",
                "crates/server/src/transport.rs",
            ),
            (
                "use kiva_proto::pdpb;",
                "crates/server/src/lib.rs",
                "crates/server/src/service/pd.rs",
            ),
            ("use tokio::time;", "crates/client/src/raw.rs", "crates/client/src/runtime.rs"),
            ("use tonic::Status;", "crates/client/src/wire.rs", "crates/client/src/grpc.rs"),
            ("use std::collections::HashMap;", kv, "crates/base/src/map.rs"),
            ("let s: HashSet<u8> = x;", kv, "crates/kv/tests/t.rs"),
            ("x.unwrap();", kv, "crates/kv/src/latch/tests.rs"),
            ("println!(\"\");", kv, "crates/cli/src/ctl.rs"),
            ("eprintln!(\"\");", "crates/testkit/src/lib.rs", "crates/testkit/src/bin/sim.rs"),
            ("dbg!(x);", kv, "crates/kv/tests/t.rs"),
            ("todo!();", "xtask/src/ci.rs", "crates/kv/tests/t.rs"),
            ("unsafe { f() }", kv, "crates/kv/src/safe.md"),
        ] {
            assert_eq!(count(bad, line), 1, "{line} in {bad}");
            assert_eq!(count(good, line), 0, "{line} in {good}");
        }
    }

    #[test]
    fn comments_texts_tests_and_longer_names_are_not_code() {
        for line in [
            "// Instant::now is banned",
            "let x = \"thread::spawn\";",
            "#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap(); }\n}",
            "type MyHashMap = u8;",
            "x.unwrap_or_default();",
        ] {
            assert_eq!(count("crates/kv/src/executor.rs", line), 0, "{line}");
        }
    }

    #[test]
    fn an_unsafe_block_of_the_engine_argues_for_itself() {
        let path = "crates/engine/src/tree.rs";
        assert_eq!(count(path, "// SAFETY: the slice is alive.\nunsafe { f() }"), 0);
        assert_eq!(count(path, "unsafe { f() }"), 1);
    }
}
