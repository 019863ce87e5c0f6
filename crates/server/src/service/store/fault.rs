//! Refusals as the wire has them, and where each response carries its own.

use kiva_base::fault::{Assertion, ConflictReason, KeyError, LockInfo, LockKind};
use kiva_base::{Key, RegionError};
use kiva_kv::{Error, Refusal};
use kiva_proto::{errorpb, kvrpcpb};
use kiva_scheduler::wire::{peer_to_wire, region_to_wire};
use tonic::Status;

/// A response that can carry a refusal.
pub(super) trait Answer: Default {
    /// Puts in why the request was not executed by this region.
    fn set_region_error(&mut self, error: errorpb::Error);
    /// Puts in why it will not be executed at all.
    fn refuse(&mut self, refusal: Refusal);
}

/// The response to send, or the status of a request whose outcome nobody knows.
pub(super) fn answer<R: Answer>(result: Result<R, Error>) -> Result<R, Status> {
    let mut response = R::default();
    match result {
        Ok(response) => return Ok(response),
        Err(Error::Region(error)) => response.set_region_error(region_error(error)),
        Err(Error::Refused(refusal)) => response.refuse(refusal),
        // A status, not a region error: a client must not take it for "did not happen".
        Err(error @ Error::Unknown) => return Err(Status::unavailable(error.to_string())),
        Err(Error::Failed(failure)) => {
            tracing::error!(error = %failure, "a command could not read what it needs");
            return Err(Status::internal(failure.to_string()));
        }
    }
    Ok(response)
}

macro_rules! answers {
    ($($response:ident: $field:ident = $convert:expr;)*) => {
        $(impl Answer for kvrpcpb::$response {
            fn set_region_error(&mut self, error: errorpb::Error) {
                self.region_error = Some(error);
            }

            fn refuse(&mut self, refusal: Refusal) {
                self.$field = $convert(refusal);
            }
        })*
    };
}

fn text(refusal: Refusal) -> String {
    refusal.to_string()
}

fn abort(refusal: Refusal) -> Option<kvrpcpb::KeyError> {
    Some(kvrpcpb::KeyError { abort: refusal.to_string(), ..Default::default() })
}

fn aborts(refusal: Refusal) -> Vec<kvrpcpb::KeyError> {
    abort(refusal).into_iter().collect()
}

/// Where a response has no field for an error, a pair carries it.
fn pair(refusal: Refusal) -> Vec<kvrpcpb::KvPair> {
    vec![kvrpcpb::KvPair { error: abort(refusal), ..Default::default() }]
}

answers! {
    RawGetResponse: error = text;
    RawGetKeyTtlResponse: error = text;
    RawPutResponse: error = text;
    RawBatchPutResponse: error = text;
    RawDeleteResponse: error = text;
    RawBatchDeleteResponse: error = text;
    RawDeleteRangeResponse: error = text;
    RawCasResponse: error = text;
    RawCoprocessorResponse: error = text;
    RawChecksumResponse: error = text;
    RawBatchGetResponse: pairs = pair;
    RawScanResponse: kvs = pair;
    RawBatchScanResponse: kvs = pair;
    GetResponse: error = abort;
    CommitResponse: error = abort;
    BatchRollbackResponse: error = abort;
    CheckTxnStatusResponse: error = abort;
    CheckSecondaryLocksResponse: error = abort;
    TxnHeartBeatResponse: error = abort;
    ScanLockResponse: error = abort;
    ResolveLockResponse: error = abort;
    CleanupResponse: error = abort;
    PrewriteResponse: errors = aborts;
    PessimisticLockResponse: errors = aborts;
    PessimisticRollbackResponse: errors = aborts;
}

impl Answer for kvrpcpb::UnsafeDestroyRangeResponse {
    /// No region is addressed, so the protocol wants the text only.
    fn set_region_error(&mut self, error: errorpb::Error) {
        self.error = error.message;
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.error = refusal.to_string();
    }
}

/// Reads of several keys say a refusal of the whole request twice: clients differ in where they
/// look first.
macro_rules! answers_twice {
    ($($response:ident)*) => {
        $(impl Answer for kvrpcpb::$response {
            fn set_region_error(&mut self, error: errorpb::Error) {
                self.region_error = Some(error);
            }

            fn refuse(&mut self, refusal: Refusal) {
                self.error = abort(refusal.clone());
                self.pairs = pair(refusal);
            }
        })*
    };
}

answers_twice! { BatchGetResponse ScanResponse }

