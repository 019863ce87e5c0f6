//! What a user notices when a store goes away: real processes, real clients, real faults.
//!
//! One scheduler and three stores run as processes. Writers and readers go on through round after
//! round of one fault; the store that is hit is always the one that leads what is written:
//!
//! | fault | how | store afterwards |
//! |---|---|---|
//! | kill | `kill -9` | started again on its directory |
//! | pause | `SIGSTOP` for longer than a lease | goes on, and must notice that it leads no more |
//! | cut | all its packets are dropped | the network is mended |
//! | deaf | what is sent to it is dropped | the same |
//! | mute | what it sends is dropped | the same |
//! | apart | the other stores cannot reach it, clients can | the same |
//! | replace | `kill -9`, and its directory is emptied | a new store takes its place |
//!
//! Each round ends with a verdict: the writers' and readers' histories must be linearizable, with a
//! last look at every key, so a write that was acknowledged and is gone, or a read of what was
//! overwritten, fails the test. At the very end all keys of all rounds are looked at again.
//!
//! What is measured is the longest time without a success: of all writers together, and of the
//! unluckiest of them. Nothing is asserted about it; `cargo xtask failover` prints a table.
#![expect(clippy::print_stdout, reason = "the long form says how far it is, and its table")]

mod cluster;
mod fault;
mod load;
mod net;
mod process;
mod table;

use cluster::Cluster;
use fault::Fault;
use net::Net;
use table::Table;

/// Plays `rounds` of a fault on a cluster of its own.
async fn play(fault: Fault, rounds: usize, table: &mut Table) {
    let net = match fault.needs_namespaces() {
        false => Net::loopback(),
        true => match Net::namespaces() {
            Ok(net) => net,
            Err(why) => {
                println!("SKIPPED {fault}: {why}");
                return;
            }
        },
    };
    let mut cluster = Cluster::start(net, fault.scheduler_settings()).await;
    let mut histories = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let outcome = fault::round(fault, round, &mut cluster).await;
        println!("{fault} {}: {outcome}", round + 1);
        table.add(fault, &outcome);
        histories.push(outcome.load);
    }
    // What a later round did must not have touched what an earlier one left.
    for load in &histories {
        load.look(&cluster).await;
        load.judge();
    }
}

/// Covers 2B-kill, 2B-pause and 2B-wire as far as three processes show them; the simulator plays
/// the same faults many times over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_when_the_leaders_store_is_killed_or_paused() {
    let mut table = Table::default();
    for fault in [Fault::Kill, Fault::Pause] {
        play(fault, 2, &mut table).await;
    }
}

/// The long form: `cargo xtask failover`. `KIVA_FAILOVER_ROUNDS` rounds of each of the faults in
/// `KIVA_FAILOVER_FAULTS`, separated by commas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and measures: `cargo xtask failover` runs it"]
async fn table_of_what_each_fault_costs() {
    let rounds = std::env::var("KIVA_FAILOVER_ROUNDS").ok();
    let rounds = rounds.map_or(30, |rounds| rounds.parse().expect("a number of rounds"));
    let mut table = Table::default();
    for fault in Fault::wanted() {
        play(fault, rounds, &mut table).await;
    }
    println!("\n{table}");
}
