//! The official clients against the binary built here.
//!
//! `compat/` is a workspace of its own, because the clients bring old versions of crates that
//! nobody else should have to build. It says in `compat/run` how it is run; this chore builds the
//! binary with the profile the tests use and hands over its path.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::ci;

/// Runs `compat/run` with `KIVA_BIN` and `CARGO_TARGET_DIR` set; false when it fails.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let script = root.join("compat/run");
    if !script.exists() {
        println!("compat: {} does not exist, nothing to run", script.display());
        return Ok(true);
    }
    if !ci::cargo(root, &["build", "--package", "kiva-cli", "--locked"], &[])? {
        return Ok(false);
    }
    let target = target_dir(root)?;
    let binary = target.join("debug").join("kiva");
    println!("   compat/run with KIVA_BIN={}", binary.display());
    let status = Command::new("bash")
        .arg(&script)
        .current_dir(root.join("compat"))
        .env("KIVA_BIN", &binary)
        .env("CARGO_TARGET_DIR", target.join("compat"))
        .status()
        .context("bash could not be started")?;
    Ok(status.success())
}

/// Where cargo puts what it builds: the environment, configuration files and the default decide,
/// so cargo is asked.
pub(crate) fn target_dir(root: &Path) -> Result<PathBuf> {
    let output = Command::new(ci::cargo_path())
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .current_dir(root)
        .output()
        .context("cargo metadata could not be started")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata did not print JSON")?;
    let directory = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(directory))
}
