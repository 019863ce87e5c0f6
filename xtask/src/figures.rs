//! The table of the README: this machine's figures, all systems in one run, by one tool.
//!
//! One scheduler and as many stores as asked for, each a process of its own, a bare gRPC echo on
//! the same serving runtime, and as many members of etcd if a binary of it is named. Each round
//! times every row on every system, one after the other, so that whatever else the machine does
//! hits all of them; a ratio is taken within a round, and the table has medians. All of them keep
//! their data below one directory: a memory file system takes the disk out of the comparison.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::compat;

/// How often etcd is looked for after it was started, with [`PAUSE`] in between.
const ATTEMPTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// What is timed: workload, wire, clients. etcd has one wire; the same figures of it stand beside
/// both.
const ROWS: [(&str, &str, u32); 14] = [
    ("raw-put", "unary", 1),
    ("raw-put", "unary", 16),
    ("raw-put", "unary", 64),
    ("raw-put", "unary", 256),
    ("raw-put", "batch", 256),
    ("raw-get", "unary", 1),
    ("raw-get", "unary", 16),
    ("raw-get", "unary", 64),
    ("raw-get", "unary", 256),
    ("raw-get", "batch", 256),
    ("txn-commit", "unary", 1),
    ("txn-commit", "unary", 16),
    ("txn-commit", "unary", 64),
    ("txn-commit", "unary", 256),
];

/// What to run.
pub(crate) struct Plan {
    etcd: Option<PathBuf>,
    data_dir: PathBuf,
    replicas: usize,
    seconds: u32,
    rounds: usize,
}

impl Plan {
    pub(crate) fn parse(flags: &[String]) -> Result<Self> {
        let data_dir = std::env::temp_dir();
        let mut plan = Self { etcd: None, data_dir, replicas: 3, seconds: 5, rounds: 5 };
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            let value = flags.next().with_context(|| format!("`{flag}` needs a value"))?;
            match flag.as_str() {
                "--etcd" => plan.etcd = Some(value.into()),
                "--data-dir" => plan.data_dir = value.into(),
                "--replicas" => plan.replicas = value.parse().context("--replicas")?,
                "--seconds" => plan.seconds = value.parse().context("--seconds")?,
                "--rounds" => plan.rounds = value.parse().context("--rounds")?,
                _ => bail!("`{flag}` is not expected here; see `cargo xtask --help`"),
            }
        }
        ensure!(plan.rounds > 0 && plan.seconds > 0, "at least one round of one second");
        ensure!([1, 3, 5].contains(&plan.replicas), "--replicas is 1, 3 or 5");
        Ok(plan)
    }
}

/// Builds the release binary, times everything and prints the table.
pub(crate) fn run(root: &Path, plan: &Plan) -> Result<bool> {
    let binary = build(root)?;
    let data_dir = plan.data_dir.join(format!("kiva-figures-{}", std::process::id()));
    fs::create_dir_all(&data_dir).with_context(|| format!("create {}", data_dir.display()))?;
    let measured = measure(&binary, plan, &data_dir);
    // Whatever happened, nothing is left behind.
    let _ = fs::remove_dir_all(&data_dir);
    print(&measured?, plan);
    Ok(true)
}

fn build(root: &Path) -> Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--package", "kiva-cli"])
        .current_dir(root)
        .status()?;
    ensure!(status.success(), "the release build failed");
    Ok(compat::target_dir(root)?.join("release/kiva"))
}

/// What one run of `kiva bench` says.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

