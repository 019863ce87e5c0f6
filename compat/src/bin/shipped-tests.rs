//! Runs the tests that the `tikv-client` package ships, where they lie.
//!
//! The package's own manifest pins a toolchain and compiles OpenSSL for one plain HTTP request, so
//! its tests cannot simply be run in place. Nor are they copied: a project is written whose test
//! targets point into the downloaded package.
//!
//! ```text
//!   Cargo.toml [dev-dependencies] ─┐
//!   Cargo.lock ────────────────────┼─► target/shipped-tests/Cargo.toml
//!   cargo metadata: the package ───┘      [[test]] path = "…/tikv-client-0.4.0/tests/….rs"
//! ```
//!
//! They run one at a time against one cluster of API version 2, because each begins by deleting
//! everything. What Kiva does not serve yet is named, with the reason, in `tikv-client-tests.skip`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, Result, bail, ensure};
use kiva_compat::{ApiVersion, Playground};
use serde_json::Value;

/// The test targets of the package.
const TARGETS: [&str; 2] = ["integration_tests", "failpoint_tests"];

/// The switch that makes the tests spread their keys over many regions. The skip list may name it.
const MULTI_REGION: &str = "MULTI_REGION";

/// How long one target may take. On an idle machine it is one or two minutes; a client that retries
/// for ever should fail the run and not stall it.
const TARGET_WITHIN: Duration = Duration::from_secs(420);

/// What a manifest must say to be compiled as this package's own tests are, and so only once.
const SHARED_SECTIONS: [&str; 4] =
    ["[dependencies]", "[dev-dependencies]", "[profile.dev]", "[profile.dev.package.\"*\"]"];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("shipped-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that was run passed.
fn run() -> Result<bool> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let skip_file = here.join("tikv-client-tests.skip");
    let skipped = read_skip_list(&fs::read_to_string(&skip_file)?)
        .with_context(|| skip_file.display().to_string())?;
    let only: Vec<String> = env::args().skip(1).collect();

    let metadata = cargo_metadata(here)?;
    let package = package_directory(&metadata)?;
    let target = metadata["target_directory"].as_str().context("no target directory")?;
    let project = write_project(here, &package, &Path::new(target).join("shipped-tests"))?;
    let binaries = compile(&project, Path::new(target))?;

    let mut names = BTreeMap::new();
    for (target, binary) in &binaries {
        for name in list_tests(binary)? {
            names.insert(name, target.clone());
        }
    }
    for name in skipped.keys().filter(|name| *name != MULTI_REGION) {
        ensure!(names.contains_key(name), "{}: no test is named {name}", skip_file.display());
    }

    let mut total = Counts::default();
    for (target, binary) in &binaries {
        let counts = run_target(target, binary, &skipped, &only)?;
        println!("{target}: {} passed, {} failed", counts.passed, counts.failed);
        total.passed += counts.passed;
        total.failed += counts.failed;
    }
    let in_file = names.keys().filter(|name| skipped.contains_key(*name)).count();
    println!("shipped tests: {} passed, {} failed, {in_file} skipped", total.passed, total.failed);
    Ok(total.failed == 0 && total.passed > 0)
}

/// `NAME: REASON` lines. A line without a reason is refused: the list is to be read.
fn read_skip_list(text: &str) -> Result<BTreeMap<String, String>> {
    let mut skipped = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (name, reason) =
            line.split_once(':').with_context(|| format!("no reason given: {line:?}"))?;
        ensure!(!reason.trim().is_empty(), "no reason given: {line:?}");
        skipped.insert(name.trim().to_owned(), reason.trim().to_owned());
    }
    Ok(skipped)
}

/// Cargo, without what the cargo that runs us tells about this package. The build scripts of some
/// dependencies look at it, and would be run again each time it changes.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

fn cargo_metadata(here: &Path) -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(here.join("Cargo.toml"))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Where cargo unpacked the client.
fn package_directory(metadata: &Value) -> Result<PathBuf> {
    let packages = metadata["packages"].as_array().context("metadata without packages")?;
    let client = packages.iter().find(|package| package["name"] == "tikv-client");
    let manifest = client.and_then(|package| package["manifest_path"].as_str());
    let directory = manifest.and_then(|path| Path::new(path).parent());
    Ok(directory.context("cargo does not know where tikv-client lies")?.to_owned())
}

