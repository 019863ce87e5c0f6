//! `kiva ctl region`: which keys are where.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use kiva_base::{Key, KeyRange, Peer, PeerRole, RegionId, StoreId};
use kiva_client::KeyMode;
use kiva_client::rpc::{OperatorKind, RegionDetail, RegionInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::scan::parse_limit;
use super::{check, operator};
use crate::connection::Connection;
use crate::encoding::{Encoding, EncodingArgs, serialize_bytes};
use crate::exit::{Failure, Status};
use crate::output::{Output, Table, thousands};

/// Flags of `kiva ctl region`.
#[derive(Debug, Args)]
#[command(after_help = "Bounds are shown as they are stored: transactional keys, and all keys of \
API version 2, are memcomparable there (eight bytes, then a byte that counts padding).

Examples:
  kiva ctl region list
  kiva ctl region find alice --mode txn
  kiva ctl region show 2
  kiva ctl region transfer-leader 2 4
  kiva ctl region check")]
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
    /// Show all that is known of a region
    Show {
        /// The id of the region
        #[arg(value_parser = parse_region)]
        region: RegionId,
    },
    /// Let the peer on a store lead
    TransferLeader(Place),
    /// Give a store a peer
    AddPeer(Place),
    /// Take a store's peer away
    RemovePeer(Place),
    /// Compare the replicas of a region, or of all regions
    ///
    /// Every store reads all it has of the region and answers with a digest; replicas that have
    /// applied the same entry must agree in what can be read. Ends with 1 when some differ, and
    /// with 3 when they could not be compared, because a store is away or clients write too much.
    Check {
        /// The id of the region; left out, all regions
        #[arg(value_parser = parse_region)]
        region: Option<RegionId>,
    },
}

/// A region and a store.
#[derive(Debug, Args)]
struct Place {
    /// The id of the region
    #[arg(value_parser = parse_region)]
    region: RegionId,
    /// The id of the store
    #[arg(value_parser = parse_store)]
    store: StoreId,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    Raw,
    Txn,
}

/// The id of a region.
pub(super) fn parse_region(text: &str) -> Result<RegionId, String> {
    text.parse().ok().and_then(RegionId::new).ok_or_else(|| NO_ID.to_owned())
}

/// The id of a store.
pub(super) fn parse_store(text: &str) -> Result<StoreId, String> {
    text.parse().ok().and_then(StoreId::new).ok_or_else(|| NO_ID.to_owned())
}

const NO_ID: &str = "an id is a number above 0";

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
        Verb::Show { region } => {
            let scheduler = connection.connect(connection.options()).await?.scheduler();
            match scheduler.describe_region(region).await? {
                Some(found) => describe(&found, encoding, out)?,
                None => return Err(Failure::refused(format!("no region has the id {region}"))),
            }
        }
        Verb::TransferLeader(place) => {
            operate(OperatorKind::TransferLeader, place, connection, out).await?;
        }
        Verb::AddPeer(place) => operate(OperatorKind::AddPeer, place, connection, out).await?,
        Verb::RemovePeer(place) => {
            operate(OperatorKind::RemovePeer, place, connection, out).await?
        }
        Verb::Check { region } => {
            let client = connection.connect(connection.options()).await?;
            let regions = match region {
                Some(region) => vec![region],
                None => {
                    let all = client.scheduler().regions(KeyRange::ALL, usize::MAX).await?;
                    all.iter().map(|found| found.region.id).collect()
                }
            };
            return check::run(&client, &regions, out).await;
        }
    }
    Ok(Status::Done)
}

/// Asks for an operator, and shows how it begins: it goes on by itself.
async fn operate(
    kind: OperatorKind,
    place: Place,
    connection: &Connection,
    out: &mut Output,
) -> Result<(), Failure> {
    let scheduler = connection.connect(connection.options()).await?.scheduler();
    let begun = scheduler.add_operator(kind, place.region, place.store).await?;
    operator::show(&[begun], out)
}

