//! `kiva bench`: named workloads in a closed loop, timed, and verified afterwards.
//!
//! ```text
//!  main thread          prepares ─▶ starts ─▶ a line each second ─▶ stops ─▶ verifies ─▶ summary
//!  client thread 0      a runtime of its own, its connections, its share of the clients
//!  client thread …
//! ```
//!
//! A client sends one operation, waits for its answer, and sends the next. Threads share nothing
//! but a flag that says stop; each has connections of its own. What is drawn follows from the seed.
//! Client `c` of `n` writes only the keys `c`, `c + n`, `c + 2n`, …, so that every key has one
//! writer, and what it must hold in the end is known exactly.
//!
//! One load generator drives all targets, so that what is compared differs in the server only:
//! Kiva, etcd (`--target etcd`), and a server that only echoes (`--target echo`, `kiva echo`).

mod engine;
mod expect;
mod grpc;
mod prepare;
mod report;
mod runtime;
mod target;
mod value;
mod verify;
mod workload;

pub(crate) use grpc::echo;

use std::time::Duration;

use clap::{Args, ValueEnum};
use kiva_client::Wire;

use crate::connection::Connection;
use crate::exit::{Failure, Status};
use crate::output::Output;

/// Keys at most: nine digits of a key count them.
const KEYS_MAX: u64 = 1_000_000_000;
/// Clients at most. Each is a task and has one operation under way.
const CLIENTS_MAX: usize = 16 * 1024;

/// Flags of `kiva bench`.
#[derive(Debug, Args)]
#[command(after_help = "Workloads:
  raw-put     writes a key drawn at random; afterwards every key written is read and compared
  raw-get     reads a key drawn at random, each answer compared; loads the keys that are missing
  txn-commit  writes --txn-size keys in an optimistic transaction; afterwards every key written is
              read in a snapshot and compared
  scan        reads --scan-limit pairs from a key drawn at random; order, count and values compared
  tso         draws a timestamp; each must be above all that were drawn before, none drawn twice

Keys have 16 bytes and depend on the seed. A value tells its key and write, so a stale one is found.
A verification that fails ends with exit status 1. Errors of single operations are counted, shown,
and no failure unless nothing succeeds.

--target etcd (raw-put, raw-get) and --target echo (raw-get; the server is `kiva echo`) time other
servers with the same clients, connections, keys and values.

Examples:
  kiva bench --workload raw-put --clients 64 --seconds 10
  kiva bench --workload raw-get --clients 256 --wire batch --json
  kiva bench --target etcd --endpoints 127.0.0.1:22379 --workload raw-put --clients 64")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    connection: Connection,
    /// Which system to time
    #[arg(long, value_enum, default_value = "kiva")]
    target: TargetName,
    /// Addresses of the target, when it is not Kiva
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// What to do
    #[arg(long, value_enum, value_name = "NAME", default_value = "raw-put")]
    workload: WorkloadName,
    /// Operations under way at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    clients: usize,
    /// How commands travel to Kiva's stores: one call each, or many in one message of a stream
    #[arg(long, value_enum, default_value = "unary")]
    wire: WireArg,
    /// Connections to each server, over all threads; left out, 4, but no more than clients
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Threads of this process that send; left out, one per core, but no more than connections
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Seconds that are not measured, at the beginning
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    warmup: u64,
    /// Seconds that are measured
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// Keys to draw from
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    keys: u64,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: usize,
    /// Keys in a transaction of txn-commit
    #[arg(long, value_name = "N", default_value_t = 1)]
    txn_size: usize,
    /// Pairs that one scan reads
    #[arg(long, value_name = "N", default_value_t = 100)]
    scan_limit: usize,
    /// Where keys, values and choices come from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object per second and one at the end
    #[arg(long)]
    json: bool,
}

/// The system that is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetName {
    /// The cluster of --schedulers
    Kiva,
    /// etcd 3, key-value calls
    Etcd,
    /// A server that only answers: what a call costs before anybody reads a key
    Echo,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkloadName {
    /// Write a raw key
    RawPut,
    /// Read a raw key
    RawGet,
    /// Write keys in a transaction
    TxnCommit,
    /// Read raw pairs in order
    Scan,
    /// Draw a timestamp
    Tso,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WireArg {
    /// One call for each command
    Unary,
    /// Many commands in one message
    Batch,
}

/// A checked choice of everything, shared by all threads.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    target: TargetName,
    endpoints: Vec<String>,
    connection: Connection,
    workload: WorkloadName,
    clients: usize,
    wire: Wire,
    connections: usize,
    threads: usize,
    warmup: Duration,
    seconds: u64,
    keys: u64,
    value_size: usize,
    txn_size: usize,
    scan_limit: usize,
    seed: u64,
}

