//! One `kiva` process: started, paused, killed, and its log for when a test fails.
#![expect(clippy::disallowed_methods, reason = "a thread waits for what a process says")]
#![expect(clippy::print_stdout, reason = "whoever looks at a failing test wants the log")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to be ready before the test fails instead of waiting for ever.
const READY_MAX: Duration = Duration::from_secs(120);

/// Lines of its log that a failing test shows.
const LOG_LINES_SHOWN: usize = 60;

/// A server that is ready. Killed when it is dropped; the end of its log is shown when the test
/// fails.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    /// What it said is ready.
    pub(crate) address: String,
}

/// The binary: the one of this build, unless `KIVA_BIN` names another.
fn binary() -> OsString {
    std::env::var_os("KIVA_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_kiva").into())
}

impl Process {
    /// Starts `kiva` behind `prefix`, which runs it somewhere, and waits for its ready line. Its
    /// log is added to the file `log`.
    pub(crate) fn start(prefix: &[String], args: &[&str], log: &Path) -> Self {
        let errors = File::options().create(true).append(true).open(log).expect("a log file");
        let mut words = prefix.iter().map(OsString::from).collect::<Vec<_>>();
        words.push(binary());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(args)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("start {words:?}: {error}"));
        let stdout = child.stdout.take().expect("piped");
        let (said, hears) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens after the first line.
                let _ = said.send(line);
            }
        });
        let line = hears.recv_timeout(READY_MAX);
        let address = line.as_ref().ok().and_then(|line| line.strip_prefix("ready "));
        let address = address.map(str::to_owned);
        let mut process = Self { child, log: log.to_owned(), address: String::new() };
        match address {
            Some(address) => process.address = address,
            None => {
                let ended = process.child.try_wait();
                panic!("kiva {args:?} is not ready: said {line:?}, ended {ended:?}");
            }
        }
        process
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            println!("--- the end of {}\n{}", self.log.display(), shown.join("\n"));
        }
    }
}
