//! `kiva ctl log`: what is in the log of a store that is stopped.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use kiva_base::RegionId;
use kiva_server::inspect::{
    self, Damage, EntryId, HardState, InspectedItem, InspectedRecord, Inspection, Lost, Tombstone,
};
use serde_json::{Value, json};

use super::region::parse_region;
use crate::encoding::show_hex;
use crate::exit::{Failure, Status};
use crate::output::{Output, Table, thousands};

/// Flags of `kiva ctl log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show every record of the log in a stopped store's directory, and what it adds up to
    Inspect(InspectArgs),
}

/// What to show of a log.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is changed, and no cluster is asked. Ends with 1 when something is \
damaged; the torn end that a crash leaves is none.

Entries are term/index. What was replaced or is not needed any more is shown for as long as its
file is there.

Examples:
  kiva ctl log inspect --data-dir data/store-0 --summary
  kiva ctl log inspect --data-dir data/store-0 --region 2 --json"
)]
struct InspectArgs {
    /// The data directory of the store
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Only what concerns this region
    #[arg(long, value_name = "ID", value_parser = parse_region)]
    region: Option<RegionId>,
    /// Leave the records out
    #[arg(long)]
    summary: bool,
}

/// Looks and answers.
pub(crate) fn run(args: &LogArgs, out: &mut Output) -> Result<Status, Failure> {
    let Verb::Inspect(args) = &args.verb;
    let mut regions = BTreeMap::new();
    let mut places = Places::default();
    let mut shown = Ok(());
    if !args.summary && !out.is_json() {
        out.line(&row("position", "segment", "offset", "bytes", "says"))?;
    }
    let seen = inspect::log(&args.data_dir, &mut |mut record| {
        places.note(&record);
        record.items.retain(|item| args.region.is_none_or(|id| region_of(item) == Some(id)));
        record.bad.retain(|(region, _)| args.region.is_none_or(|id| id == *region));
        count(&record, &mut regions);
        let is_shown = args.region.is_none() || !record.items.is_empty();
        if !args.summary && is_shown && shown.is_ok() {
            shown = show(&record, out);
        }
    })?;
    shown?;
    summarize(&seen, &regions, &places, out)?;
    match places.damaged(&seen) {
        0 => Ok(Status::Done),
        places => Err(Failure::refused(format!("the log is damaged in {places} places")).advise(
            "regions that lost only entries get them from the other stores; if the store does \
             not start, replace it by an empty one (docs/operations.md)",
        )),
    }
}

/// Where things are, for telling damage from a torn end.
#[derive(Default)]
struct Places {
    /// Positions of the beginnings of segments.
    bases: BTreeMap<u32, u64>,
    /// Positions of records with bad entries, once for each.
    bad: Vec<u64>,
}

impl Places {
    fn note(&mut self, record: &InspectedRecord) {
        self.bases.entry(record.segment).or_insert(record.position.0 - record.offset);
        self.bad.extend(record.bad.iter().map(|_| record.position.0));
    }

    /// What is bad below this is damaged, above it was torn.
    fn is_damaged(&self, lost: &Lost, seen: &Inspection) -> bool {
        // A segment without any good record begins where nobody knows; the last one has some.
        let base = self.bases.get(&lost.segment);
        base.is_none_or(|base| base + lost.start < seen.vouched.0)
    }

    fn damaged(&self, seen: &Inspection) -> usize {
        let bad = self.bad.iter().filter(|position| **position < seen.vouched.0);
        let lost = seen.unreadable.iter().filter(|lost| self.is_damaged(lost, seen));
        bad.count() + lost.count()
    }
}

/// What records say of one region.
#[derive(Default)]
struct Seen {
    entries: u64,
    bytes: u64,
    lowest: Option<EntryId>,
    highest: Option<EntryId>,
    bad: u64,
    hard_state: Option<HardState>,
    tombstone: Option<Tombstone>,
    damage: Option<Damage>,
}

fn region_of(item: &InspectedItem) -> Option<RegionId> {
    match item {
        InspectedItem::Region { region, .. } | InspectedItem::Tombstone(region, _) => Some(*region),
        InspectedItem::Ident(_) | InspectedItem::Dropped(_) => None,
    }
}

