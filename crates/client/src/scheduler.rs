//! What the scheduler knows, for those who ask: tools, and the curious.

use std::sync::Arc;

use kiva_base::{KeyRange, RegionId, StoreId, Timestamp};

use crate::core::Core;
use crate::error::SchedulerError;
use crate::keyspace::Mode;
use crate::rpc::{Members, RegionInfo, Store};

/// Questions to the scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    core: Arc<Core>,
}

impl Scheduler {
    /// Its members, and which of them leads.
    pub async fn members(&self) -> Result<Members, SchedulerError> {
        todo!()
    }

    /// All stores that are not gone for good, by id.
    pub async fn stores(&self) -> Result<Vec<Store>, SchedulerError> {
        todo!()
    }

    /// One store; `None` when there never was one with this id, or it is gone for good.
    pub async fn store(&self, id: StoreId) -> Result<Option<Store>, SchedulerError> {
        todo!()
    }

    /// At most `limit` regions in key order, with their leaders. Bounds in the answer are in
    /// boundary form, those of the request too.
    pub async fn regions(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<RegionInfo>, SchedulerError> {
        todo!()
    }

    /// One region by its id.
    pub async fn region(&self, id: RegionId) -> Result<Option<RegionInfo>, SchedulerError> {
        todo!()
    }

    /// The region that holds a user's key.
    pub async fn region_of(
        &self,
        key: &kiva_base::Key,
        mode: Mode,
    ) -> Result<Option<RegionInfo>, SchedulerError> {
        todo!()
    }

    /// A new timestamp.
    pub async fn timestamp(&self) -> Result<Timestamp, SchedulerError> {
        todo!()
    }

    /// The timestamp below which old versions may be gone.
    pub async fn safe_point(&self) -> Result<Timestamp, SchedulerError> {
        todo!()
    }

    /// Moves the safe point to `to` unless it is already further; returns where it is.
    pub async fn advance_safe_point(&self, to: Timestamp) -> Result<Timestamp, SchedulerError> {
        todo!()
    }
}
