//! Which applied entries a flush has made durable, and what the log may drop.
//!
//! `data` has no journal: a crash loses the tail of what was applied since its last flush, and the
//! log replays it. So an entry may leave the log only when two things are durable in `data`: its
//! effect, and the truncation that says nobody will be sent it. Both are in the region's apply
//! state, which is part of the same batches; so it is enough to look at all apply states, to flush,
//! and then to rely on what was seen.

use kiva_engine::{Engine, EngineError};

use crate::log::{Log, LogWriteError};
use crate::meta::{self, MetaError};

/// Why a round of cleaning up failed. All of them are final.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The apply states.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogWriteError),
}

/// Makes durable what is applied, then lets the log drop what nobody needs any more. Slow: for a
/// thread of its own.
pub fn advance(engine: &dyn Engine, log: &Log) -> Result<(), DurableError> {
    let seen = meta::load_apply_states(&*engine.snapshot())?;
    engine.flush()?;
    for (region, state) in seen {
        log.compact(region, state.truncated.index);
    }
    while log.collect()?.is_some() {}
    Ok(())
}
