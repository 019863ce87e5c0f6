//! What the loss of a leader's store costs, as a table.
//!
//! The rounds are played by a test of `cli`, `tests/failover`, which says what they are; its short
//! form runs with all other tests. This chore builds the release binary and plays the long form
//! against it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{ci, compat};

/// What to play.
pub(crate) struct Plan {
    rounds: usize,
    /// Separated by commas; all of them when empty.
    faults: String,
}

impl Plan {
    pub(crate) fn parse(flags: &[String]) -> Result<Self> {
        let mut plan = Self { rounds: 30, faults: String::new() };
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            let value = flags.next().with_context(|| format!("`{flag}` needs a value"))?;
            match flag.as_str() {
                "--rounds" => plan.rounds = value.parse().context("--rounds")?,
                "--faults" => plan.faults = value.clone(),
                _ => bail!("`{flag}` is not expected here; see `cargo xtask --help`"),
            }
        }
        ensure!(plan.rounds > 0, "at least one round");
        Ok(plan)
    }
}

/// Builds, plays, and lets the test print its table; false when a round went wrong.
pub(crate) fn run(root: &Path, plan: &Plan) -> Result<bool> {
    if !ci::cargo(root, &["build", "--release", "--package", "kiva-cli", "--locked"], &[])? {
        return Ok(false);
    }
    let binary = compat::target_dir(root)?.join("release").join("kiva");
    let test = ["test", "--package", "kiva-cli", "--locked", "--test", "failover", "--"];
    let status = Command::new(ci::cargo_path())
        .args(test)
        .args(["--ignored", "--nocapture"])
        .current_dir(root)
        .env("KIVA_BIN", binary)
        .env("KIVA_FAILOVER_ROUNDS", plan.rounds.to_string())
        .env("KIVA_FAILOVER_FAULTS", &plan.faults)
        .status()
        .context("cargo could not be started")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_wrong_ones_named() {
        let parse = |flags: &[&str]| {
            Plan::parse(&flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>())
        };
        let plan = parse(&["--rounds", "3", "--faults", "kill,cut"]).unwrap();
        assert_eq!((plan.rounds, plan.faults.as_str()), (3, "kill,cut"));
        assert_eq!(parse(&[]).unwrap().rounds, 30);
        assert!(parse(&["--rounds", "0"]).is_err());
        let error = parse(&["--fast", "yes"]).err().expect("no such flag").to_string();
        assert!(error.contains("--fast"), "{error}");
    }
}