/// A refusal of a region as the wire has it: the text for people, and one field for clients.
pub(super) fn region_error(error: RegionError) -> errorpb::Error {
    let mut wired = errorpb::Error { message: error.to_string(), ..Default::default() };
    match error {
        RegionError::NotLeader { region, leader } => {
            wired.not_leader = Some(errorpb::NotLeader {
                region_id: region.get(),
                leader: leader.map(peer_to_wire),
            });
        }
        RegionError::RegionNotFound { region } => {
            wired.region_not_found = Some(errorpb::RegionNotFound { region_id: region });
        }
        RegionError::KeyNotInRegion { key, region, start, end } => {
            wired.key_not_in_region = Some(errorpb::KeyNotInRegion {
                key,
                region_id: region.get(),
                start_key: start,
                end_key: end,
            });
        }
        RegionError::EpochNotMatch { current } => {
            wired.epoch_not_match = Some(errorpb::EpochNotMatch {
                current_regions: current.iter().map(region_to_wire).collect(),
            });
        }
        RegionError::ServerIsBusy { reason } => {
            wired.server_is_busy = Some(errorpb::ServerIsBusy { reason, ..Default::default() });
        }
        RegionError::StaleCommand => wired.stale_command = Some(errorpb::StaleCommand {}),
        RegionError::StoreNotMatch { requested, actual } => {
            wired.store_not_match = Some(errorpb::StoreNotMatch {
                request_store_id: requested,
                actual_store_id: actual.get(),
            });
        }
        RegionError::EntryTooLarge { region, size, .. } => {
            wired.raft_entry_too_large =
                Some(errorpb::RaftEntryTooLarge { region_id: region.get(), entry_size: size });
        }
        RegionError::MismatchPeerId { requested, actual } => {
            wired.mismatch_peer_id = Some(errorpb::MismatchPeerId {
                request_peer_id: requested,
                store_peer_id: actual.get(),
            });
        }
        RegionError::DiskFull { store, reason } => {
            wired.disk_full = Some(errorpb::DiskFull { store_id: vec![store.get()], reason });
        }
        RegionError::Other(_) => {}
    }
    wired
}

/// A refusal of a key as the wire has it. Exactly one field is set, but where a second one tells
/// older clients the same.
pub(super) fn key_error(error: KeyError) -> kvrpcpb::KeyError {
    let text = error.to_string();
    let mut wired = kvrpcpb::KeyError::default();
    match error {
        KeyError::Locked(lock) => wired.locked = Some(lock_info(*lock)),
        KeyError::Conflict {
            start_ts,
            conflict_start_ts,
            conflict_commit_ts,
            key,
            primary,
            reason,
        } => {
            wired.retryable = text;
            wired.conflict = Some(kvrpcpb::WriteConflict {
                start_ts: start_ts.0,
                conflict_ts: conflict_start_ts.0,
                key: key.0,
                primary: primary.0,
                conflict_commit_ts: conflict_commit_ts.0,
                reason: conflict_reason(reason).into(),
            });
        }
        KeyError::AlreadyExist { key } => {
            wired.already_exist = Some(kvrpcpb::AlreadyExist { key: key.0 });
        }
        KeyError::CommitTsExpired { start_ts, attempted_commit_ts, key, min_commit_ts } => {
            wired.commit_ts_expired = Some(kvrpcpb::CommitTsExpired {
                start_ts: start_ts.0,
                attempted_commit_ts: attempted_commit_ts.0,
                key: key.0,
                min_commit_ts: min_commit_ts.0,
            });
        }
        KeyError::TxnNotFound { start_ts, primary } => {
            wired.txn_not_found =
                Some(kvrpcpb::TxnNotFound { start_ts: start_ts.0, primary_key: primary.0 });
        }
        KeyError::PrimaryMismatch(lock) => {
            wired.primary_mismatch =
                Some(kvrpcpb::PrimaryMismatch { lock_info: Some(lock_info(*lock)) });
        }
        KeyError::TxnLockNotFound { key } => {
            wired.retryable = text;
            wired.txn_lock_not_found = Some(kvrpcpb::TxnLockNotFound { key: key.0 });
        }
        KeyError::AssertionFailed {
            start_ts,
            key,
            assertion,
            existing_start_ts,
            existing_commit_ts,
        } => {
            let assertion = match assertion {
                Assertion::None => kvrpcpb::Assertion::None,
                Assertion::Exist => kvrpcpb::Assertion::Exist,
                Assertion::NotExist => kvrpcpb::Assertion::NotExist,
            };
            wired.assertion_failed = Some(kvrpcpb::AssertionFailed {
                start_ts: start_ts.0,
                key: key.0,
                assertion: assertion.into(),
                existing_start_ts: existing_start_ts.0,
                existing_commit_ts: existing_commit_ts.0,
            });
        }
        KeyError::Abort(reason) => wired.abort = reason,
    }
    wired
}

fn conflict_reason(reason: ConflictReason) -> kvrpcpb::write_conflict::Reason {
    use kvrpcpb::write_conflict::Reason;
    match reason {
        ConflictReason::Optimistic => Reason::Optimistic,
        ConflictReason::PessimisticRetry => Reason::PessimisticRetry,
        ConflictReason::SelfRolledBack => Reason::SelfRolledBack,
        ConflictReason::RcCheckTs => Reason::RcCheckTs,
        ConflictReason::LazyUniquenessCheck => Reason::LazyUniquenessCheck,
    }
}

/// A lock as the wire has it.
pub(super) fn lock_info(lock: LockInfo) -> kvrpcpb::LockInfo {
    let kind = match lock.kind {
        LockKind::Put => kvrpcpb::Op::Put,
        LockKind::Delete => kvrpcpb::Op::Del,
        LockKind::Lock => kvrpcpb::Op::Lock,
        LockKind::Pessimistic => kvrpcpb::Op::PessimisticLock,
    };
    kvrpcpb::LockInfo {
        primary_lock: lock.primary.0,
        lock_version: lock.start_ts.0,
        key: lock.key.0,
        lock_ttl: lock.ttl_ms,
        txn_size: lock.txn_size,
        lock_type: kind.into(),
        lock_for_update_ts: lock.for_update_ts.0,
        use_async_commit: lock.use_async_commit,
        min_commit_ts: lock.min_commit_ts.0,
        secondaries: lock.secondaries.into_iter().map(|Key(key)| key).collect(),
        ..Default::default()
    }
}
