//! Processes that do not outlive their test.
#![expect(clippy::disallowed_methods, reason = "a thread waits for what a process says")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

/// How long a server may take to start before the test fails instead of waiting for ever.
const START_MAX: Duration = Duration::from_secs(120);

/// A server that is ready. Killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// What it said is ready.
    pub(crate) address: String,
    stdout: BufReader<ChildStdout>,
    errors: Option<thread::JoinHandle<String>>,
    /// Where it puts what is temporary: a process that is killed cannot remove it itself.
    temporary: TempDir,
}

impl Server {
    /// Starts `kiva` with these arguments and waits for its ready line.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_until(args, "ready ")
    }

    /// Starts `kiva` and waits for a first line that begins with `mark`.
    pub(crate) fn start_until(args: &[&str], mark: &str) -> Self {
        let temporary = tempfile::tempdir().expect("the system has room for a directory");
        let mut child = command(args)
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let mut stderr = child.stderr.take().expect("piped");
        let errors = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text).unwrap_or_default()
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (said, hears) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let read = stdout.read_line(&mut line);
            // The other side has given up waiting.
            let _ = said.send(read.map(|_| (line, stdout)));
        });
        let said = hears.recv_timeout(START_MAX);
        let (line, stdout) = match said {
            Ok(Ok(said)) => said,
            silence => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("kiva {args:?} did not start: {silence:?}");
            }
        };
        let Some(address) = line.strip_prefix(mark) else {
            let _ = child.kill();
            let status = child.wait();
            let errors = errors.join();
            panic!("kiva {args:?} said {line:?}, {status:?}: {errors:?}");
        };
        let address = address.trim_end().to_owned();
        Self { child, address, stdout, errors: Some(errors), temporary }
    }

    /// A playground on free ports.
    pub(crate) fn playground(more: &[&str]) -> Self {
        let free = ["playground", "--port", "0", "--store-port", "0", "--status-port", "0"];
        Self::start(&[&free[..], more].concat())
    }

    /// Lets every write behind the first `bytes` of a file fail.
    pub(crate) fn limit_files(&self, bytes: u64) {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).expect("it runs");
    }

    /// `kiva ctl` on this cluster.
    pub(crate) fn ctl(&self, args: &[&str]) -> Ended {
        kiva(&[&["ctl", "--schedulers", &self.address], args].concat())
    }

    /// Asks it to stop, and waits for the end.
    pub(crate) fn signal(self, signal: Signal) -> Stopped {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs until it is asked to stop");
        self.wait()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(mut self) -> Stopped {
        let status = self.child.wait().expect("it is our child");
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).expect("the pipe is ours");
        let errors = self.errors.take().expect("taken once only");
        let stderr = errors.join().expect("it reads to the end");
        Stopped { status, stdout, stderr, left: self.temporary() }
    }

    /// Names of what it has in its temporary directory.
    pub(crate) fn temporary(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.temporary.path()).expect("it is ours");
        entries.map(|entry| entry.expect("it is ours").path()).collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }
}

/// How a server ended after a signal.
pub(crate) struct Stopped {
    pub(crate) status: ExitStatus,
    /// What it said after its first line.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// What it left in its temporary directory.
    pub(crate) left: Vec<PathBuf>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that has run to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// What it printed, when it ended with 0.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

/// Runs `kiva` to its end.
pub(crate) fn kiva(args: &[&str]) -> Ended {
    kiva_with_input(args, |_| ())
}

/// Runs `kiva` to its end while `write` feeds it.
pub(crate) fn kiva_with_input(args: &[&str], write: impl FnOnce(&mut ChildStdin)) -> Ended {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    let mut stdin = child.stdin.take().expect("piped");
    write(&mut stdin);
    stdin.flush().expect("a child that reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it is our child");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("tests ask for text only"),
        stderr: String::from_utf8(output.stderr).expect("messages are text"),
    }
}

/// `kiva`, to which the signal that comes with too large a file means nothing: the shell ignores
/// it, and whoever it becomes does too.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = r#"trap "" XFSZ; exec "$@""#;
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_kiva")]);
    command.args(args).env_remove("RUST_LOG");
    command
}
