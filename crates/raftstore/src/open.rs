//! A store's replicas put together from what its directories hold.
//!
//! What a crash left is finished first: the data of peers whose tombstone stands is cleared away.
//! Then every region that has data is brought to life the way it is after a birth. A region that
//! only the log has heard of never had data; its vote stays in the log, and it comes back with the
//! first message that its group sends.

use std::sync::Arc;

use kiva_base::{Clock, StoreId};
use kiva_engine::{Engine, EngineError, WriteBatch};

use crate::apply::Apply;
use crate::log::{Damage, Log, Opened};
use crate::meta::{self, MetaError, RegionRecord};
use crate::options::Options;
use crate::router::{Regions, Router};
use crate::snapshot;
use crate::store::{Mailbox, OpenPeerError, Store, loop_of};
use crate::transport::Inbox;

/// Why a store's replicas cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The metadata in the engine.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// One region's log does not fit its data.
    #[error(transparent)]
    Peer(#[from] OpenPeerError),
    /// Of parts of the log nobody knows any more whose promises were there.
    #[error(
        "{count} places of the log cannot be read, the first in segment {segment}: votes of any \
         peer may be lost; start this store on an empty directory, and its replicas come back from \
         the others"
    )]
    Lost {
        /// How many.
        count: usize,
        /// Where the first is.
        segment: u32,
    },
}

/// One store loop with its apply loop and what leads to it. Whoever drives it adds the ports.
pub struct Core {
    /// The store loop.
    pub store: Store,
    /// Applies what its regions commit.
    pub apply: Apply,
    /// What comes in.
    pub mailbox: Mailbox,
}

/// The replicas of a store, not running yet.
pub struct Assembly {
    /// For whoever executes commands.
    pub router: Router,
    /// For whoever receives from other stores.
    pub inbox: Inbox,
    /// The loops, in the order of their numbers.
    pub cores: Vec<Core>,
    /// The log they share.
    pub log: Log,
}

/// Puts the replicas of store `id` together, on `loops` loops. Peers with ids below `lost_below`
/// take no part: the scheduler has noticed that this store's log is older than it once was.
pub fn open(
    id: StoreId,
    options: &Options,
    engine: &Arc<dyn Engine>,
    opened: Opened,
    clock: Arc<dyn Clock>,
    loops: usize,
    lost_below: u64,
) -> Result<Assembly, OpenError> {
    let Opened { log, tombstones, damage, lost, .. } = opened;
    if let Some(first) = lost.first() {
        return Err(OpenError::Lost { count: lost.len(), segment: first.segment });
    }
    let has_forgotten =
        |region| damage.get(&region).is_some_and(|damage: &Damage| damage.is_state_lost);
    let now = clock.now();
    let regions = Regions::default();
    let mailboxes: Arc<[Mailbox]> = (0..loops.max(1)).map(|_| Mailbox::new()).collect();
    let mut cores: Vec<_> = mailboxes
        .iter()
        .map(|mailbox| Core {
            store: Store::new(
                id,
                options.clone(),
                engine.clone(),
                log.clone(),
                regions.clone(),
                now,
            ),
            apply: Apply::new(id, engine.clone(), options.flaws),
            mailbox: mailbox.clone(),
        })
        .collect();
    cores.iter_mut().for_each(|core| core.store.refuse_below(lost_below));
    for (region, tombstone) in &tombstones {
        cores[loop_of(*region, loops)].store.bury([(*region, *tombstone)]);
    }
    for (record, state) in meta::load_regions(&*engine.snapshot())? {
        let region = record.region.id;
        let peer = record.region.peer_on(id);
        let is_dead = tombstones
            .get(&region)
            .is_some_and(|tombstone| peer.is_none_or(|peer| tombstone.covers(peer.id)));
        if is_dead || peer.is_none() {
            clear_away(&**engine, &record)?;
            continue;
        }
        let core = &mut cores[loop_of(region, loops)].store;
        match peer {
            // It has forgotten what it promised. Its data stays until a newer peer replaces it.
            Some(peer) if peer.id.get() < lost_below || has_forgotten(region) => {
                core.bury_lost(region, peer, record.region.epoch);
            }
            _ => core.adopt(Arc::new(record), state, now)?,
        }
    }
    let router = Router::new(id, engine.clone(), regions, mailboxes.clone(), clock);
    Ok(Assembly { router, inbox: Inbox::new(mailboxes), cores, log })
}

fn clear_away(engine: &dyn Engine, record: &RegionRecord) -> Result<(), EngineError> {
    let region = &record.region;
    tracing::info!(region_id = region.id.get(), "finishing the removal of a replica");
    let mut batch = WriteBatch::new();
    meta::remove_region(region.id, &mut batch);
    snapshot::clear(engine, std::slice::from_ref(&region.range), batch).map(|_| ())
}
