//! Runs a command beside a fresh playground: `with-playground COMMAND [ARGUMENT…]`.
//!
//! The command finds the schedulers' addresses, separated by commas, in the environment variable
//! `PD_ADDRS`, which is what clients of TiKV call them. Its exit status is handed on. Whatever the
//! command says, a playground that panicked is a failure.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use kiva_compat::{ApiVersion, Playground};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("with-playground: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the command succeeded.
fn run() -> Result<bool> {
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next().context("usage: with-playground COMMAND [ARGUMENT…]")?;
    let playground = Playground::start(ApiVersion::V1)?;
    let status = Command::new(&program)
        .args(arguments)
        .env("PD_ADDRS", playground.schedulers().join(","))
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(status.success())
}