/// All that is known of a region.
fn describe(found: &RegionDetail, encoding: Encoding, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        out.object(&DetailLine(found))?;
        return Ok(());
    }
    show(std::slice::from_ref(&found.info), encoding, out)?;
    let down = found.down.iter().map(|(down, since)| format!("{} ({since:?})", peer(down)));
    let list = |peers: Vec<String>| match peers.is_empty() {
        true => "none".to_owned(),
        false => peers.join(" "),
    };
    out.line("")?;
    out.line(&format!("down      {}", list(down.collect())))?;
    out.line(&format!("pending   {}", list(found.pending.iter().map(peer).collect())))?;
    let (size, keys) = (thousands(found.size_bytes), thousands(found.keys));
    out.line(&format!("size      about {size} bytes, {keys} keys"))?;
    let doing = found.operator.as_ref().map_or("none".to_owned(), operator::sentence);
    out.line(&format!("operator  {doing}"))?;
    Ok(())
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
        let peers: Vec<_> = region.peers.iter().map(peer).collect();
        table.row([
            region.id.to_string(),
            bound(region.range.start(), "-∞", encoding),
            bound(region.range.end(), "+∞", encoding),
            format!("{}:{}", region.epoch.conf_ver, region.epoch.version),
            leader.as_ref().map_or_else(|| "none".to_owned(), peer),
            peers.join(" "),
        ]);
    }
    out.table(&table)?;
    Ok(())
}

/// One end of a range, or what stands for none.
pub(super) fn bound(bytes: &[u8], unbounded: &str, encoding: Encoding) -> String {
    match bytes.is_empty() {
        true => unbounded.to_owned(),
        false => encoding.show(bytes),
    }
}

/// `peer@store`, with a mark for those that do not count.
pub(super) fn peer(peer: &Peer) -> String {
    format!("{}@{}{}", peer.id, peer.store, role(peer))
}

/// The mark of those that do not count.
pub(super) fn role(peer: &Peer) -> &'static str {
    match peer.role {
        PeerRole::Voter => "",
        PeerRole::Learner => " (learner)",
    }
}

/// A peer as an object.
pub(super) fn peer_object(peer: &Peer) -> Value {
    json!({
        "id": peer.id.get(),
        "store": peer.store.get(),
        "is_learner": peer.role == PeerRole::Learner,
    })
}

/// A region as an object.
struct RegionLine<'a>(&'a RegionInfo);

impl RegionLine<'_> {
    fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let RegionInfo { region, leader } = self.0;
        let peers: Vec<_> = region.peers.iter().map(peer_object).collect();
        let epoch = json!({
            "conf_ver": region.epoch.conf_ver,
            "version": region.epoch.version,
        });
        map.serialize_entry("id", &region.id.get())?;
        serialize_bytes(map, "start", region.range.start())?;
        serialize_bytes(map, "end", region.range.end())?;
        map.serialize_entry("epoch", &epoch)?;
        map.serialize_entry("leader", &leader.as_ref().map(peer_object))?;
        map.serialize_entry("peers", &peers)
    }
}

impl Serialize for RegionLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.serialize_into(&mut map)?;
        map.end()
    }
}

/// All that is known of a region as an object.
struct DetailLine<'a>(&'a RegionDetail);

impl Serialize for DetailLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let found = self.0;
        let down = |(down, since): &(Peer, Duration)| {
            let peer = peer_object(down);
            json!({ "peer": peer, "seconds": since.as_secs() })
        };
        let mut map = serializer.serialize_map(None)?;
        RegionLine(&found.info).serialize_into(&mut map)?;
        map.serialize_entry("term", &found.term.0)?;
        map.serialize_entry("down", &found.down.iter().map(down).collect::<Vec<_>>())?;
        let pending: Vec<_> = found.pending.iter().map(peer_object).collect();
        map.serialize_entry("pending", &pending)?;
        map.serialize_entry("approximate_size", &found.size_bytes)?;
        map.serialize_entry("approximate_keys", &found.keys)?;
        map.serialize_entry("operator", &found.operator.as_ref().map(operator::object))?;
        map.end()
    }
}
