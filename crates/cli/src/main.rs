//! `kiva`: one binary for a whole cluster.
//!
//! ```text
//!  playground   a cluster in one process
//!  scheduler    one scheduler member
//!  store        one store
//!  ctl          questions and answers, import and export
//!  bench        timed workloads, with a verification of what they leave behind
//! ```
//!
//! Flags, exit statuses ([`exit::Status`]) and the `ready` line are interface: scripts depend on
//! them. Answers go to stdout, everything else to stderr.

mod bench;
mod connection;
mod ctl;
mod encoding;
mod exit;
mod logs;
mod output;
mod playground;
mod progress;
mod runtime;
mod scheduler;
mod serve;
mod signals;
mod store;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::{Failure, Status};

/// A distributed, transactional key-value store that speaks TiKV's protocol.
#[derive(Debug, Parser)]
#[command(
    name = "kiva",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit status: 0 done, 1 answered with a refusal or not found, 2 usage, 3 nobody \
reachable or out of time, 4 outcome unknown.

Examples:
  kiva playground                       a cluster on 127.0.0.1:2379 until Ctrl-C
  kiva ctl raw put fruit apple          in another terminal
  kiva ctl raw get fruit
  kiva bench --workload raw-get --clients 64"
)]
struct Kiva {
    /// What to log to stderr: error, warn, info, debug, trace, or directives such as
    /// kiva_server=debug. RUST_LOG says the same where this is left out
    #[arg(long, value_name = "FILTER", global = true)]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a whole cluster in one process: the default way to meet the system
    Playground(playground::PlaygroundArgs),
    /// Starts one scheduler member
    Scheduler(scheduler::SchedulerArgs),
    /// Starts one store
    Store(store::StoreArgs),
    /// Asks a cluster: data, regions, stores, members, timestamps; imports and exports
    Ctl(ctl::CtlArgs),
    /// Times a workload, and verifies what it leaves behind
    Bench(bench::BenchArgs),
    /// Serves nothing but an answer, for `kiva bench --target echo`
    #[command(hide = true)]
    Echo(bench::echo::EchoArgs),
}

fn main() -> ExitCode {
    let kiva = Kiva::parse();
    match run(kiva) {
        Ok(status) => status.into(),
        Err(failure) => {
            report(&failure);
            failure.status.into()
        }
    }
}

fn run(kiva: Kiva) -> Result<Status, Failure> {
    // Servers tell what they do; answers of the others are not to be buried.
    let default = match kiva.command {
        Command::Playground(_) | Command::Scheduler(_) | Command::Store(_) => "info",
        Command::Ctl(_) | Command::Bench(_) | Command::Echo(_) => "warn",
    };
    logs::start(kiva.log.as_deref(), default)?;
    match kiva.command {
        Command::Playground(args) => playground::run(args),
        Command::Scheduler(args) => scheduler::run(args),
        Command::Store(args) => store::run(args),
        Command::Ctl(args) => ctl::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Echo(args) => bench::echo::run(&args),
    }
}

/// Says on stderr what happened and what to do about it.
fn report(failure: &Failure) {
    let mut err = std::io::stderr().lock();
    // There is nobody left to tell that stderr is closed.
    if !failure.message.is_empty() {
        let _ = writeln!(err, "kiva: {}", failure.message);
    }
    if let Some(advice) = &failure.advice {
        let _ = writeln!(err, "      {advice}");
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Kiva::command().debug_assert();
    }
}
