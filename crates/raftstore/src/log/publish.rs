//! Shows readers what is durable, and, when the log is opened, what was.
//!
//! Both take the same way: a record's directory is read, and the indexes are changed as it says.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kiva_raft::{Entries, Entry};

use super::batch::Item as BatchItem;
use super::format::{Item, Items};
use super::index::{CachedRun, Effects, Place};
use super::store::{Facts, Shared, lock};
use super::writer::Pending;

impl Shared {
    /// Shows what is durable, in the order in which it was written.
    pub(super) fn publish(&self) {
        let _order = lock(&self.publisher);
        let ready = lock(&self.writer).take_pending(self.durable.load(Ordering::Acquire));
        for batch in ready {
            self.show(&batch);
        }
        self.evict();
    }

    fn show(&self, batch: &Pending) {
        let mut runs = batch.runs.iter();
        let mut place = batch.place;
        for item in Items::new(&batch.directory) {
            let item = item.expect("this directory was encoded here");
            let entries = match item {
                Item::Region(_) => runs.next().cloned().unwrap_or_default(),
                _ => Entries::EMPTY,
            };
            self.take_in(&item, &mut place, entries, None);
        }
    }

    /// Takes in one item of a directory. `zones` is how many places could not be read so far, when
    /// the log is being opened.
    pub(super) fn take_in(
        &self,
        item: &Item<'_>,
        place: &mut Place,
        entries: Entries,
        zones: Option<u32>,
    ) {
        match item {
            Item::Region(item) => {
                let region = self.region(item.region);
                let cached = match entries.is_empty() {
                    true => None,
                    false => lock(&self.cache)
                        .admit(&region, memory(&entries))
                        .map(|ticket| CachedRun { ticket, entries }),
                };
                self.change(&region, |region, effects| {
                    if let Some(zones) = zones {
                        region.check_sequence(item, zones);
                    }
                    region.apply(item, place, cached, effects);
                });
            }
            Item::Ident(ident) => {
                let ident = Bytes::copy_from_slice(ident);
                self.change_facts(|facts, effects| {
                    let mut at = facts.ident.take().map_or(0, |(_, at)| at);
                    effects.moved(&mut at, place.segment);
                    facts.ident = Some((ident, at));
                });
            }
            Item::Dropped(segment) => {
                self.dropped.fetch_max(*segment, Ordering::Relaxed);
            }
            Item::Tombstone(region, tombstone) => self.change_facts(|facts, effects| {
                let mut at = facts.tombstones.remove(region).map_or(0, |(_, at)| at);
                effects.moved(&mut at, if tombstone.is_some() { place.segment } else { 0 });
                if let Some(tombstone) = tombstone {
                    facts.tombstones.insert(*region, (*tombstone, at));
                }
            }),
        }
    }

    fn change_facts(&self, change: impl FnOnce(&mut Facts, &mut Effects)) {
        let mut effects = Effects::default();
        {
            let mut facts = lock(&self.facts);
            facts.count += 1;
            change(&mut facts, &mut effects);
        }
        self.settle(&effects);
    }
}

/// Whether a directory can be read, and its payloads have this size: what follows need not fail.
pub(super) fn is_sound(directory: &[u8], payload_size: u32) -> bool {
    let mut sum = 0;
    for item in Items::new(directory) {
        match item {
            Ok(Item::Region(item)) => item.runs.for_each(|_, slot| sum += u64::from(slot.size)),
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    sum == u64::from(payload_size)
}

/// The entries that readers may be given from memory, one run for each region's item.
pub(super) fn runs(items: &[BatchItem]) -> Vec<Entries> {
    items.iter().map(|item| item.entries.clone()).collect()
}

/// Bytes that a run takes in memory.
fn memory(entries: &Entries) -> usize {
    entries.size() + entries.len() * size_of::<Entry>()
}
