//! `kiva ctl tso`: timestamps of the scheduler's oracle.

use clap::Args;
use serde_json::json;

use super::scan::parse_limit;
use crate::connection::Connection;
use crate::exit::{Failure, Status};
use crate::output::{Output, Table};

/// Flags of `kiva ctl tso`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kiva ctl tso
  kiva ctl tso --count 3 --json")]
pub(crate) struct TsoArgs {
    /// How many to draw, one after another
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_limit)]
    count: usize,
}

/// Asks and answers.
pub(crate) async fn run(
    args: &TsoArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let client = connection.connect(connection.options()).await?;
    let mut table = Table::new(&["timestamp", "unix ms", "logical"]);
    for _ in 0..args.count {
        let ts = client.timestamp().await?;
        let (physical_ms, logical) = (ts.physical_ms(), ts.logical());
        if out.is_json() {
            out.object(&json!({
                "timestamp": ts.0,
                "physical_ms": physical_ms,
                "logical": logical,
            }))?;
        } else {
            table.row([ts.0, physical_ms, logical].map(|number| number.to_string()));
        }
    }
    if !out.is_json() {
        out.table(&table)?;
    }
    Ok(Status::Done)
}