/// Writes the project whose tests are the package's, and returns its manifest.
fn write_project(here: &Path, package: &Path, project: &Path) -> Result<PathBuf> {
    let ours = fs::read_to_string(here.join("Cargo.toml"))?;
    let mut manifest = String::from(
        "# Written by `shipped-tests`; changes are lost.\n\
         [workspace]\n\n\
         [package]\nname = \"shipped-tests\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
         publish = false\n\n\
         # The tests are conditional on it, in this package as in their own.\n\
         [features]\ndefault = [\"integration-tests\"]\nintegration-tests = []\n",
    );
    for target in TARGETS {
        let path = package.join("tests").join(target).with_extension("rs");
        ensure!(path.is_file(), "{} is not there", path.display());
        // Debug output of a path is a TOML basic string for every path that cargo uses.
        manifest += &format!("\n[[test]]\nname = {target:?}\npath = {path:?}\n");
    }
    for name in SHARED_SECTIONS {
        manifest += &format!("\n{}", section(&ours, name)?);
    }

    fs::create_dir_all(project.join("src"))?;
    write_if_changed(&project.join("Cargo.toml"), &manifest)?;
    // Cargo wants a library or a binary in every package.
    write_if_changed(&project.join("src/lib.rs"), "")?;
    fs::copy(here.join("Cargo.lock"), project.join("Cargo.lock"))?;
    Ok(project.join("Cargo.toml"))
}

/// A section of a manifest, from its header line to the next.
fn section(manifest: &str, header: &str) -> Result<String> {
    let mut lines = manifest.lines().skip_while(|line| *line != header);
    let first = lines.next().with_context(|| format!("Cargo.toml has no section {header}"))?;
    let body = lines.take_while(|line| !line.starts_with('['));
    Ok(std::iter::once(first).chain(body).fold(String::new(), |text, line| text + line + "\n"))
}

/// Leaves a file's age alone when nothing changed, so that cargo compiles nothing again.
fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Compiles the tests and returns each target's name and executable.
fn compile(manifest: &Path, target: &Path) -> Result<Vec<(String, PathBuf)>> {
    let output = cargo()
        .args(["test", "--no-run", "--message-format", "json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(manifest)
        .env("CARGO_TARGET_DIR", target)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the shipped tests do not compile: {}", output.status);
    let mut binaries = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line)?;
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let (true, Some(path)) = (TARGETS.contains(&name), message["executable"].as_str()) {
            binaries.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    ensure!(binaries.len() == TARGETS.len(), "cargo reported {binaries:?}");
    Ok(binaries)
}

fn list_tests(binary: &Path) -> Result<Vec<String>> {
    let output = Command::new(binary).arg("--list").stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{} --list: {}", binary.display(), output.status);
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(Into::into).collect())
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
}

/// Runs one target against a cluster of its own.
fn run_target(
    target: &str,
    binary: &Path,
    skipped: &BTreeMap<String, String>,
    only: &[String],
) -> Result<Counts> {
    let playground = Playground::start(ApiVersion::V2)?;
    let mut command = Command::new(binary);
    command.args(["--test-threads", "1", "--exact"]);
    for name in skipped.keys().filter(|name| !only.contains(name)) {
        command.args(["--skip", name]);
    }
    command.args(only).env("PD_ADDRS", playground.schedulers().join(","));
    if skipped.contains_key(MULTI_REGION) {
        command.env_remove(MULTI_REGION);
    } else {
        command.env(MULTI_REGION, "1");
    }
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;

    let output = child.stdout.take().context("its output was asked for as a pipe")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + TARGET_WITHIN;
    let mut counts = Counts::default();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                if line.starts_with("test result:") {
                    counts = parse_result(&line)?;
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                bail!("{target} did not end within {TARGET_WITHIN:?}");
            }
        }
    }
    let status = child.wait()?;
    ensure!(status.success() || counts.failed > 0, "{target} ended with {status}");
    Ok(counts)
}

/// Reads `test result: ok. 17 passed; 0 failed; …`.
fn parse_result(line: &str) -> Result<Counts> {
    let number = |word: &str| -> Result<usize> {
        let before = line.split(&[';', '.'][..]).find_map(|part| part.trim().strip_suffix(word));
        Ok(before.with_context(|| format!("no {word:?} in {line:?}"))?.trim().parse()?)
    };
    Ok(Counts { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_line_needs_a_reason() {
        let listed = read_skip_list("# why\n\na: b: c\n").expect("well-formed");
        assert_eq!(listed, BTreeMap::from([("a".to_owned(), "b: c".to_owned())]));
        assert!(read_skip_list("a").is_err());
        assert!(read_skip_list("a:").is_err());
    }

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let text = "[a]\nx = 1\n\n[b]\ny = [\"z\"]\n";
        assert_eq!(section(text, "[a]").expect("there"), "[a]\nx = 1\n\n");
        assert_eq!(section(text, "[b]").expect("there"), "[b]\ny = [\"z\"]\n");
        assert!(section(text, "[c]").is_err());
    }

    #[test]
    fn the_closing_line_is_counted() {
        let line =
            "test result: FAILED. 17 passed; 2 failed; 0 ignored; 0 measured; 14 filtered out";
        let counts = parse_result(line).expect("well-formed");
        assert_eq!((counts.passed, counts.failed), (17, 2));
    }
}
