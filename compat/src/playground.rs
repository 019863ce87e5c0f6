//! One `kiva playground` process: started, awaited, watched and ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// How long a process may take until it says `ready`. Generous, because a debug build starts on a
/// machine whose cores are busy with other tests; in practice it is well below a second.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How much of the process's log a failing test shows.
const LOG_LINES_SHOWN: usize = 80;

/// How the cluster encodes keys, which is settled when it is born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// Keys as they are. What every client assumes unless told otherwise.
    V1,
    /// As [`ApiVersion::V1`], raw calls only, and values may expire.
    V1Ttl,
    /// Keys are prefixed with their mode and keyspace, and raw values may expire.
    V2,
}

impl ApiVersion {
    /// The word that `--api-version` takes.
    fn flag(self) -> &'static str {
        match self {
            ApiVersion::V1 => "1",
            ApiVersion::V1Ttl => "1ttl",
            ApiVersion::V2 => "2",
        }
    }
}

/// A running `kiva playground`, killed when dropped.
///
/// A test whose process panicked or ended early fails, even if every answer looked right.
pub struct Playground {
    process: Child,
    schedulers: Vec<String>,
    api: ApiVersion,
    directory: TempDir,
}

impl Playground {
    /// Starts a fresh cluster and returns when it serves.
    pub fn start(api: ApiVersion) -> Result<Playground> {
        let directory = tempfile::Builder::new().prefix("kiva-compat-").tempdir()?;
        let (process, schedulers) = launch(&directory, api)?;
        Ok(Playground { process, schedulers, api, directory })
    }

    /// The client addresses of the schedulers: what official clients call PD endpoints.
    pub fn schedulers(&self) -> Vec<String> {
        self.schedulers.clone()
    }

    /// How this cluster encodes keys.
    pub fn api(&self) -> ApiVersion {
        self.api
    }

    /// Ends the process as a power cut would, and starts it again on the same directory.
    ///
    /// Ports are drawn anew, so clients have to connect again.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        (self.process, self.schedulers) = launch(&self.directory, self.api)?;
        Ok(())
    }

    /// What the process logged so far.
    fn log(&self) -> String {
        fs::read_to_string(log_path(&self.directory)).unwrap_or_default()
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        let ended_early = self.process.try_wait().ok().flatten();
        // Neither can fail in a way that matters: a process that is gone is what we want.
        let _ = self.process.kill();
        let _ = self.process.wait();

        let log = self.log();
        let panicked = log.contains("panicked at");
        let healthy = ended_early.is_none() && !panicked;
        if healthy && !thread::panicking() {
            return;
        }
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        eprintln!("--- the last of the playground's log\n{}\n---", shown.join("\n"));
        // A second panic while the first unwinds would abort and hide both.
        if !thread::panicking() {
            assert!(ended_early.is_none(), "the playground ended by itself: {ended_early:?}");
            assert!(!panicked, "the playground panicked, see its log above");
        }
    }
}

fn log_path(directory: &TempDir) -> PathBuf {
    directory.path().join("stderr.log")
}

/// Starts the process and waits for its `ready` line.
fn launch(directory: &TempDir, api: ApiVersion) -> Result<(Child, Vec<String>)> {
    let binary = env::var_os("KIVA_BIN").context(
        "KIVA_BIN is not set: run compat/run, or set it to the path of a built `kiva` binary",
    )?;
    let log = File::options().create(true).append(true).open(log_path(directory))?;
    let mut process = Command::new(&binary)
        .arg("playground")
        .args(["--port", "0", "--store-port", "0", "--status-port", "0"])
        .args(["--api-version", api.flag()])
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;

    match await_ready(&mut process) {
        Ok(schedulers) => Ok((process, schedulers)),
        Err(error) => {
            let _ = process.kill();
            let status = process.wait()?;
            let log = fs::read_to_string(log_path(directory)).unwrap_or_default();
            Err(error.context(format!("the playground did not start ({status}); it said:\n{log}")))
        }
    }
}

/// Reads `ready ADDR[,ADDR…]` from the process's output.
fn await_ready(process: &mut Child) -> Result<Vec<String>> {
    let output = process.stdout.take().context("its output was asked for as a pipe")?;
    let (sender, lines) = mpsc::channel();
    // The thread also drains what follows, so that the process never blocks on a full pipe. It ends
    // with the process.
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            let _ = sender.send(line);
        }
    });
    loop {
        let line = match lines.recv_timeout(READY_WITHIN) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("no `ready` within {READY_WITHIN:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("its output ended before `ready`"),
        };
        if let Some(addresses) = line.strip_prefix("ready ") {
            let schedulers: Vec<String> =
                addresses.trim().split(',').filter(|a| !a.is_empty()).map(Into::into).collect();
            ensure!(!schedulers.is_empty(), "`ready` names no address: {line:?}");
            return Ok(schedulers);
        }
    }
}
