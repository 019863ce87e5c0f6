//! Behaviour of placement, as scripts that a person can read. Below `tests/scripts`, one directory
//! for each topic; the commands are documented where the runner parses them.
#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

mod support;

use std::path::Path;

#[test]
fn scripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    kiva_testkit::script::run_directory(&directory, support::runner::Runner::new);
}
