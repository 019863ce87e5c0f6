//! What a committed proposal costs here and in other libraries, as a table.
//!
//! Started by `cargo bench -p kiva-raft --bench versus`. Times are medians of rounds in which the
//! libraries take turns, so that a busy machine is busy for both; those of one thread are of its
//! CPU time. Instructions are counted by callgrind, which is given this program with a job done N
//! times and 2N times: the difference is what N operations cost without the start.

use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use kiva_raft_versus::{Flight, Flyer, Job, Library};
use rustix::time::{ClockId, clock_gettime};

/// Rounds of a measurement, after one that does not count.
const ROUNDS: usize = 9;

/// What a round lasts at least: long beside what the kernel does now and then.
const ROUND: Duration = Duration::from_millis(20);

/// One figure for each library.
#[derive(Clone, Copy)]
struct Pair {
    kiva: f64,
    raft_rs: f64,
}

impl Pair {
    fn of(mut figure: impl FnMut(Library) -> f64) -> Self {
        Self { kiva: figure(Library::Kiva), raft_rs: figure(Library::RaftRs) }
    }

    fn ratio(self) -> f64 {
        self.kiva / self.raft_rs
    }
}

/// Everything about one job.
struct Row {
    job: Job,
    nanos: Pair,
    /// The median of the ratios of the rounds.
    ratio: f64,
    messages: Pair,
    allocations: Pair,
    /// `None` without callgrind.
    instructions: Option<Pair>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fixed", library, job, count] => fixed(library, job, count),
        _ => {
            compare();
            ExitCode::SUCCESS
        }
    }
}

/// Does one job, for callgrind.
fn fixed(library: &str, job: &str, count: &str) -> ExitCode {
    let parsed = (library.parse::<Library>(), job.parse::<Job>(), count.parse::<u64>());
    let (Ok(library), Ok(job), Ok(count)) = parsed else {
        eprintln!("usage: versus fixed kiva|raft-rs JOB COUNT");
        return ExitCode::FAILURE;
    };
    job.prepare(library).run(count);
    ExitCode::SUCCESS
}

fn compare() {
    let counted = counted();
    let count = |name: &str, library| -> f64 {
        let key = format!("{name} {library} ");
        let text = counted.lines().find_map(|line| line.strip_prefix(&key));
        text.and_then(|text| text.parse().ok()).expect("everything is counted")
    };
    let counts = |name: &str| Pair::of(|library| count(name, library));
    let has_callgrind = has_callgrind();
    let rows: Vec<Row> = Job::all()
        .into_iter()
        .map(|job| {
            eprintln!("{job}");
            let (nanos, ratio, messages) = time(job);
            let allocations = counts(&job.to_string());
            let instructions = has_callgrind.then(|| instructions(job));
            Row { job, nanos, ratio, messages, allocations, instructions }
        })
        .collect();
    print_proposals(&rows);
    print_idle(&rows);
    print_memory(counts("memory/0"), counts("memory/100"), count("memory/rest", Library::Kiva));
    print_flights();
    let summary = Job::Propose { voters: 3, burst: 64, bytes: 256 };
    let row = rows.iter().find(|row| row.job == summary).expect("it is among the jobs");
    let instructions = match row.instructions {
        Some(pair) => format!("{:.2}", pair.ratio()),
        None => "unknown".into(),
    };
    println!("ratio_time={:.2} ratio_instructions={instructions}", row.ratio);
}

