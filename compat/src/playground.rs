//! One `kiva playground` process: started, awaited, watched and ended. Where
//! `KIVA_COMPAT_KILL_SECONDS` says so, a scheduler and three stores that are killed in turn.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, io, thread};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::stores::Stores;

/// How long a process may take until it says `ready`. Generous, because a debug build starts on a
/// machine whose cores are busy with other tests; in practice it is well below a second.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Runs a command for as long as its own standard input is open, and reports how it ended.
///
/// A test may end in ways that run no destructor (the official client aborts the process when it
/// panics in the wrong place, people press Ctrl-C), and that closes the pipe all the same. So no
/// playground outlives its test. The shell's own output is closed, so that whoever reads the
/// server's sees it end.
const KEEPER: &str = r#"
"$@" </dev/null &
server=$!
exec >&-
cat >/dev/null
kill -9 "$server" 2>/dev/null
wait "$server"
"#;

/// What the keeper says of a server that ran until it was killed: 128 and the signal.
const KILLED: i32 = 128 + 9;

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
    /// Of the whole cluster, or of its scheduler.
    keeper: Child,
    /// When they are processes of their own.
    stores: Option<Stores>,
    schedulers: Vec<String>,
    api: ApiVersion,
    directory: TempDir,
}

impl Playground {
    /// Starts a fresh cluster and returns when it serves.
    pub fn start(api: ApiVersion) -> Result<Playground> {
        let directory = tempfile::Builder::new().prefix("kiva-compat-").tempdir()?;
        let (keeper, stores, schedulers) = launch(&directory, api)?;
        Ok(Playground { keeper, stores, schedulers, api, directory })
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
        drop(self.stores.take());
        let status = end(&mut self.keeper)?;
        ensure!(status.code() == Some(KILLED), "the playground had ended by itself: {status}");
        (self.keeper, self.stores, self.schedulers) = launch(&self.directory, self.api)?;
        Ok(())
    }

    /// What the process logged so far.
    fn log(&self) -> String {
        fs::read_to_string(log_path(&self.directory)).unwrap_or_default()
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        drop(self.stores.take());
        let status = end(&mut self.keeper);
        let ran_on = status.as_ref().is_ok_and(|status| status.code() == Some(KILLED));
        let log = self.log();
        let panicked = log.contains("panicked at");
        if ran_on && !panicked && !thread::panicking() {
            return;
        }
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        eprintln!("--- the last of the playground's log\n{}\n---", shown.join("\n"));
        // A second panic while the first unwinds would abort and hide both.
        if !thread::panicking() {
            assert!(ran_on, "the playground ended by itself: {status:?}");
            assert!(!panicked, "the playground panicked, see its log above");
        }
    }
}

/// Kills what the keeper keeps, and returns how that had ended.
pub(crate) fn end(keeper: &mut Child) -> io::Result<ExitStatus> {
    drop(keeper.stdin.take());
    keeper.wait()
}

fn log_path(directory: &TempDir) -> PathBuf {
    directory.path().join("stderr.log")
}

/// What a keeper needs to keep `kiva` with a command.
pub(crate) fn keep(command: &str) -> Result<Command> {
    let binary = env::var_os("KIVA_BIN").context(
        "KIVA_BIN is not set: run compat/run, or set it to the path of a built `kiva` binary",
    )?;
    let mut keeper = Command::new("sh");
    keeper.args(["-c", KEEPER, "kiva-compat"]).arg(binary).arg(command);
    keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(keeper)
}

/// How often a store is killed, if that is wanted.
fn kill_interval() -> Result<Option<Duration>> {
    let Some(seconds) = env::var_os("KIVA_COMPAT_KILL_SECONDS") else { return Ok(None) };
    let seconds = seconds.to_str().and_then(|seconds| seconds.parse().ok());
    let seconds = seconds.context("KIVA_COMPAT_KILL_SECONDS is no number of seconds")?;
    Ok(Some(Duration::from_secs(seconds)))
}

/// Starts the processes and waits for their `ready` lines.
fn launch(directory: &TempDir, api: ApiVersion) -> Result<(Child, Option<Stores>, Vec<String>)> {
    let log = File::options().create(true).append(true).open(log_path(directory))?;
    let interval = kill_interval()?;
    let mut command = match interval {
        None => {
            let mut command = keep("playground")?;
            command.args(["--port", "0", "--store-port", "0", "--status-port", "0"]);
            command
        }
        Some(_) => {
            let mut command = keep("scheduler")?;
            command.args(["--name", "one", "--addr", "127.0.0.1:0"]);
            command
        }
    };
    let mut keeper = command
        .args(["--api-version", api.flag()])
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .stderr(log)
        .spawn()
        .context("cannot start a shell")?;
    let started = await_ready(&mut keeper).and_then(|schedulers| {
        let stores = interval.map(|interval| {
            let scheduler = schedulers.first().context("`ready` names somebody")?;
            Stores::start(directory.path(), scheduler, interval)
        });
        Ok((stores.transpose()?, schedulers))
    });
    match started {
        Ok((stores, schedulers)) => Ok((keeper, stores, schedulers)),
        Err(error) => {
            let status = end(&mut keeper)?;
            let log = fs::read_to_string(log_path(directory)).unwrap_or_default();
            Err(error.context(format!("the cluster did not start ({status}); it said:\n{log}")))
        }
    }
}

/// Reads `ready ADDR[,ADDR…]` from the process's output.
pub(crate) fn await_ready(keeper: &mut Child) -> Result<Vec<String>> {
    let output = keeper.stdout.take().context("its output was asked for as a pipe")?;
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
