//! Counts of the path of a put and of a get, each beside the most it may be.
//!
//! A count does not depend on what else the machine does, so it can be held to where a time
//! cannot: what a change adds to each write is seen here first.
//!
//! - System calls and syncs of a put: `strace` on a store that is its whole cluster, while
//!   `kiva bench` writes.
//! - Instructions and allocations: `callgrind` on the benches `path` and `log`, with a count and
//!   with twice that. The difference is without the start.
//! - Messages of a proposal: a test of `raftstore` in one thread, which fails when there are more.
//!
//! What needs a tool that this machine does not have is skipped, and said to be.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{ci, compat};

/// How much more than its target an instruction count may be: compilers differ.
const TOLERANCE: f64 = 0.02;
/// How much more a count of real processes may be: how writes gather is up to the scheduler of the
/// system.
const TOLERANCE_LIVE: f64 = 0.05;
/// How long `kiva bench` writes under `strace`.
const SECONDS: &str = "4";
/// What asks the allocator for something.
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];
/// Until `strace` holds every thread of a store.
const ATTACH: Duration = Duration::from_secs(1);

/// One line of the table.
struct Row {
    what: String,
    /// `None` when it could not be counted, with the reason in `note`.
    count: Option<f64>,
    /// The most it may be; `None` for what is only shown.
    target: Option<f64>,
    tolerance: f64,
    note: String,
}

/// What callgrind counts: a name, a program and its arguments, how many of it they do each time,
/// and the instructions and allocations that one may take.
type Job<'a> = (&'a str, &'a Path, &'a [&'a str], u64, Option<f64>, Option<f64>);

/// What a run under callgrind has cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cost {
    instructions: u64,
    allocations: u64,
}

/// What to count.
#[derive(Default)]
pub(crate) struct Plan {
    /// A binary that was built before; built here when there is none.
    binary: Option<PathBuf>,
}

impl Plan {
    pub(crate) fn parse(flags: &[String]) -> Result<Self> {
        match flags {
            [] => Ok(Self::default()),
            [flag, path] if flag == "--binary" => Ok(Self { binary: Some(path.into()) }),
            [flag, ..] => bail!("`{flag}` is not expected here; see `cargo xtask --help`"),
        }
    }
}

