//! What the scheduler knows, for those who ask: tools, and the curious.

use std::sync::Arc;

use bytes::Bytes;
use kiva_base::{Key, KeyRange, RegionId, StoreId, Timestamp};

use crate::core::Core;
use crate::error::SchedulerError;
use crate::limits::REGIONS_PAGE;
use crate::rpc::{
    Members, Operator, OperatorKind, RegionDetail, RegionInfo, SchedulerFuture, SchedulerPort,
    Store, StoreDetail,
};
use kiva_base::api::KeyMode;

/// Questions to the scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    core: Arc<Core>,
}

impl Scheduler {
    /// Its members, and which of them leads.
    pub async fn members(&self) -> Result<Members, SchedulerError> {
        self.ask(|scheduler| scheduler.members()).await
    }

    /// All stores that are not gone for good, by id.
    pub async fn stores(&self) -> Result<Vec<Store>, SchedulerError> {
        let mut stores = self.ask(|scheduler| scheduler.stores()).await?;
        stores.sort_by_key(|store| store.id);
        Ok(stores)
    }

    /// One store; `None` when there never was one with this id, or it is gone for good.
    pub async fn store(&self, id: StoreId) -> Result<Option<Store>, SchedulerError> {
        self.ask(|scheduler| scheduler.store(id)).await
    }

    /// At most `limit` regions in key order, with their leaders. Bounds are in boundary form, in
    /// the answer and in `range`.
    pub async fn regions(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<RegionInfo>, SchedulerError> {
        let mut start = range.start().clone();
        let mut all: Vec<RegionInfo> = Vec::new();
        while all.len() < limit {
            let page_limit = (limit - all.len()).min(REGIONS_PAGE as usize) as u32;
            let page = self
                .ask(|scheduler| {
                    scheduler.scan_regions(start.clone(), range.end().clone(), page_limit)
                })
                .await?;
            let is_last = page.len() < page_limit as usize;
            let end = page.last().map(|info| info.region.range.end().clone());
            all.extend(page);
            match end {
                // An end that does not move on would go round for ever.
                Some(end) if !is_last && !end.is_empty() && end > start => start = end,
                _ => break,
            }
            if !range.end().is_empty() && start >= range.end() {
                break;
            }
        }
        Ok(all)
    }

    /// One region by its id.
    pub async fn region(&self, id: RegionId) -> Result<Option<RegionInfo>, SchedulerError> {
        self.ask(|scheduler| scheduler.region_by_id(id)).await
    }

    /// All that is known of a region. Served by Kiva's schedulers only, as are the next three.
    pub async fn describe_region(
        &self,
        id: RegionId,
    ) -> Result<Option<RegionDetail>, SchedulerError> {
        self.ask(|scheduler| scheduler.describe_region(id)).await
    }

    /// All that is known of a store; `None` when there never was one with this id.
    pub async fn describe_store(&self, id: StoreId) -> Result<Option<StoreDetail>, SchedulerError> {
        self.ask(|scheduler| scheduler.describe_store(id)).await
    }

    /// Begins an operator, and returns while it runs. Refused when it cannot be, or while another
    /// runs that was asked for.
    pub async fn add_operator(
        &self,
        kind: OperatorKind,
        region: RegionId,
        store: StoreId,
    ) -> Result<Operator, SchedulerError> {
        self.ask(|scheduler| scheduler.add_operator(kind, region, store)).await
    }

    /// The operators that run, by region; then those that ended in the last minutes if wanted.
    pub async fn operators(&self, with_ended: bool) -> Result<Vec<Operator>, SchedulerError> {
        self.ask(|scheduler| scheduler.operators(with_ended)).await
    }

    /// The region that holds a user's key.
    pub async fn region_of(
        &self,
        key: &Key,
        mode: KeyMode,
    ) -> Result<Option<RegionInfo>, SchedulerError> {
        let codec = match mode {
            KeyMode::Raw => &self.core.raw,
            KeyMode::Txn => &self.core.txn,
        };
        let boundary = codec.boundary(&codec.wire(key));
        self.ask(|scheduler| scheduler.region_by_key(boundary.clone())).await
    }

    /// The user's key at a region's boundary; `None` when it is unbounded or no such key, as
    /// boundaries that data of another mode has left behind are not.
    pub fn key_at(&self, boundary: &Bytes, mode: KeyMode) -> Option<Key> {
        let codec = match mode {
            KeyMode::Raw => &self.core.raw,
            KeyMode::Txn => &self.core.txn,
        };
        let wire = codec.boundary_to_wire(boundary).ok()?;
        codec.user(wire).ok().filter(|_| !boundary.is_empty())
    }

    /// A new timestamp.
    pub async fn timestamp(&self) -> Result<Timestamp, SchedulerError> {
        let mut trial = self.core.trial(self.core.timeout);
        Ok(self.core.timestamp(&mut trial).await?)
    }

    /// The timestamp below which old versions may be gone.
    pub async fn safe_point(&self) -> Result<Timestamp, SchedulerError> {
        self.ask(|scheduler| scheduler.safe_point()).await
    }

    /// Moves the safe point to `to` unless it is already further; returns where it is.
    pub async fn advance_safe_point(&self, to: Timestamp) -> Result<Timestamp, SchedulerError> {
        self.ask(|scheduler| scheduler.advance_safe_point(to)).await
    }
}

impl Scheduler {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    async fn ask<T>(
        &self,
        call: impl Fn(&dyn SchedulerPort) -> SchedulerFuture<T>,
    ) -> Result<T, SchedulerError> {
        let mut trial = self.core.trial(self.core.timeout);
        Ok(self.core.ask(&mut trial, call).await?)
    }
}
