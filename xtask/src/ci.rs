//! Everything that has to pass before a change is taken.
//!
//! What passes here passes on the machine that guards the main branch, because that machine runs
//! this. Cheap steps come first, so that a misplaced comma is not told after ten minutes. There is
//! one profile, `dev`, and one target directory: the end-to-end tests use the binary that the same
//! build made.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{licenses, tidy};

/// The steps by name, in the order they run.
const STEPS: [&str; 6] = ["fmt", "tidy", "clippy", "doc", "test", "licenses"];

/// Which steps to run.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    steps: Vec<&'static str>,
    /// Run the rest after a step has failed.
    keep_going: bool,
}

impl Plan {
    /// Reads the flags of `cargo xtask ci`.
    pub(crate) fn parse(flags: &[String]) -> Result<Self> {
        let mut plan = Self { steps: STEPS.to_vec(), keep_going: false };
        let mut flags = flags.iter().map(String::as_str);
        while let Some(flag) = flags.next() {
            match flag {
                "--keep-going" => plan.keep_going = true,
                "--only" | "--skip" => {
                    let names =
                        flags.next().with_context(|| format!("{flag} wants names of steps"))?;
                    let names: Vec<&str> = names.split(',').collect();
                    for name in &names {
                        ensure!(
                            STEPS.contains(name),
                            "no step is called `{name}`; there are {}",
                            STEPS.join(", ")
                        );
                    }
                    let only = flag == "--only";
                    plan.steps.retain(|step| names.contains(step) == only);
                }
                other => bail!("`{other}` is not a flag of ci; see `cargo xtask --help`"),
            }
        }
        Ok(plan)
    }
}

/// Runs the steps of `plan`; false when one failed.
pub(crate) fn run(root: &Path, plan: &Plan) -> Result<bool> {
    let mut report = Vec::new();
    for step in &plan.steps {
        println!("== {step}");
        let (passed, elapsed) = timed(|| run_step(root, step));
        let passed = passed?;
        let word = if passed { "ok" } else { "FAILED" };
        let line = format!("{step:<10}{word:<8}{:>7.1} s", elapsed.as_secs_f64());
        println!("== {line}\n");
        report.push((passed, line));
        if !passed && !plan.keep_going {
            break;
        }
    }
    println!("== summary");
    for (_, line) in &report {
        println!("   {line}");
    }
    Ok(report.iter().all(|(passed, _)| *passed))
}

fn run_step(root: &Path, step: &str) -> Result<bool> {
    match step {
        "fmt" => cargo(root, &["fmt", "--all", "--check"], &[]),
        "tidy" => tidy::run(root, tidy::Strictness::ScenariosRequired),
        "clippy" => {
            let lint = ["clippy", "--workspace", "--all-targets", "--locked"];
            cargo(root, &[&lint[..], &["--", "-D", "warnings"]].concat(), &[])
        }
        "doc" => cargo(
            root,
            &["doc", "--workspace", "--no-deps", "--locked"],
            &[("RUSTDOCFLAGS", "-D warnings")],
        ),
        "test" => cargo(root, &["test", "--workspace", "--locked"], &[]),
        "licenses" => licenses::run(root),
        other => bail!("no step is called `{other}`"),
    }
}

/// Runs cargo in the workspace, its output going straight to the terminal.
pub(crate) fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<bool> {
    println!("   cargo {}", arguments.join(" "));
    let status = Command::new(cargo_path())
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root)
        .status()
        .context("cargo could not be started")?;
    Ok(status.success())
}

/// The cargo that started this program, so that both are of the pinned toolchain.
pub(crate) fn cargo_path() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

#[expect(clippy::disallowed_methods, reason = "says how long a step took; nothing depends on it")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let value = work();
    (value, start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Plan> {
        Plan::parse(&flags.iter().map(|f| f.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn without_flags_everything_runs_in_order() {
        assert_eq!(parse(&[]).unwrap().steps, STEPS);
    }

    #[test]
    fn only_and_skip_choose_among_the_steps() {
        assert_eq!(parse(&["--only", "test,fmt"]).unwrap().steps, ["fmt", "test"]);
        let plan = parse(&["--skip", "clippy,doc", "--keep-going"]).unwrap();
        assert_eq!(plan.steps, ["fmt", "tidy", "test", "licenses"]);
        assert!(plan.keep_going);
    }

    #[test]
    fn an_unknown_step_or_flag_is_an_error_that_lists_the_known() {
        let error = parse(&["--only", "tests"]).unwrap_err().to_string();
        assert!(error.contains("`tests`") && error.contains("licenses"), "{error}");
        assert!(parse(&["--only"]).is_err());
        assert!(parse(&["--quick"]).is_err());
    }
}
