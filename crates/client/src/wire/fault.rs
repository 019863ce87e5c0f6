//! Refusals as they arrive.

use kiva_base::codec::DecodeError;
use kiva_base::fault::{Assertion, ConflictReason, LockInfo, LockKind};
use kiva_base::{Key, KeyError, PeerId, RegionError, RegionId, StoreId, Timestamp};
use kiva_proto::{errorpb, kvrpcpb};

use super::{peer, region};
use crate::rpc::CallError;

/// A region error. One that says "nobody knows" is no refusal, and so a lost answer; one that is
/// about the command and not about the region is no reason to look for another.
pub(crate) fn region_error(error: errorpb::Error) -> CallError {
    if let Some(undetermined) = error.undetermined_result {
        return CallError::Lost(undetermined.message);
    }
    if let Some(too_large) = &error.raft_entry_too_large {
        // The limit is not in the message, but stores name it in the text.
        let size = too_large.entry_size;
        return CallError::TurnedAway(format!("{} ({size} bytes)", error.message));
    }
    let message = error.message.clone();
    CallError::Region(named(error).unwrap_or(RegionError::Other(message)))
}

/// The refusals that have a name here; `None` for the others and for garbled ones.
fn named(error: errorpb::Error) -> Option<RegionError> {
    if let Some(error) = error.not_leader {
        return Some(RegionError::NotLeader {
            region: RegionId::new(error.region_id)?,
            leader: error.leader.and_then(|leader| peer(leader).ok()),
        });
    }
    if let Some(error) = error.epoch_not_match {
        let regions = error.current_regions.into_iter();
        return Some(RegionError::EpochNotMatch {
            current: regions.filter_map(|found| region(found).ok()).collect(),
        });
    }
    if let Some(error) = error.region_not_found {
        return Some(RegionError::RegionNotFound { region: error.region_id });
    }
    if let Some(error) = error.key_not_in_region {
        return Some(RegionError::KeyNotInRegion {
            key: error.key,
            region: RegionId::new(error.region_id)?,
            start: error.start_key,
            end: error.end_key,
        });
    }
    if let Some(error) = error.server_is_busy {
        return Some(RegionError::ServerIsBusy { reason: error.reason });
    }
    if error.stale_command.is_some() {
        return Some(RegionError::StaleCommand);
    }
    if let Some(error) = error.store_not_match {
        return Some(RegionError::StoreNotMatch {
            requested: error.request_store_id,
            actual: StoreId::new(error.actual_store_id)?,
        });
    }
    if let Some(error) = error.mismatch_peer_id {
        return Some(RegionError::MismatchPeerId {
            requested: error.request_peer_id,
            actual: PeerId::new(error.store_peer_id)?,
        });
    }
    if let Some(error) = error.disk_full {
        return Some(RegionError::DiskFull {
            store: StoreId::new(*error.store_id.first()?)?,
            reason: error.reason,
        });
    }
    None
}

/// A key's error.
pub(crate) fn key_error(error: kvrpcpb::KeyError) -> KeyError {
    if let Some(lock) = error.locked {
        return KeyError::Locked(Box::new(lock_info(lock)));
    }
    // Set together with `retryable`, and says more.
    if let Some(conflict) = error.conflict {
        return write_conflict(conflict);
    }
    if let Some(missing) = error.txn_lock_not_found {
        return KeyError::TxnLockNotFound { key: Key(missing.key) };
    }
    if let Some(exists) = error.already_exist {
        return KeyError::AlreadyExist { key: Key(exists.key) };
    }
    if let Some(expired) = error.commit_ts_expired {
        return KeyError::CommitTsExpired {
            start_ts: Timestamp(expired.start_ts),
            attempted_commit_ts: Timestamp(expired.attempted_commit_ts),
            key: Key(expired.key),
            min_commit_ts: Timestamp(expired.min_commit_ts),
        };
    }
    if let Some(missing) = error.txn_not_found {
        return KeyError::TxnNotFound {
            start_ts: Timestamp(missing.start_ts),
            primary: Key(missing.primary_key),
        };
    }
    if let Some(lock) = error.primary_mismatch.and_then(|error| error.lock_info) {
        return KeyError::PrimaryMismatch(Box::new(lock_info(lock)));
    }
    if let Some(failed) = error.assertion_failed {
        return assertion_failed(failed);
    }
    let text = match (error.deadlock, error.commit_ts_too_large) {
        (Some(_), _) => "deadlock".into(),
        (_, Some(_)) => "the commit timestamp is above the limit of the request".into(),
        _ if !error.abort.is_empty() => error.abort,
        _ if !error.retryable.is_empty() => error.retryable,
        _ => "the store refuses without a reason".into(),
    };
    KeyError::Abort(text)
}

