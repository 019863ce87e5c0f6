//! `kiva ctl store`: the processes that keep data.

use clap::{Args, Subcommand};
use kiva_base::StoreId;
use kiva_client::rpc::{StoreDetail, StoreHealth, StoreState};
use serde_json::{Map, Value, json};

use super::region::parse_store;
use crate::connection::Connection;
use crate::exit::{Failure, Status};
use crate::output::{Output, Table, thousands};

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
    /// Show all that is known of a store
    Show {
        /// The id of the store
        #[arg(value_parser = parse_store)]
        store: StoreId,
    },
}

/// Asks and answers.
pub(crate) async fn run(
    args: &StoreArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let client = connection.connect(connection.options()).await?;
    if let Verb::Show { store } = args.verb {
        return match client.scheduler().describe_store(store).await? {
            Some(found) => describe(&found, out),
            None => Err(Failure::refused(format!("no store has the id {store}"))),
        };
    }
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

/// All that is known of a store.
fn describe(found: &StoreDetail, out: &mut Output) -> Result<Status, Failure> {
    let StoreDetail { store, disk, .. } = found;
    if out.is_json() {
        let disk = disk.map(|disk| {
            json!({
                "capacity": disk.capacity,
                "available": disk.available,
                "used": disk.used,
            })
        });
        out.object(&json!({
            "id": store.id.get(),
            "state": state(store.state),
            "health": health(found.health),
            "address": store.address,
            "status_address": store.status_address,
            "version": store.version,
            "disk": disk,
            "peers": found.peers,
            "leaders": found.leaders,
            "pending_peers": found.pending,
            "approximate_size": found.size_bytes,
            "log_position": found.log_position,
            "lost_below": found.lost_below,
        }))?;
        return Ok(Status::Done);
    }
    let disk = disk.map_or("not reported yet".to_owned(), |disk| {
        let of = |bytes| thousands(bytes);
        let (used, free, all) = (of(disk.used), of(disk.available), of(disk.capacity));
        format!("{used} bytes used, {free} free of {all}")
    });
    let forgotten = match found.lost_below {
        0 => "nothing is missing".to_owned(),
        id => format!("peers with ids below {id} have forgotten, and are replaced"),
    };
    for (name, value) in [
        ("store", format!("{} at {}", store.id, store.address)),
        ("state", format!("{}, {}", state(store.state), health(found.health))),
        ("disk", disk),
        (
            "regions",
            format!(
                "{} peers, {} leaders, {} pending, about {} bytes",
                thousands(found.peers),
                thousands(found.leaders),
                thousands(found.pending),
                thousands(found.size_bytes),
            ),
        ),
        ("log", format!("synced to {}; {forgotten}", found.log_position)),
    ] {
        out.line(&format!("{name:7}  {value}"))?;
    }
    Ok(Status::Done)
}

fn health(health: StoreHealth) -> &'static str {
    match health {
        StoreHealth::Up => "connected",
        StoreHealth::Disconnected => "disconnected",
        StoreHealth::Down => "down",
    }
}

fn state(state: StoreState) -> &'static str {
    match state {
        StoreState::Up => "up",
        StoreState::Offline => "offline",
        StoreState::Tombstone => "tombstone",
    }
}
