//! `kiva ctl`: everything an operator or a curious person asks.
//!
//! One file per noun. Each verb asks the client library one question and prints the answer; nothing
//! is decided here. `log` and `data` ask nobody: they look into the directory of a stopped store.

mod check;
mod data;
mod export;
mod import;
mod log;
mod member;
mod operator;
mod raw;
mod region;
mod rows;
mod scan;
mod store;
mod tso;
mod txn;

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::runtime;

/// Flags of `kiva ctl`.
#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    #[command(flatten)]
    connection: Connection,
    /// Print one JSON object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Keys and values without transactions
    Raw(raw::RawArgs),
    /// Keys and values with transactions
    Txn(txn::TxnArgs),
    /// Regions: which keys are where
    Region(region::RegionArgs),
    /// Stores: the processes that keep data
    Store(store::StoreArgs),
    /// The log of a stopped store, in its directory
    Log(log::LogArgs),
    /// The data of a stopped store, in its directory
    Data(data::DataArgs),
    /// Operators: what the scheduler is doing with regions
    Operator(operator::OperatorArgs),
    /// Members of the scheduler
    Member(member::MemberArgs),
    /// Timestamps of the scheduler's oracle
    Tso(tso::TsoArgs),
    /// Writes the rows of a CSV, JSON lines or word list file
    Import(import::ImportArgs),
    /// Writes keys and values to a file that `import` reads
    Export(export::ExportArgs),
}

/// Runs one question from connection to answer.
pub(crate) fn run(args: CtlArgs) -> Result<Status, Failure> {
    runtime::block_on(async {
        let mut out = Output::new(args.json);
        let connection = &args.connection;
        let status = match args.noun {
            Noun::Raw(args) => raw::run(args, connection, &mut out).await,
            Noun::Txn(args) => txn::run(args, connection, &mut out).await,
            Noun::Region(args) => region::run(args, connection, &mut out).await,
            Noun::Store(args) => store::run(&args, connection, &mut out).await,
            Noun::Log(args) => log::run(&args, &mut out),
            Noun::Data(args) => data::run(&args, &mut out),
            Noun::Operator(args) => operator::run(&args, connection, &mut out).await,
            Noun::Member(args) => member::run(&args, connection, &mut out).await,
            Noun::Tso(args) => tso::run(&args, connection, &mut out).await,
            Noun::Import(args) => import::run(&args, connection, &mut out).await,
            Noun::Export(args) => export::run(&args, connection, &mut out).await,
        };
        // What was answered before a failure is shown all the same.
        out.flush()?;
        status
    })?
}