/// The error of a commit. Stores that have no name for "not found" say `retryable`, and in a
/// commit mean nothing else by it.
pub(crate) fn commit_error(error: kvrpcpb::KeyError) -> KeyError {
    let is_retryable = !error.retryable.is_empty();
    match key_error(error) {
        KeyError::Abort(_) if is_retryable => KeyError::TxnLockNotFound { key: Key::default() },
        error => error,
    }
}

fn write_conflict(conflict: kvrpcpb::WriteConflict) -> KeyError {
    use kvrpcpb::write_conflict::Reason;
    KeyError::Conflict {
        start_ts: Timestamp(conflict.start_ts),
        conflict_start_ts: Timestamp(conflict.conflict_ts),
        conflict_commit_ts: Timestamp(conflict.conflict_commit_ts),
        key: Key(conflict.key),
        primary: Key(conflict.primary),
        reason: match Reason::try_from(conflict.reason) {
            Ok(Reason::PessimisticRetry) => ConflictReason::PessimisticRetry,
            Ok(Reason::SelfRolledBack) => ConflictReason::SelfRolledBack,
            Ok(Reason::RcCheckTs) => ConflictReason::RcCheckTs,
            Ok(Reason::LazyUniquenessCheck) => ConflictReason::LazyUniquenessCheck,
            Ok(Reason::Optimistic | Reason::Unknown) | Err(_) => ConflictReason::Optimistic,
        },
    }
}

fn assertion_failed(failed: kvrpcpb::AssertionFailed) -> KeyError {
    KeyError::AssertionFailed {
        start_ts: Timestamp(failed.start_ts),
        key: Key(failed.key),
        assertion: match kvrpcpb::Assertion::try_from(failed.assertion) {
            Ok(kvrpcpb::Assertion::Exist) => Assertion::Exist,
            Ok(kvrpcpb::Assertion::NotExist) => Assertion::NotExist,
            Ok(kvrpcpb::Assertion::None) | Err(_) => Assertion::None,
        },
        existing_start_ts: Timestamp(failed.existing_start_ts),
        existing_commit_ts: Timestamp(failed.existing_commit_ts),
    }
}

/// A lock.
pub(crate) fn lock_info(lock: kvrpcpb::LockInfo) -> LockInfo {
    LockInfo {
        primary: Key(lock.primary_lock),
        start_ts: Timestamp(lock.lock_version),
        key: Key(lock.key),
        ttl_ms: lock.lock_ttl,
        txn_size: lock.txn_size,
        kind: match kvrpcpb::Op::try_from(lock.lock_type) {
            Ok(kvrpcpb::Op::Del) => LockKind::Delete,
            Ok(kvrpcpb::Op::Lock) => LockKind::Lock,
            Ok(kvrpcpb::Op::PessimisticLock) => LockKind::Pessimistic,
            _ => LockKind::Put,
        },
        for_update_ts: Timestamp(lock.lock_for_update_ts),
        use_async_commit: lock.use_async_commit,
        min_commit_ts: Timestamp(lock.min_commit_ts),
        secondaries: lock.secondaries.into_iter().map(Key).collect(),
    }
}

/// An answer that lacks what it must have.
pub(crate) fn malformed(what: &'static str) -> CallError {
    CallError::Malformed(DecodeError::Malformed(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_garbled_refusal_is_still_a_refusal() {
        let error = errorpb::Error {
            message: "not leader".into(),
            not_leader: Some(errorpb::NotLeader { region_id: 0, leader: None }),
            ..Default::default()
        };
        assert_eq!(region_error(error), CallError::Region(RegionError::Other("not leader".into())));
        let error = errorpb::Error {
            epoch_not_match: Some(errorpb::EpochNotMatch {
                current_regions: vec![Default::default()],
            }),
            ..Default::default()
        };
        let current = vec![];
        assert_eq!(region_error(error), CallError::Region(RegionError::EpochNotMatch { current }));
    }

    #[test]
    fn an_undetermined_result_is_a_lost_answer() {
        let error = errorpb::Error {
            undetermined_result: Some(errorpb::UndeterminedResult { message: "gone".into() }),
            ..Default::default()
        };
        assert_eq!(region_error(error), CallError::Lost("gone".into()));
    }

    #[test]
    fn a_retryable_commit_means_that_its_lock_is_gone() {
        let error = kvrpcpb::KeyError { retryable: "lock not found".into(), ..Default::default() };
        assert!(matches!(commit_error(error.clone()), KeyError::TxnLockNotFound { .. }));
        assert_eq!(key_error(error), KeyError::Abort("lock not found".into()));
    }

    #[test]
    fn a_conflict_wins_over_the_word_that_comes_with_it() {
        let error = kvrpcpb::KeyError {
            retryable: "conflict".into(),
            conflict: Some(kvrpcpb::WriteConflict {
                reason: kvrpcpb::write_conflict::Reason::SelfRolledBack as i32,
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(matches!(
            key_error(error),
            KeyError::Conflict { reason: ConflictReason::SelfRolledBack, .. }
        ));
    }
}