/// Nanoseconds per operation, their ratio, and messages per operation.
fn time(job: Job) -> (Pair, f64, Pair) {
    let mut works = Library::ALL.map(|library| job.prepare(library));
    let messages = works.each_mut().map(|work| {
        let before = work.messages();
        work.run(job.count());
        (work.messages() - before) as f64 / job.count() as f64
    });
    let repeats = works.each_mut().map(|work| {
        let once = cpu_time(|| work.run(job.count()));
        ROUND.as_nanos().div_ceil(once.as_nanos().max(1)) as u64
    });
    let rounds: Vec<Pair> = (0..ROUNDS)
        .map(|_| {
            let nanos = |side: usize| {
                let count = repeats[side] * job.count();
                cpu_time(|| works[side].run(count)).as_nanos() as f64 / count as f64
            };
            let [kiva, raft_rs] = [0, 1].map(nanos);
            Pair { kiva, raft_rs }
        })
        .collect();
    let nanos = Pair {
        kiva: median(rounds.iter().map(|round| round.kiva)),
        raft_rs: median(rounds.iter().map(|round| round.raft_rs)),
    };
    let ratio = median(rounds.iter().map(|round| round.ratio()));
    (nanos, ratio, Pair { kiva: messages[0], raft_rs: messages[1] })
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// How long this thread was at work.
fn cpu_time(work: impl FnOnce()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    work();
    now() - start
}

/// What the program beside this one has counted.
fn counted() -> String {
    let output = Command::new(this_program().with_file_name("allocations")).output();
    let output = output.expect("it is built along with this program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("a program knows where it is")
}

fn has_callgrind() -> bool {
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Instructions per operation.
fn instructions(job: Job) -> Pair {
    let count = job.count();
    let runs =
        Library::ALL.map(|library| [count, 2 * count].map(|n| under_callgrind(library, job, n)));
    let [kiva, raft_rs] = runs.map(|runs| {
        let [once, twice] = runs.map(collected);
        (twice - once) as f64 / count as f64
    });
    Pair { kiva, raft_rs }
}

fn under_callgrind(library: Library, job: Job, count: u64) -> Child {
    Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this_program())
        .args(["fixed", &library.to_string(), &job.to_string(), &count.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind was there a moment ago")
}

/// The number that callgrind ends with.
fn collected(child: Child) -> u64 {
    let output = child.wait_with_output().expect("valgrind ends");
    let text = String::from_utf8_lossy(&output.stderr);
    let number = text.lines().find_map(|line| line.split_once("Collected : "));
    number.and_then(|(_, number)| number.trim().parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

fn print_proposals(rows: &[Row]) {
    println!("\nPer committed proposal, on every node of the group together, in one thread:\n");
    println!(
        "{:>18} {:>23} {:>23} {:>17} {:>17}",
        "", "ns of CPU", "instructions", "allocations", "messages"
    );
    let names = |wide: bool| match wide {
        true => format!("{:>8} {:>8} {:>5}", "kiva", "raft-rs", "ratio"),
        false => format!("{:>8} {:>8}", "kiva", "raft-rs"),
    };
    let (wide, narrow) = (names(true), names(false));
    println!("voters burst bytes {wide} {wide} {narrow} {narrow}");
    for row in rows {
        let Job::Propose { voters, burst, bytes } = row.job else { continue };
        println!(
            "{voters:>6} {burst:>5} {bytes:>5} {:>8.0} {:>8.0} {:>5.2} {} {:>8.2} {:>8.2} {:>8.2} \
             {:>8.2}",
            row.nanos.kiva,
            row.nanos.raft_rs,
            row.ratio,
            print_instructions(row.instructions),
            row.allocations.kiva,
            row.allocations.raft_rs,
            row.messages.kiva,
            row.messages.raft_rs,
        );
    }
}

fn print_instructions(pair: Option<Pair>) -> String {
    match pair {
        Some(pair) => {
            format!("{:>8.0} {:>8.0} {:>5.2}", pair.kiva, pair.raft_rs, pair.ratio())
        }
        None => format!("{:>8} {:>8} {:>5}", "-", "-", "-"),
    }
}

fn print_idle(rows: &[Row]) {
    println!("\nA group that is idle:\n");
    println!("{:<38} {:>23} {:>23}", "", "ns of CPU", "instructions");
    let names = format!("{:>8} {:>8} {:>5}", "kiva", "raft-rs", "ratio");
    println!("{:<38} {names} {names}", "");
    for row in rows {
        let name = match row.job {
            Job::Propose { .. } => continue,
            Job::FollowerTick => "a tick of a follower",
            Job::LeaderTick => "a tick of a leader",
            Job::Question => "\"is there anything to do?\"",
            Job::Heartbeats => "a round of heartbeats of three nodes",
        };
        println!(
            "{name:<38} {:>8.1} {:>8.1} {:>5.2} {}",
            row.nanos.kiva,
            row.nanos.raft_rs,
            row.ratio,
            print_instructions(row.instructions),
        );
    }
}

fn print_memory(fresh: Pair, used: Pair, at_rest: f64) {
    println!("\n{:<38} {:>8} {:>8}", "bytes of a node, without its log", "kiva", "raft-rs");
    for (name, pair) in [("just elected", fresh), ("after 100 bursts of 64", used)] {
        println!("{name:<38} {:>8.0} {:>8.0}", pair.kiva, pair.raft_rs);
    }
    println!("{:<38} {at_rest:>8.0} {:>8}", "the same, at rest", "-");
}

fn print_flights() {
    println!("\nFrom proposal to applied in three nodes with tasks and channels, 256 bytes:\n");
    println!("threads in flight {:>16} {:>16} {:>8}", "kiva per second", "openraft", "times");
    for threads in [1, 2] {
        for (clients, count) in [(1, 8_000), (64, 64 * 1_000), (1024, 1024 * 100)] {
            eprintln!("{clients} in flight on {threads} threads");
            let flights = Flyer::ALL.map(|flyer| Flight::new(flyer, threads));
            let mut rounds: Vec<[f64; 2]> = Vec::new();
            for _ in 0..=ROUNDS {
                let seconds = |flight: &Flight| flight.time(clients, count).as_secs_f64();
                rounds.push(flights.each_ref().map(|flight| count as f64 / seconds(flight)));
            }
            rounds.remove(0);
            let [kiva, open] = [0, 1].map(|side| median(rounds.iter().map(|round| round[side])));
            let times = median(rounds.iter().map(|[kiva, open]| kiva / open));
            println!("{threads:>7} {clients:>9} {kiva:>16.0} {open:>16.0} {times:>8.2}");
        }
    }
    println!();
}
