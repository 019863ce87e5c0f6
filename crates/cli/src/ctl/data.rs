//! `kiva ctl data`: what is in the data of a store that is stopped.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use kiva_base::{KeyRange, RegionId};
use kiva_server::inspect::{ApplyState, Cf, Data, InspectError, RegionRecord};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::region::{bound, parse_region, peer, peer_object};
use crate::encoding::{Encoding, EncodingArgs, serialize_bytes};
use crate::exit::{Failure, Status};
use crate::output::{Output, Table, thousands};

/// Flags of `kiva ctl data`.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what the directory of a stopped store holds: regions, families, keys on request
    Inspect(InspectArgs),
}

/// What to show of the data.
#[derive(Debug, Args)]
#[command(after_help = "No cluster is asked. All data is read, to be counted. Keys are shown as \
they are stored: transactional keys, and all keys of API version 2, are memcomparable there (eight \
bytes, then a byte that counts padding), followed by a timestamp in the families default and write.

Examples:
  kiva ctl data inspect --data-dir data/store-0
  kiva ctl data inspect --data-dir data/store-0 --region 2 --keys 20 --cf write")]
struct InspectArgs {
    /// The data directory of the store
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Only this region
    #[arg(long, value_name = "ID", value_parser = parse_region)]
    region: Option<RegionId>,
    /// Show the first N keys of each family, with the sizes of their values
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keys: usize,
    /// Only this family
    #[arg(long, value_enum, value_name = "FAMILY")]
    cf: Option<CfArg>,
    #[command(flatten)]
    encoding: EncodingArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CfArg {
    Default,
    Lock,
    Write,
    Local,
}

impl From<CfArg> for Cf {
    fn from(cf: CfArg) -> Self {
        match cf {
            CfArg::Default => Self::Default,
            CfArg::Lock => Self::Lock,
            CfArg::Write => Self::Write,
            CfArg::Local => Self::Local,
        }
    }
}

/// Looks and answers.
pub(crate) fn run(args: &DataArgs, out: &mut Output) -> Result<Status, Failure> {
    let Verb::Inspect(args) = &args.verb;
    let encoding = args.encoding.get();
    let data = Data::open(&args.data_dir)?;
    let ident = data.ident()?.ok_or_else(|| {
        Failure::refused(format!("{} holds no store yet", args.data_dir.display()))
            .advise("a store writes who it is when it first reaches a scheduler")
    })?;
    out.answer(
        &json!({
            "kind": "store",
            "cluster": ident.cluster.get(),
            "store": ident.store.get(),
            "api_version": ident.api.to_string(),
        }),
        || format!("store {} of cluster {}, API version {}", ident.store, ident.cluster, ident.api),
    )?;
    let mut regions = data.regions()?;
    let mut range = KeyRange::ALL;
    if let Some(id) = args.region {
        regions.retain(|(record, _)| record.region.id == id);
        let Some((record, _)) = regions.first() else {
            return Err(Failure::refused(format!("region {id} has no data here"))
                .advise("its votes may still be in the log: kiva ctl log inspect --region"));
        };
        range = record.region.range.clone();
    }
    show_regions(&regions, encoding, out)?;
    // Our own records are of no region.
    let families = Cf::ALL.into_iter().filter(|cf| args.region.is_none() || *cf != Cf::Local);
    let families = families.filter(|cf| args.cf.is_none_or(|wanted| *cf == Cf::from(wanted)));
    let families: Vec<_> = families.collect();
    show_families(&data, &families, &range, out)?;
    if args.keys > 0 {
        show_keys(&data, &families, &range, args.keys, encoding, out)?;
    }
    Ok(Status::Done)
}

fn show_regions(
    regions: &[(RegionRecord, ApplyState)],
    encoding: Encoding,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut table =
        Table::new(&["region", "start", "end", "epoch", "peers", "applied", "truncated"]);
    for found in regions {
        if out.is_json() {
            out.object(&RegionLine(found))?;
            continue;
        }
        let (RegionRecord { region, .. }, state) = found;
        let peers: Vec<_> = region.peers.iter().map(peer).collect();
        table.row([
            region.id.to_string(),
            bound(region.range.start(), "-∞", encoding),
            bound(region.range.end(), "+∞", encoding),
            format!("{}:{}", region.epoch.conf_ver, region.epoch.version),
            peers.join(" "),
            state.applied.to_string(),
            state.truncated.to_string(),
        ]);
    }
    if !out.is_json() {
        out.line("")?;
        out.table(&table)?;
    }
    Ok(())
}

fn show_families(
    data: &Data,
    families: &[Cf],
    range: &KeyRange,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut table = Table::new(&["family", "keys", "bytes of keys", "bytes of values"]);
    for cf in families {
        let found = data.count(*cf, range)?;
        if out.is_json() {
            out.object(&json!({
                "kind": "family",
                "family": cf.name(),
                "keys": found.pairs,
                "key_bytes": found.key_bytes,
                "value_bytes": found.value_bytes,
            }))?;
            continue;
        }
        let numbers = [found.pairs, found.key_bytes, found.value_bytes].map(thousands);
        table.row([cf.name().to_owned()].into_iter().chain(numbers));
    }
    if !out.is_json() {
        out.line("")?;
        out.table(&table)?;
    }
    Ok(())
}

fn show_keys(
    data: &Data,
    families: &[Cf],
    range: &KeyRange,
    limit: usize,
    encoding: Encoding,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut table = Table::new(&["family", "key", "bytes of value"]);
    for cf in families {
        for (key, value) in data.pairs(*cf, range, limit)? {
            if out.is_json() {
                out.object(&KeyLine { family: cf.name(), key: &key, value_bytes: value.len() })?;
                continue;
            }
            let size = thousands(value.len() as u64);
            table.row([cf.name().to_owned(), encoding.show(&key), size]);
        }
    }
    if !out.is_json() {
        out.line("")?;
        out.table(&table)?;
    }
    Ok(())
}

/// A region as an object.
struct RegionLine<'a>(&'a (RegionRecord, ApplyState));

