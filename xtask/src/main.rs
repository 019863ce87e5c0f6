//! Chores of the repository, run as `cargo xtask CHORE`.
//!
//! | chore | does |
//! |---|---|
//! | [`ci`] | everything that has to pass before a change is taken, in order |
//! | [`tidy`] | holds manifests, sources and documents to the rules of the house |
//! | [`licenses`] | reads the license of every dependency |
//! | [`compat`] | runs the official clients against the binary built here |
//! | [`figures`] | times Kiva beside a bare echo and etcd, and prints the table |
//! | [`counts`] | counts what a put and a get cost, and holds them to what they may |
//! | [`failover`] | takes the leader's store away in every way, and prints what each costs |
//!
//! Each chore prints what it does and for how long, and ends with exit status 1 when something is
//! wrong. They need git and cargo, and [`counts`] more where it is there.
#![expect(clippy::print_stdout, reason = "its answers are for a person at a terminal")]

mod ci;
mod compat;
mod counts;
mod failover;
mod figures;
mod licenses;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const HELP: &str = "\
Chores of the repository.

cargo xtask ci [--only STEP,...] [--skip STEP,...] [--keep-going]
    all of: fmt, tidy, clippy, doc, test, licenses, in this order
cargo xtask tidy [--require-scenarios]
    layering, absences, layout, documents; --require-scenarios: an id of
    docs/scenarios-covered.txt that no test names is an error
cargo xtask licenses
    the license of every dependency against the list of those we accept
cargo xtask compat
    builds the binary and runs compat/run with KIVA_BIN pointing at it
cargo xtask figures [--etcd BINARY] [--data-dir DIR] [--replicas N] [--seconds N] [--rounds N]
    times three stores (or --replicas 1 or 5) beside a bare gRPC echo, and
    beside as many members of etcd if a binary of it is named; 5 rounds of 5
    seconds a row unless told otherwise
cargo xtask counts [--binary FILE]
    system calls, syncs, messages, instructions and allocations of a put and of
    a get, each beside the most it may be; what needs strace or valgrind is
    skipped where they are not; --binary: a release build made before
cargo xtask failover [--rounds N] [--faults FAULT,...]
    kill, pause, cut, deaf, mute, apart, replace: 30 rounds each of the store
    that leads, one of three under load, and the time without a write; those
    that cut the network need Linux and root, and are skipped otherwise
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs one chore; false when it found something wrong.
fn run(arguments: &[String]) -> Result<bool> {
    let root = root()?;
    let (chore, flags) = match arguments.split_first() {
        Some((chore, flags)) => (chore.as_str(), flags),
        None => ("--help", [].as_slice()),
    };
    match chore {
        "ci" => ci::run(&root, &ci::Plan::parse(flags)?),
        "tidy" => tidy::run(&root, tidy::Strictness::parse(flags)?),
        "licenses" => {
            no_flags(flags)?;
            licenses::run(&root)
        }
        "counts" => counts::run(&root, &counts::Plan::parse(flags)?),
        "compat" => {
            no_flags(flags)?;
            compat::run(&root)
        }
        "failover" => failover::run(&root, &failover::Plan::parse(flags)?),
        "figures" => figures::run(&root, &figures::Plan::parse(flags)?),
        "--help" | "-h" | "help" => {
            print!("{HELP}");
            Ok(true)
        }
        other => bail!("no chore is called `{other}`; `cargo xtask --help` lists them"),
    }
}

fn no_flags(flags: &[String]) -> Result<()> {
    match flags.first() {
        None => Ok(()),
        Some(flag) => bail!("`{flag}` is not expected here; see `cargo xtask --help`"),
    }
}

/// The folder of the workspace: the parent of this package.
fn root() -> Result<PathBuf> {
    let package = std::env::var("CARGO_MANIFEST_DIR")
        .context("xtask is started by cargo: `cargo xtask ...`")?;
    let root = PathBuf::from(package);
    Ok(root.parent().context("the package xtask lies in a workspace")?.to_path_buf())
}
