//! `kiva ctl operator`: what the scheduler is doing with regions.

use clap::{Args, Subcommand};
use kiva_client::rpc::{Operator, OperatorStatus};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::exit::{Failure, Status};
use crate::output::{Output, Table};

/// Flags of `kiva ctl operator`.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the operators that run, by region
    List {
        /// Show those that ended in the last ten minutes as well, the last first
        #[arg(long)]
        ended: bool,
    },
}

/// Asks and answers.
pub(crate) async fn run(
    args: &OperatorArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let Verb::List { ended } = args.verb;
    let scheduler = connection.connect(connection.options()).await?.scheduler();
    show(&scheduler.operators(ended).await?, out)?;
    Ok(Status::Done)
}

/// Operators as a table, or as objects.
pub(super) fn show(operators: &[Operator], out: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&["region", "operator", "status", "age", "steps"]);
    for operator in operators {
        if out.is_json() {
            out.object(&object(operator))?;
            continue;
        }
        table.row([
            operator.region.to_string(),
            operator.description.clone(),
            status(operator.status).to_owned(),
            format!("{} s", operator.age.as_secs()),
            steps(operator),
        ]);
    }
    if !out.is_json() {
        out.table(&table)?;
    }
    Ok(())
}

/// An operator as an object.
pub(super) fn object(operator: &Operator) -> Value {
    json!({
        "region": operator.region.get(),
        "operator": operator.description,
        "status": status(operator.status),
        "age_ms": u64::try_from(operator.age.as_millis()).unwrap_or(u64::MAX),
        "steps": operator.steps,
        "done": operator.done,
    })
}

/// An operator in a few words.
pub(super) fn sentence(operator: &Operator) -> String {
    let (description, status) = (&operator.description, status(operator.status));
    format!("{description}, {status}: {}", steps(operator))
}

fn steps(operator: &Operator) -> String {
    let mark = |(position, step): (usize, &String)| match position < operator.done {
        true => format!("{step} (done)"),
        false => step.clone(),
    };
    operator.steps.iter().enumerate().map(mark).collect::<Vec<_>>().join("; ")
}

fn status(status: OperatorStatus) -> &'static str {
    match status {
        OperatorStatus::Running => "running",
        OperatorStatus::Success => "success",
        OperatorStatus::Timeout => "timeout",
        OperatorStatus::Cancelled => "cancelled",
        OperatorStatus::Replaced => "replaced",
    }
}