fn count(record: &InspectedRecord, regions: &mut BTreeMap<RegionId, Seen>) {
    for (region, _) in &record.bad {
        regions.entry(*region).or_default().bad += 1;
    }
    for item in &record.items {
        let Some(region) = region_of(item) else { continue };
        let seen = regions.entry(region).or_default();
        match item {
            InspectedItem::Tombstone(_, tombstone) => seen.tombstone = *tombstone,
            InspectedItem::Region { hard_state, damage, runs, .. } => {
                seen.hard_state = hard_state.or(seen.hard_state);
                seen.damage = damage.or(seen.damage);
                for run in runs {
                    seen.entries += run.last.index.since(run.first.index) + 1;
                    seen.bytes += run.bytes;
                    let by_index = |id: &EntryId| id.index;
                    seen.lowest = seen.lowest.into_iter().chain([run.first]).min_by_key(by_index);
                    seen.highest = seen.highest.into_iter().chain([run.last]).max_by_key(by_index);
                }
            }
            InspectedItem::Ident(_) | InspectedItem::Dropped(_) => {}
        }
    }
}

/// One line of records. Columns are as wide as numbers get: a log is not read twice to find out.
fn row(position: &str, segment: &str, offset: &str, bytes: &str, says: &str) -> String {
    format!("{position:>14}  {segment:>7}  {offset:>9}  {bytes:>9}  {says}").trim_end().to_owned()
}

fn show(record: &InspectedRecord, out: &mut Output) -> io::Result<()> {
    if out.is_json() {
        return out.object(&record_object(record));
    }
    let says = record.items.iter().map(InspectedItem::to_string);
    let bad = record.bad.iter();
    let bad = bad.map(|(region, index)| format!("region {region}: entry {index} is DAMAGED"));
    let mut says: Vec<_> = says.chain(bad).collect();
    if says.is_empty() {
        says.push(format!("what was written before {} is durable", record.synced));
    }
    for (number, says) in says.iter().enumerate() {
        let line = match number {
            0 => row(
                &record.position.to_string(),
                &record.segment.to_string(),
                &record.offset.to_string(),
                &record.payload_bytes.to_string(),
                says,
            ),
            _ => row("", "", "", "", says),
        };
        out.line(&line)?;
    }
    Ok(())
}

fn summarize(
    seen: &Inspection,
    regions: &BTreeMap<RegionId, Seen>,
    places: &Places,
    out: &mut Output,
) -> io::Result<()> {
    if out.is_json() {
        for (region, seen) in regions {
            out.object(&region_object(*region, seen))?;
        }
        let lost = seen.unreadable.iter().map(|lost| {
            json!({ "segment": lost.segment, "start": lost.start, "end": lost.end,
                    "is_damaged": places.is_damaged(lost, seen) })
        });
        return out.object(&json!({
            "kind": "log",
            "segments": seen.segments,
            "records": seen.records,
            "entries": seen.entries,
            "bad_entries": seen.bad_entries,
            "end": seen.end.0,
            "vouched": seen.vouched.0,
            "unreadable": lost.collect::<Vec<_>>(),
        }));
    }
    let mut table = Table::new(&[
        "region", "entries", "from", "to", "bytes", "term", "vote", "commit", "remarks",
    ]);
    for (region, seen) in regions {
        let shown = |id: Option<EntryId>| id.map(|id| id.to_string()).unwrap_or_default();
        let state = seen.hard_state.unwrap_or_default();
        table.row([
            region.to_string(),
            thousands(seen.entries),
            shown(seen.lowest),
            shown(seen.highest),
            thousands(seen.bytes),
            state.term.to_string(),
            state.vote.map_or_else(|| "none".to_owned(), |vote| vote.to_string()),
            state.commit.to_string(),
            remarks(seen),
        ]);
    }
    out.line("")?;
    out.table(&table)?;
    out.line("")?;
    let (segments, records) = (thousands(seen.segments), thousands(seen.records));
    let entries = thousands(seen.entries);
    out.line(&format!("{segments} segments, {records} records, {entries} entries"))?;
    out.line(&format!("ends at {}, was known to be durable to {}", seen.end, seen.vouched))?;
    for lost in &seen.unreadable {
        let what = match places.is_damaged(lost, seen) {
            true => "DAMAGED",
            false => "torn by a crash",
        };
        let place = match lost.end {
            Some(end) => format!("bytes {} to {end} of segment {}", lost.start, lost.segment),
            None => format!("segment {}, which is missing", lost.segment),
        };
        out.line(&format!("{what}: {place}"))?;
    }
    match seen.bad_entries {
        0 => Ok(()),
        bad => out.line(&format!("DAMAGED: {} entries", thousands(bad))),
    }
}

