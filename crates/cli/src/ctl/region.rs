//! `kiva ctl region`: which keys are where.

use clap::{Args, Subcommand, ValueEnum};
use kiva_base::{Key, KeyRange, Peer, PeerRole};
use kiva_client::KeyMode;
use kiva_client::rpc::RegionInfo;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::scan::parse_limit;
use crate::connection::Connection;
use crate::encoding::{Encoding, EncodingArgs, serialize_bytes};
use crate::exit::{Failure, Status};
use crate::output::{Output, Table};

/// Flags of `kiva ctl region`.
#[derive(Debug, Args)]
#[command(after_help = "Bounds are shown as they are stored: transactional keys, and all keys of \
API version 2, are memcomparable there (eight bytes, then a byte that counts padding).

Examples:
  kiva ctl region list
  kiva ctl region find alice --mode txn")]
pub(crate) struct RegionArgs {
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show regions in key order
    List {
        /// Most regions to show
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = parse_limit)]
        limit: usize,
    },
    /// Show the region that holds a key
    Find {
        /// The key, as its user writes it
        key: String,
        /// Whether the key is read and written with transactions
        #[arg(long, value_enum, default_value = "raw")]
        mode: ModeArg,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    Raw,
    Txn,
}

/// Asks and answers.
pub(crate) async fn run(
    args: RegionArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let encoding = args.encoding.get();
    match args.verb {
        Verb::List { limit } => {
            let scheduler = connection.connect(connection.options()).await?.scheduler();
            let regions = scheduler.regions(KeyRange::ALL, limit).await?;
            show(&regions, encoding, out)?;
            if regions.len() == limit {
                crate::output::note(&format!(
                    "stopped at the limit of {limit}; there may be more (--limit N)"
                ));
            }
        }
        Verb::Find { key, mode } => {
            let key = Key(encoding.parse(&key).map_err(Failure::usage)?);
            let mode = match mode {
                ModeArg::Raw => KeyMode::Raw,
                ModeArg::Txn => KeyMode::Txn,
            };
            let scheduler = connection.connect(connection.options()).await?.scheduler();
            match scheduler.region_of(&key, mode).await? {
                Some(region) => show(&[region], encoding, out)?,
                None => {
                    return Err(Failure::refused("no region holds this key")
                        .advise("start a store: the first one brings the first region"));
                }
            }
        }
    }
    Ok(Status::Done)
}

fn show(regions: &[RegionInfo], encoding: Encoding, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        for region in regions {
            out.object(&RegionLine(region))?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["id", "start", "end", "epoch", "leader", "peers"]);
    for RegionInfo { region, leader } in regions {
        let bound = |bytes: &[u8], unbounded: &str| match bytes.is_empty() {
            true => unbounded.to_owned(),
            false => encoding.show(bytes),
        };
        let peers: Vec<_> = region.peers.iter().map(peer).collect();
        table.row([
            region.id.to_string(),
            bound(region.range.start(), "-∞"),
            bound(region.range.end(), "+∞"),
            format!("{}:{}", region.epoch.conf_ver, region.epoch.version),
            leader.as_ref().map_or_else(|| "none".to_owned(), peer),
            peers.join(" "),
        ]);
    }
    out.table(&table)?;
    Ok(())
}

/// `peer@store`, with a mark for those that do not count.
fn peer(peer: &Peer) -> String {
    let role = match peer.role {
        PeerRole::Voter => "",
        PeerRole::Learner => " (learner)",
    };
    format!("{}@{}{role}", peer.id, peer.store)
}

/// A region as an object.
struct RegionLine<'a>(&'a RegionInfo);

impl Serialize for RegionLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let RegionInfo { region, leader } = self.0;
        let peer = |peer: &Peer| {
            json!({
                "id": peer.id.get(),
                "store": peer.store.get(),
                "is_learner": peer.role == PeerRole::Learner,
            })
        };
        let peers: Vec<_> = region.peers.iter().map(peer).collect();
        let epoch = json!({
            "conf_ver": region.epoch.conf_ver,
            "version": region.epoch.version,
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &region.id.get())?;
        serialize_bytes(&mut map, "start", region.range.start())?;
        serialize_bytes(&mut map, "end", region.range.end())?;
        map.serialize_entry("epoch", &epoch)?;
        map.serialize_entry("leader", &leader.as_ref().map(peer))?;
        map.serialize_entry("peers", &peers)?;
        map.end()
    }
}