/// Builds, counts, prints the table; false when a count is above its target.
pub(crate) fn run(root: &Path, plan: &Plan) -> Result<bool> {
    let binary = match &plan.binary {
        Some(binary) => binary.clone(),
        None => {
            let build = ["build", "--release", "--package", "kiva-cli", "--locked"];
            ensure!(ci::cargo(root, &build, &[])?, "the release build failed");
            compat::target_dir(root)?.join("release").join("kiva")
        }
    };
    let folder = std::env::temp_dir().join(format!("kiva-counts-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let rows = count(root, &binary, &folder);
    // Whatever happened, nothing is left behind.
    let _ = fs::remove_dir_all(&folder);
    let rows = rows?;
    let test = ["test", "--package", "kiva-raftstore", "--locked", "--test", "messages"];
    let passed = ci::cargo(root, &[&test[..], &["--", "--nocapture"]].concat(), &[])?;
    println!("\n{:<44}{:>10}{:>10}  ", "count", "is", "at most");
    rows.iter().for_each(|row| println!("{row}"));
    Ok(passed && !rows.iter().any(Row::is_missed))
}

fn count(root: &Path, binary: &Path, folder: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (clients, calls, syncs) in [(1, 8.0, 1.05), (64, 2.5, 0.06)] {
        let counted = has("strace").then(|| live(binary, folder, clients)).transpose()?;
        let live = |what: &str, of: Option<f64>, target| Row {
            what: format!("{what} per put, {clients} clients"),
            count: of,
            target: Some(target),
            tolerance: TOLERANCE_LIVE,
            note: missing(of, "strace"),
        };
        rows.push(live("system calls", counted.map(|counted| counted.0), calls));
        rows.push(live("syncs", counted.map(|counted| counted.1), syncs));
    }
    let path = bench(root, "kiva-kv", "path")?;
    let log = bench(root, "kiva-raftstore", "log")?;
    let has_valgrind = has("valgrind");
    // A put and a get through the network may cost 20,000 and 6,000 more than an echo; of the
    // former the network takes a part that is not here.
    let jobs: [Job<'_>; 5] = [
        ("get", &path, &["get", "1"], 1, Some(6_000.0), Some(6.0)),
        ("get, burst of 16", &path, &["get", "16"], 16, Some(6_000.0), Some(6.0)),
        ("put", &path, &["put", "1"], 1, None, Some(12.0)),
        ("put, burst of 16", &path, &["put", "16"], 16, Some(17_000.0), Some(12.0)),
        ("entry encoded for the log", &log, &["fixed", "encode"], 64, Some(1_500.0), None),
    ];
    for (what, program, arguments, each, instructions, allocations) in jobs {
        let cost =
            has_valgrind.then(|| difference(program, arguments, each, folder)).transpose()?;
        let mut row = |unit: &str, of: Option<f64>, target: Option<f64>| {
            rows.push(Row {
                what: format!("{unit} per {what}"),
                count: of,
                target,
                tolerance: TOLERANCE,
                note: missing(of, "valgrind"),
            });
        };
        row("instructions", cost.map(|cost| cost.0), instructions);
        if allocations.is_some() {
            row("allocations", cost.map(|cost| cost.1), allocations);
        }
    }
    Ok(rows)
}

fn missing(count: Option<f64>, tool: &str) -> String {
    if count.is_none() { format!("skipped: no {tool} here") } else { String::new() }
}

/// Whether a program of this name is there.
fn has(tool: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Builds a bench, and says where it is.
fn bench(root: &Path, package: &str, name: &str) -> Result<PathBuf> {
    let output = Command::new(ci::cargo_path())
        .args(["bench", "--locked", "--no-run", "--message-format", "json"])
        .args(["--package", package, "--bench", name])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo could not be started")?;
    ensure!(output.status.success(), "the bench {name} of {package} does not build");
    let messages = String::from_utf8(output.stdout)?;
    let built = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built = built.filter(|message| message["target"]["name"] == name);
    let path =
        built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    path.with_context(|| format!("cargo does not say where the bench {name} is"))
}

/// Instructions and allocations of one, when a run with a count does `each` as many.
fn difference(program: &Path, arguments: &[&str], each: u64, folder: &Path) -> Result<(f64, f64)> {
    let repeats = (8_000 / each).max(100);
    let of = |repeats: u64| -> Result<Cost> {
        let out = folder.join("callgrind.out");
        let status = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(program)
            .args(arguments)
            .arg(repeats.to_string())
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "{} under callgrind: {status}", program.display());
        cost(&fs::read_to_string(&out)?)
    };
    let (once, twice) = (of(repeats)?, of(2 * repeats)?);
    let per_one =
        |once: u64, twice: u64| twice.saturating_sub(once) as f64 / (repeats * each) as f64;
    Ok((
        per_one(once.instructions, twice.instructions),
        per_one(once.allocations, twice.allocations),
    ))
}

/// Reads what callgrind has written. Names are given once, as `(7) name`, and then as `(7)`.
fn cost(profile: &str) -> Result<Cost> {
    let mut cost = Cost { instructions: 0, allocations: 0 };
    let mut allocators = Vec::new();
    let mut is_allocator = false;
    for line in profile.lines() {
        if let Some(total) = line.strip_prefix("totals: ") {
            cost.instructions = total.trim().parse().context("totals of callgrind")?;
        } else if let Some(function) = line.strip_prefix("cfn=").or(line.strip_prefix("fn=")) {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if ALLOCATORS.contains(&name) {
                allocators.push(id);
            }
            is_allocator = line.starts_with("cfn=") && allocators.contains(&id);
        } else if let Some(calls) = line.strip_prefix("calls=").filter(|_| is_allocator) {
            let calls = calls.split(' ').next().unwrap_or_default();
            cost.allocations += calls.parse::<u64>().context("calls of callgrind")?;
        }
    }
    ensure!(cost.instructions > 0, "callgrind has counted nothing");
    Ok(cost)
}

/// System calls and syncs of a put, on a store of its own.
#[expect(clippy::disallowed_methods, reason = "strace does not say when it has attached")]
fn live(binary: &Path, folder: &Path, clients: u32) -> Result<(f64, f64)> {
    let folder = folder.join(format!("clients-{clients}"));
    fs::create_dir_all(&folder)?;
    let mut command = Command::new(binary);
    command.args(["scheduler", "--name", "one", "--addr", "127.0.0.1:0"]);
    command.args(["--peer-addr", "127.0.0.1:0", "--data-dir"]).arg(folder.join("scheduler"));
    let (_scheduler, scheduler) = Server::ready(command)?;
    let mut command = Command::new(binary);
    command.args(["store", "--schedulers", &scheduler, "--addr", "127.0.0.1:0"]);
    command.args(["--status-addr", "127.0.0.1:0", "--data-dir"]).arg(folder.join("store"));
    let (store, _) = Server::ready(command)?;

    let put = |seconds: &str| -> Result<f64> {
        let output = Command::new(binary)
            .args(["bench", "--json", "--workload", "raw-put", "--warmup", "0"])
            // What is read back in the end is counted too, so few keys are written often.
            .args(["--keys", "64", "--clients", &clients.to_string(), "--seconds", seconds])
            .args(["--schedulers", &scheduler])
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "kiva bench: {}", output.status);
        let last = String::from_utf8(output.stdout)?;
        let last: Value = serde_json::from_str(last.lines().last().context("no figures")?)?;
        last["operations"].as_f64().context("no `operations`")
    };
    // Whatever happens once only has happened.
    put("1")?;
    let summary = folder.join("strace");
    let mut strace = Server(
        Command::new("strace")
            .args(["-f", "-c", "-o"])
            .arg(&summary)
            .args(["-p", &store.0.id().to_string()])
            .stderr(Stdio::null())
            .spawn()?,
    );
    std::thread::sleep(ATTACH);
    let puts = put(SECONDS)?;
    // It prints when the store has ended.
    drop(store);
    strace.0.wait()?;
    let (calls, syncs) = calls(&fs::read_to_string(&summary)?)?;
    Ok((calls as f64 / puts, syncs as f64 / puts))
}

/// Reads the table of `strace -c`: all calls, and those that sync.
fn calls(summary: &str) -> Result<(u64, u64)> {
    let (mut all, mut syncs) = (None, 0);
    for line in summary.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, calls, .., name] = fields[..] else { continue };
        let Ok(calls) = calls.parse::<u64>() else { continue };
        match name {
            "total" => all = Some(calls),
            "fsync" | "fdatasync" => syncs += calls,
            _ => {}
        }
    }
    match all {
        Some(all) => Ok((all, syncs)),
        None => bail!("strace has counted nothing; may it attach to other processes here?"),
    }
}

