//! `kiva ctl store`: the processes that keep data.

use clap::{Args, Subcommand};
use kiva_client::rpc::StoreState;
use serde_json::{Map, Value, json};

use crate::connection::Connection;
use crate::exit::{Failure, Status};
use crate::output::{Output, Table};

/// Flags of `kiva ctl store`.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show all stores that are not gone for good
    List,
}

/// Asks and answers.
pub(crate) async fn run(
    args: &StoreArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let Verb::List = args.verb;
    let client = connection.connect(connection.options()).await?;
    let mut table = Table::new(&["id", "state", "address", "status address", "version", "labels"]);
    for store in client.scheduler().stores().await? {
        if out.is_json() {
            let labels = store.labels.iter();
            let labels: Map<String, Value> =
                labels.map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
            out.object(&json!({
                "id": store.id.get(),
                "state": state(store.state),
                "address": store.address,
                "status_address": store.status_address,
                "version": store.version,
                "labels": labels,
            }))?;
        } else {
            let labels = store.labels.iter();
            let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value}")).collect();
            table.row([
                store.id.to_string(),
                state(store.state).to_owned(),
                store.address,
                store.status_address,
                store.version,
                labels.join(","),
            ]);
        }
    }
    if !out.is_json() {
        out.table(&table)?;
    }
    Ok(Status::Done)
}

fn state(state: StoreState) -> &'static str {
    match state {
        StoreState::Up => "up",
        StoreState::Offline => "offline",
        StoreState::Tombstone => "tombstone",
    }
}
