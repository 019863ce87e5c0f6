//! `UnsafeDestroyRange`: takes a range away from this store, whatever is in it.
//!
//! It addresses no region and leaves nothing behind that says it happened, so it is for ranges that
//! nobody reads or writes any more: a dropped table, a test that starts over.

use futures_channel::oneshot;
use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::{Key, KeyRange};
use kiva_engine::{Cf, WriteBatch};

use crate::command::View;
use crate::error::Error;
use crate::executor::Executor;
use crate::latch::Claim;
use crate::raw::delete_range::cut;

/// The families that hold what clients wrote.
const USER_FAMILIES: [Cf; 3] = [Cf::Default, Cf::Lock, Cf::Write];

impl Executor {
    /// Removes values, locks and records of `start..end`, in every family a client can write to,
    /// durably, in pieces. Empty bounds are unbounded. A range that runs backwards holds nothing.
    pub async fn destroy_range(&self, start: &Key, end: &Key) -> Result<(), Error> {
        // Where transactions are possible the bounds are theirs, as in TiKV.
        let mode = match self.api() {
            ApiVersion::V1 | ApiVersion::V2 => KeyMode::Txn,
            ApiVersion::V1Ttl => KeyMode::Raw,
        };
        let Some(range) = self.api().stored_range(mode, start, end) else {
            return Ok(());
        };
        for cf in USER_FAMILIES {
            self.destroy_in_family(cf, range.clone()).await?;
        }
        // Nothing else would make it durable: no entry of a log says it again after a crash.
        let (sender, flushed) = oneshot::channel();
        let engine = self.router().engine().clone();
        self.run_elsewhere(Box::new(move || {
            // Who hung up is not told; the range is gone all the same.
            let _ = sender.send(engine.flush());
        }));
        Ok(flushed.await.map_err(|_| Error::Unknown)??)
    }

    async fn destroy_in_family(&self, cf: Cf, mut range: KeyRange) -> Result<(), Error> {
        loop {
            let held = self.latches().hold(Claim::All).await;
            let snapshot = self.router().engine().snapshot();
            let view =
                View { snapshot: &*snapshot, range: &KeyRange::ALL, api: self.api(), now_s: 0 };
            let (piece, rest) = cut(&view, cf, &range)?;
            let Some(piece) = piece else { return Ok(()) };
            let mut batch = WriteBatch::new();
            batch.delete_range(cf, &piece);
            self.router().engine().write(&batch)?;
            drop(held);
            range = rest;
        }
    }
}