/// A process that is ended with its owner.
struct Server(Child);

impl Server {
    /// Starts a command that prints `ready ADDR` when it serves.
    fn ready(mut command: Command) -> Result<(Self, String)> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let server = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("ready ").context("it did not become ready")?;
        Ok((server, address.to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Row {
    fn is_missed(&self) -> bool {
        let (Some(count), Some(target)) = (self.count, self.target) else { return false };
        count > target * (1.0 + self.tolerance)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |of: Option<f64>| of.map_or("-".to_owned(), figure);
        let word = if self.is_missed() { "MISSED" } else { &self.note };
        let (count, target) = (figure(self.count), figure(self.target));
        let line = format!("{:<44}{count:>10}{target:>10}  {word}", self.what);
        f.write_str(line.trim_end())
    }
}

/// With as many digits as it can bear.
fn figure(count: f64) -> String {
    if count < 100.0 { format!("{count:.2}") } else { format!("{count:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_syncs_are_read_from_the_table_of_strace() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 70.75    4.392846         160     27432       116 futex
  0.47    0.029447           6      4402           fdatasync
------ ----------- ----------- --------- --------- ----------------
100.00    6.209156         101     61070       120 total
";
        assert_eq!(calls(summary).unwrap(), (61_070, 4_402));
        assert!(calls("strace: ptrace(PTRACE_SEIZE, 1): Operation not permitted\n").is_err());
    }

    #[test]
    fn instructions_and_allocations_are_read_from_a_profile() {
        let profile = "\
fn=(1) main
16 400
cfn=(7) malloc
calls=12 0
16 100
cfn=(8) memcpy
calls=5 0
16 100
fn=(9) other
cfn=(7)
calls=3 0
cfn=(10) realloc
calls=2 0
totals: 1234
";
        assert_eq!(cost(profile).unwrap(), Cost { instructions: 1_234, allocations: 17 });
        assert!(cost("").is_err());
    }

    #[test]
    fn a_count_may_be_a_little_above_its_target() {
        let row = |count| Row {
            what: "calls".into(),
            count,
            target: Some(100.0),
            tolerance: 0.02,
            note: "skipped".into(),
        };
        assert!(!row(Some(101.9)).is_missed() && row(Some(102.1)).is_missed());
        assert!(!row(None).is_missed());
        assert!(row(None).to_string().ends_with("skipped"));
        assert!(row(Some(103.0)).to_string().ends_with("MISSED"));
        assert_eq!((figure(0.056).as_str(), figure(1_234.5).as_str()), ("0.06", "1234"));
    }
}