/// By row and target: one set of figures a round.
type Measured = BTreeMap<(usize, &'static str), Vec<Figures>>;

fn measure(binary: &Path, plan: &Plan, data_dir: &Path) -> Result<Measured> {
    let kiva = Cluster::start(binary, plan.replicas, data_dir)?;
    let mut echo = Command::new(binary);
    echo.args(["echo", "--addr", "127.0.0.1:0"]);
    let (_echo, echo) = Server::ready(echo)?;
    let etcd = plan.etcd.as_deref();
    let etcd = etcd.map(|path| Server::etcd(path, plan.replicas, data_dir)).transpose()?;

    let mut measured = Measured::new();
    for round in 0..plan.rounds {
        for (position, (workload, wire, clients)) in ROWS.into_iter().enumerate() {
            let bench = |target: &'static str, wire: &str, address: &[&str]| {
                bench(binary, plan, (workload, wire, clients), target, address)
            };
            let mut row = vec![("kiva", bench("kiva", wire, &["--schedulers", &kiva.scheduler])?)];
            if (workload, wire) == ("raw-get", "unary") {
                row.push(("echo", bench("echo", wire, &["--endpoints", &echo])?));
            }
            if let (Some((_, etcd)), true) = (&etcd, workload != "txn-commit") {
                row.push(("etcd", bench("etcd", "unary", &["--endpoints", etcd])?));
            }
            println!("round {}: {workload}, {wire}, {clients} clients", round + 1);
            for (target, figures) in row {
                measured.entry((position, target)).or_default().push(figures);
            }
        }
    }
    Ok(measured)
}

fn bench(
    binary: &Path,
    plan: &Plan,
    (workload, wire, clients): (&str, &str, u32),
    target: &str,
    address: &[&str],
) -> Result<Figures> {
    let output = Command::new(binary)
        .args(["bench", "--json", "--target", target, "--workload", workload, "--wire", wire])
        .args(["--clients", &clients.to_string(), "--seconds", &plan.seconds.to_string()])
        .args(["--warmup", "1"])
        .args(address)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{workload} on {target} failed: {}", output.status);
    let last = String::from_utf8(output.stdout)?;
    let last: Value = serde_json::from_str(last.lines().last().context("no figures")?)?;
    let number = |name: &str| last[name].as_f64().with_context(|| format!("no `{name}`"));
    Ok(Figures {
        per_second: number("per_second")?,
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
    })
}

fn print(measured: &Measured, plan: &Plan) {
    println!(
        "\nmedian of {} rounds of {} s; ratios: median (smallest to largest) over the rounds\n",
        plan.rounds, plan.seconds
    );
    println!("| workload | wire | clients | Kiva per s | p50 | p99 | of bare echo | times etcd |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for (position, (workload, wire, clients)) in ROWS.into_iter().enumerate() {
        let of = |target| measured.get(&(position, target));
        let Some(kiva) = of("kiva") else { continue };
        let ratio = |other: Option<&Vec<Figures>>| match other {
            None => "".to_owned(),
            Some(other) => {
                let mut ratios: Vec<_> =
                    kiva.iter().zip(other).map(|(a, b)| a.per_second / b.per_second).collect();
                ratios.sort_by(f64::total_cmp);
                let (first, last) = (ratios[0], ratios[ratios.len() - 1]);
                format!("{:.2} ({first:.2} to {last:.2})", ratios[ratios.len() / 2])
            }
        };
        println!(
            "| `{workload}` | {wire} | {clients} | {:.0} | {} | {} | {} | {} |",
            median(kiva, |figures| figures.per_second),
            time(median(kiva, |figures| figures.p50_us)),
            time(median(kiva, |figures| figures.p99_us)),
            ratio(of("echo")),
            ratio(of("etcd")),
        );
    }
}

fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<_> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn time(us: f64) -> String {
    if us < 1_000.0 { format!("{us:.0} µs") } else { format!("{:.1} ms", us / 1_000.0) }
}

/// A process that is ended with its owner.
struct Server(Child);

