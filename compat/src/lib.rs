//! A playground to point official clients at.
//!
//! ```text
//!   test ── Playground::start ──► kiva playground --port 0 …     one process per test
//!    │                              │ stdout: ready 127.0.0.1:41234
//!    └── tikv-client ──────────────►│ stderr: a file, shown when the test fails
//! ```
//!
//! Every test has a process of its own on free ports with a directory of its own, so that tests
//! neither wait for nor see each other. The binary under test is named by the environment variable
//! `KIVA_BIN`; `compat/run` builds it and sets the variable.

mod playground;
mod stores;

pub use playground::{ApiVersion, Playground};