fn remarks(seen: &Seen) -> String {
    let mut remarks = Vec::new();
    if let Some(Tombstone { peer_id_max, .. }) = &seen.tombstone {
        remarks.push(format!("peers up to {peer_id_max} are gone"));
    }
    if let Some(Damage { index, is_state_lost }) = &seen.damage {
        let votes = if *is_state_lost { ", votes too" } else { "" };
        remarks.push(format!("lost from {index} on{votes}"));
    }
    if seen.bad > 0 {
        remarks.push(format!("{} entries DAMAGED", thousands(seen.bad)));
    }
    remarks.join("; ")
}

fn entry(id: EntryId) -> Value {
    json!({ "term": id.term.0, "index": id.index.0 })
}

fn state(state: HardState) -> Value {
    let HardState { term, vote, commit } = state;
    json!({ "term": term.0, "vote": vote.map(|vote| vote.get()), "commit": commit.0 })
}

fn damage(damage: Damage) -> Value {
    json!({ "index": damage.index.0, "is_state_lost": damage.is_state_lost })
}

fn tombstone(tombstone: Tombstone) -> Value {
    let Tombstone { peer_id_max, epoch } = tombstone;
    json!({
        "peer_id_max": peer_id_max.get(),
        "epoch": { "conf_ver": epoch.conf_ver, "version": epoch.version },
    })
}

fn record_object(record: &InspectedRecord) -> Value {
    let bad = record.bad.iter();
    let bad = bad.map(|(region, index)| json!({ "region": region.get(), "index": index.0 }));
    json!({
        "kind": "record",
        "position": record.position.0,
        "segment": record.segment,
        "offset": record.offset,
        "bytes": record.payload_bytes,
        "synced": record.synced.0,
        "incarnation": record.incarnation,
        "items": record.items.iter().map(item_object).collect::<Vec<_>>(),
        "bad": bad.collect::<Vec<_>>(),
    })
}

fn item_object(item: &InspectedItem) -> Value {
    match item {
        InspectedItem::Ident(ident) => json!({ "ident_hex": show_hex(ident) }),
        InspectedItem::Dropped(segment) => json!({ "dropped_segments": segment }),
        InspectedItem::Tombstone(region, found) => {
            json!({ "region": region.get(), "tombstone": found.map(tombstone) })
        }
        InspectedItem::Region {
            region,
            sequence,
            start,
            hard_state,
            repeated,
            damage: lost,
            is_removed,
            runs,
        } => {
            let runs = runs.iter().map(|run| {
                json!({
                    "first": entry(run.first),
                    "last": entry(run.last),
                    "bytes": run.bytes,
                    "memberships": run.memberships,
                    "lost": run.lost,
                })
            });
            json!({
                "region": region.get(),
                "sequence": sequence,
                "start": start.map(entry),
                "hard_state": hard_state.map(state),
                "repeated": repeated.map(entry),
                "damage": lost.map(damage),
                "is_removed": is_removed,
                "entries": runs.collect::<Vec<_>>(),
            })
        }
    }
}

fn region_object(region: RegionId, seen: &Seen) -> Value {
    json!({
        "kind": "region",
        "region": region.get(),
        "entries": seen.entries,
        "bytes": seen.bytes,
        "lowest": seen.lowest.map(entry),
        "highest": seen.highest.map(entry),
        "hard_state": seen.hard_state.map(state),
        "tombstone": seen.tombstone.map(tombstone),
        "damage": seen.damage.map(damage),
        "bad_entries": seen.bad,
    })
}