impl Server {
    /// Starts a command that prints `ready ADDR` when it serves.
    fn ready(mut command: Command) -> Result<(Self, String)> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let server = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("ready ").context("it did not become ready")?;
        Ok((server, address.to_owned()))
    }

    /// Starts a cluster of etcd on free ports, and waits until its members listen. Their addresses
    /// come with commas in between.
    #[expect(clippy::disallowed_methods, reason = "processes that do not say when they are ready")]
    fn etcd(binary: &Path, members: usize, data_dir: &Path) -> Result<(Vec<Self>, String)> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let ports = (0..members).map(|_| Ok((free_port()?, free_port()?)));
        let ports = ports.collect::<Result<Vec<_>>>()?;
        let named = ports.iter().enumerate();
        let cluster = named.map(|(number, (_, peer))| format!("m{number}={}", url(*peer)));
        let cluster = cluster.collect::<Vec<_>>().join(",");
        let mut servers = Vec::new();
        for (number, (client, peer)) in ports.iter().enumerate() {
            let child = Command::new(binary)
                .arg("--data-dir")
                .arg(data_dir.join(format!("etcd-{number}")))
                .args(["--log-level", "error", "--name", &format!("m{number}")])
                .args(["--listen-client-urls", &url(*client)])
                .args(["--advertise-client-urls", &url(*client)])
                .args(["--listen-peer-urls", &url(*peer)])
                .args(["--initial-advertise-peer-urls", &url(*peer)])
                .args(["--initial-cluster", &cluster])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .with_context(|| format!("start {}", binary.display()))?;
            servers.push(Self(child));
        }
        for _ in 0..ATTEMPTS {
            let listens = |(client, _): &(u16, u16)| TcpStream::connect(("127.0.0.1", *client));
            if ports.iter().all(|port| listens(port).is_ok()) {
                let addresses: Vec<_> =
                    ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
                return Ok((servers, addresses.join(",")));
            }
            thread::sleep(PAUSE);
        }
        bail!("etcd does not listen")
    }
}

/// A cluster of Kiva, each member a process of its own.
struct Cluster {
    scheduler: String,
    _members: Vec<Server>,
}

impl Cluster {
    /// Starts it, and waits until every region has all its replicas.
    #[expect(clippy::disallowed_methods, reason = "replicas come when the scheduler says so")]
    fn start(binary: &Path, stores: usize, data_dir: &Path) -> Result<Self> {
        let mut members = Vec::new();
        let mut command = Command::new(binary);
        command.args(["scheduler", "--name", "one", "--addr", "127.0.0.1:0"]);
        command.args(["--peer-addr", "127.0.0.1:0", "--data-dir"]).arg(data_dir.join("scheduler"));
        let (server, scheduler) = Server::ready(command)?;
        members.push(server);
        for number in 0..stores {
            let mut command = Command::new(binary);
            command.args(["store", "--schedulers", &scheduler, "--addr", "127.0.0.1:0"]);
            command.args(["--status-addr", "127.0.0.1:0", "--data-dir"]);
            command.arg(data_dir.join(format!("store-{number}")));
            members.push(Server::ready(command)?.0);
        }
        for _ in 0..ATTEMPTS {
            let listed = Command::new(binary)
                .args(["ctl", "--json", "--schedulers", &scheduler, "region", "list"])
                .output()?;
            let listed = String::from_utf8(listed.stdout)?;
            let is_whole = |line: &str| {
                let region: Value = serde_json::from_str(line).unwrap_or_default();
                let peers = region["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
                peers.iter().filter(|peer| peer["is_learner"] == false).count() == stores
            };
            if !listed.is_empty() && listed.lines().all(is_whole) {
                return Ok(Self { scheduler, _members: members });
            }
            thread::sleep(PAUSE);
        }
        bail!("the regions do not get {stores} replicas")
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_wrong_ones_named() {
        let parse = |flags: &[&str]| {
            Plan::parse(&flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>())
        };
        let plan = parse(&["--rounds", "7", "--etcd", "/x/etcd"]).unwrap();
        assert_eq!((plan.rounds, plan.etcd), (7, Some("/x/etcd".into())));
        assert_eq!((plan.replicas, parse(&["--replicas", "1"]).unwrap().replicas), (3, 1));
        assert!(parse(&["--replicas", "2"]).is_err());
        assert!(parse(&["--rounds", "0"]).is_err());
        assert!(parse(&["--etcd"]).is_err());
        let error = parse(&["--fast", "yes"]).err().expect("no such flag").to_string();
        assert!(error.contains("--fast"), "{error}");
    }

    #[test]
    fn the_middle_is_the_median() {
        let figures =
            [3.0, 1.0, 2.0].map(|n| Figures { per_second: n, p50_us: n * 10.0, p99_us: 0.0 });
        assert!((median(&figures, |f| f.per_second) - 2.0).abs() < f64::EPSILON);
        assert_eq!((time(999.0).as_str(), time(1_500.0).as_str()), ("999 µs", "1.5 ms"));
    }
}
