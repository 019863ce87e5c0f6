//! `kiva ctl member`: the members of the scheduler.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::connection::Connection;
use crate::exit::{Failure, Status};
use crate::output::{Output, Table};

/// Flags of `kiva ctl member`.
#[derive(Debug, Args)]
pub(crate) struct MemberArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show all members, and which of them leads
    List,
}

/// Asks and answers.
pub(crate) async fn run(
    args: &MemberArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let Verb::List = args.verb;
    let client = connection.connect(connection.options()).await?;
    let members = client.scheduler().members().await?;
    let mut table = Table::new(&["id", "name", "role", "client urls", "peer urls"]);
    for member in &members.members {
        let is_leader = members.leader == Some(member.id);
        if out.is_json() {
            out.object(&json!({
                "cluster": members.cluster.get(),
                "id": member.id,
                "name": member.name,
                "is_leader": is_leader,
                "client_urls": member.client_urls,
                "peer_urls": member.peer_urls,
            }))?;
        } else {
            table.row([
                member.id.to_string(),
                member.name.clone(),
                if is_leader { "leader" } else { "follower" }.to_owned(),
                member.client_urls.join(","),
                member.peer_urls.join(","),
            ]);
        }
    }
    if !out.is_json() {
        out.table(&table)?;
    }
    Ok(Status::Done)
}