/// Prepares, measures, verifies.
pub(crate) fn run(args: BenchArgs) -> Result<Status, Failure> {
    let mut out = Output::new(args.json);
    let plan = Plan::new(args)?;
    prepare::run(&plan)?;
    let measured = engine::run(&plan, &mut out)?;
    let verified = verify::run(&plan, &measured)?;
    report::summary(&plan, &measured, &verified, &mut out)?;
    out.flush()?;
    match (verified.first, measured.first_error) {
        (Some(mismatch), _) => Err(Failure::refused(format!(
            "verification failed, {} of {}: {mismatch}",
            verified.mismatches, verified.checked
        ))),
        (None, Some(error)) if measured.total.operations == 0 => Err(error),
        _ => Ok(Status::Done),
    }
}

impl Plan {
    fn new(args: BenchArgs) -> Result<Self, Failure> {
        let cores = kiva_server::runtime::cores();
        let connections = args.connections.unwrap_or(4.min(args.clients));
        let threads = args.threads.unwrap_or(cores.min(connections));
        let plan = Self {
            target: args.target,
            endpoints: args.endpoints,
            connection: args.connection,
            workload: args.workload,
            clients: args.clients,
            wire: match args.wire {
                WireArg::Unary => Wire::Unary,
                WireArg::Batch => Wire::Batch,
            },
            connections,
            threads,
            warmup: Duration::from_secs(args.warmup),
            seconds: args.seconds,
            keys: args.keys,
            value_size: args.value_size,
            txn_size: args.txn_size,
            scan_limit: args.scan_limit,
            seed: args.seed,
        };
        plan.check()?;
        Ok(plan)
    }

    /// Refuses what makes no sense, before anything is started.
    fn check(&self) -> Result<(), Failure> {
        let served = match self.target {
            TargetName::Kiva => true,
            TargetName::Etcd => {
                matches!(self.workload, WorkloadName::RawPut | WorkloadName::RawGet)
            }
            TargetName::Echo => self.workload == WorkloadName::RawGet,
        };
        let is_kiva = self.target == TargetName::Kiva;
        let per_client = self.keys / self.clients.max(1) as u64;
        let checks = [
            (served, "this target does not serve this workload; see --help"),
            (
                is_kiva == self.endpoints.is_empty(),
                "--endpoints goes with --target etcd and --target echo, and these with it",
            ),
            (is_kiva || self.wire == Wire::Unary, "--wire batch is a way to Kiva's stores only"),
            (
                (1..=CLIENTS_MAX).contains(&self.clients),
                "--clients must be at least 1 and at most 16384",
            ),
            (
                self.threads >= 1 && self.threads <= self.connections,
                "--threads must be at least 1 and at most --connections",
            ),
            (
                self.connections <= self.clients,
                "--connections must be at most --clients: the others would be idle",
            ),
            (self.seconds >= 1, "--seconds must be at least 1"),
            (
                (1..=KEYS_MAX).contains(&self.keys),
                "--keys must be at least 1 and at most 1000000000",
            ),
            (
                value::SIZE_RANGE.contains(&self.value_size),
                "--value-size must be at least 16 and at most 1048576",
            ),
            (
                self.scan_limit >= 1 && self.scan_limit <= 10_000,
                "--scan-limit must be at least 1 and at most 10000",
            ),
            (self.txn_size >= 1, "--txn-size must be at least 1"),
            (
                !self.workload.writes() || per_client >= self.txn_size as u64,
                "every client writes keys of its own: raise --keys to --clients times --txn-size",
            ),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(Failure::usage(message)),
            None => Ok(()),
        }
    }

    /// Which clients a thread runs.
    fn clients_of(&self, thread: usize) -> impl Iterator<Item = usize> + use<> {
        (thread..self.clients).step_by(self.threads)
    }

    /// How many connections to each server a thread has: shares that differ by one at most.
    fn connections_of(&self, thread: usize) -> usize {
        let (each, more) = (self.connections / self.threads, self.connections % self.threads);
        each + usize::from(thread < more)
    }
}

impl WorkloadName {
    /// Whether it changes data.
    fn writes(self) -> bool {
        match self {
            Self::RawPut | Self::TxnCommit => true,
            Self::RawGet | Self::Scan | Self::Tso => false,
        }
    }

    /// Its name on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::RawPut => "raw-put",
            Self::RawGet => "raw-get",
            Self::TxnCommit => "txn-commit",
            Self::Scan => "scan",
            Self::Tso => "tso",
        }
    }
}

impl TargetName {
    /// Its name on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Kiva => "kiva",
            Self::Etcd => "etcd",
            Self::Echo => "echo",
        }
    }
}