impl Serialize for RegionLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (RegionRecord { region, .. }, state) = self.0;
        let peers: Vec<_> = region.peers.iter().map(peer_object).collect();
        let epoch = json!({
            "conf_ver": region.epoch.conf_ver,
            "version": region.epoch.version,
        });
        let applied = json!({ "term": state.applied.term.0, "index": state.applied.index.0 });
        let truncated = json!({ "term": state.truncated.term.0, "index": state.truncated.index.0 });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", "region")?;
        map.serialize_entry("id", &region.id.get())?;
        serialize_bytes(&mut map, "start", region.range.start())?;
        serialize_bytes(&mut map, "end", region.range.end())?;
        map.serialize_entry("epoch", &epoch)?;
        map.serialize_entry("peers", &peers)?;
        map.serialize_entry("applied", &applied)?;
        map.serialize_entry("truncated", &truncated)?;
        map.end()
    }
}

/// A key as an object.
struct KeyLine<'a> {
    family: &'static str,
    key: &'a [u8],
    value_bytes: usize,
}

impl Serialize for KeyLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", "key")?;
        map.serialize_entry("family", self.family)?;
        serialize_bytes(&mut map, "key", self.key)?;
        map.serialize_entry("value_bytes", &self.value_bytes)?;
        map.end()
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        let advice = match &error {
            InspectError::NoStore { .. } => {
                "give --data-dir what `kiva store --data-dir` was given; of a playground, \
                 DIR/store-0"
            }
            InspectError::InUse { .. } => {
                "stop the store first; of one that runs, `kiva ctl region show` and `kiva ctl \
                 store show` tell"
            }
            _ => return Self::refused(error),
        };
        match error {
            InspectError::NoStore { .. } => Self::usage(error).advise(advice),
            error => Self::refused(error).advise(advice),
        }
    }
}
