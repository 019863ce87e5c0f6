//! What does a committed proposal cost here, and what in crates `raft` and `openraft`?
//!
//! ```sh
//! cargo bench -p kiva-raft --bench versus
//! ```
//!
//! The comparison is the program in `versus/`, a workspace of its own, so that nobody who builds
//! or tests this crate builds the others. This builds it and runs it; it takes some minutes.

use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // Without this flag it is `cargo test` that asks whether everything starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/versus/Cargo.toml");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    // The whole workspace is built first, because one of its programs starts the other.
    let steps: [&[&str]; 2] = [&["build"], &["run", "--quiet", "--bin", "versus"]];
    for step in steps {
        let status = Command::new(&cargo)
            .args(step)
            .args(["--release", "--locked", "--manifest-path"])
            .arg(&manifest)
            .status();
        if !status.is_ok_and(|status| status.success()) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
