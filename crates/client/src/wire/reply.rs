//! Replies as they arrive.

use bytes::Bytes;
use kiva_base::{KeyError, Timestamp};
use kiva_proto::tikvpb::batch_commands_response::response::Cmd;
use kiva_proto::{errorpb, kvrpcpb as kv};

use super::fault::{commit_error, key_error, lock_info, malformed, region_error};
use crate::rpc::{CallError, Checksum, Reply, TxnStatus};

/// The reply in a response of a batch, or of a single call that could have been in one.
pub(crate) fn batched(response: Cmd) -> Result<Reply, CallError> {
    match response {
        Cmd::RawGet(r) => {
            let value = (!r.not_found).then_some(r.value);
            checked(r.region_error, || Ok(Reply::RawGet(said(r.error, value))))
        }
        Cmd::RawBatchGet(r) => {
            checked(r.region_error, || Ok(Reply::RawBatchGet(raw_pairs(r.pairs))))
        }
        Cmd::RawPut(r) => written(r.region_error, r.error),
        Cmd::RawBatchPut(r) => written(r.region_error, r.error),
        Cmd::RawDelete(r) => written(r.region_error, r.error),
        Cmd::RawBatchDelete(r) => written(r.region_error, r.error),
        Cmd::RawDeleteRange(r) => written(r.region_error, r.error),
        Cmd::RawScan(r) => checked(r.region_error, || Ok(Reply::RawScan(raw_pairs(r.kvs)))),
        other => txn(other),
    }
}

fn txn(response: Cmd) -> Result<Reply, CallError> {
    match response {
        Cmd::Get(r) => checked(r.region_error, || {
            let value = (!r.not_found).then_some(r.value);
            Ok(Reply::Get(unless(r.error, value)))
        }),
        Cmd::BatchGet(r) => checked(r.region_error, || Ok(pairs(r.error, r.pairs))),
        Cmd::Scan(r) => checked(r.region_error, || Ok(pairs(r.error, r.pairs))),
        Cmd::Prewrite(r) => checked(r.region_error, || {
            Ok(Reply::Prewrite(r.errors.into_iter().map(key_error).collect()))
        }),
        Cmd::Commit(r) => checked(r.region_error, || {
            let error = r.error.map(commit_error);
            Ok(Reply::Commit(error.map_or(Ok(()), Err)))
        }),
        Cmd::BatchRollback(r) => {
            checked(r.region_error, || Ok(Reply::Rollback(unless(r.error, ()))))
        }
        Cmd::CheckTxnStatus(mut r) => checked(r.region_error.take(), || {
            let error = r.error.take();
            Ok(Reply::CheckStatus(unless(error, status(&r))))
        }),
        Cmd::ResolveLock(r) => checked(r.region_error, || Ok(Reply::Resolve(unless(r.error, ())))),
        Cmd::TxnHeartBeat(r) => {
            checked(r.region_error, || Ok(Reply::Heartbeat(unless(r.error, r.lock_ttl))))
        }
        Cmd::ScanLock(r) => checked(r.region_error, || {
            let locks = r.locks.into_iter().map(lock_info).collect();
            Ok(Reply::ScanLock(unless(r.error, locks)))
        }),
        // What an old server answers to a command it does not know.
        Cmd::Empty(_) => Err(CallError::Unserved("a command of a batch")),
        _ => Err(malformed("the kind of a response")),
    }
}

/// The reply about a key's time to live.
pub(crate) fn raw_get_ttl(r: kv::RawGetKeyTtlResponse) -> Result<Reply, CallError> {
    checked(r.region_error, || {
        let ttl = (!r.not_found).then_some(r.ttl);
        Ok(Reply::RawGetTtl(said(r.error, ttl)))
    })
}

/// The reply to a compare-and-swap.
pub(crate) fn raw_compare_and_swap(r: kv::RawCasResponse) -> Result<Reply, CallError> {
    checked(r.region_error, || {
        let previous = (!r.previous_not_exist).then_some(r.previous_value);
        Ok(Reply::RawCompareAndSwap(said(r.error, (r.succeed, previous))))
    })
}

/// The reply with a digest.
pub(crate) fn raw_checksum(r: kv::RawChecksumResponse) -> Result<Reply, CallError> {
    checked(r.region_error, || {
        let checksum = Checksum { crc64_xor: r.checksum, pairs: r.total_kvs, bytes: r.total_bytes };
        Ok(Reply::RawChecksum(said(r.error, checksum)))
    })
}

fn checked(
    error: Option<errorpb::Error>,
    reply: impl FnOnce() -> Result<Reply, CallError>,
) -> Result<Reply, CallError> {
    match error {
        Some(error) => Err(region_error(error)),
        None => reply(),
    }
}

fn written(region: Option<errorpb::Error>, error: String) -> Result<Reply, CallError> {
    checked(region, || Ok(Reply::RawWritten(said(error, ()))))
}

/// In raw answers an error is a text, empty when there is none.
fn said<T>(error: String, value: T) -> Result<T, String> {
    match error.is_empty() {
        true => Ok(value),
        false => Err(error),
    }
}

fn unless<T>(error: Option<kv::KeyError>, value: T) -> Result<T, KeyError> {
    error.map_or(Ok(value), |error| Err(key_error(error)))
}

/// Raw pairs; a failure of the whole request is one pair that holds only an error.
fn raw_pairs(pairs: Vec<kv::KvPair>) -> Result<Vec<(Bytes, Bytes)>, String> {
    let pair = |pair: kv::KvPair| match pair.error {
        Some(error) => Err(key_error(error).to_string()),
        None => Ok((pair.key, pair.value)),
    };
    pairs.into_iter().map(pair).collect()
}

fn pairs(error: Option<kv::KeyError>, pairs: Vec<kv::KvPair>) -> Reply {
    let pair = |pair: kv::KvPair| match pair.error {
        Some(error) => Err(key_error(error)),
        None => Ok((pair.key, pair.value)),
    };
    let found = pairs.into_iter().map(pair).collect();
    Reply::Pairs(unless(error, found))
}

fn status(r: &kv::CheckTxnStatusResponse) -> TxnStatus {
    match (r.commit_version, r.lock_ttl) {
        (0, 0) => TxnStatus::RolledBack,
        (0, ttl_ms) => TxnStatus::Alive {
            ttl_ms,
            min_commit_ts_pushed: r.action == kv::Action::MinCommitTsPushed as i32,
        },
        (commit_ts, _) => TxnStatus::Committed(Timestamp(commit_ts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_is_a_value() {
        let response =
            |not_found| Cmd::RawGet(kv::RawGetResponse { not_found, ..Default::default() });
        let empty = Reply::RawGet(Ok(Some(Bytes::new())));
        assert_eq!(batched(response(false)), Ok(empty));
        assert_eq!(batched(response(true)), Ok(Reply::RawGet(Ok(None))));
    }

    #[test]
    fn a_response_to_a_command_we_never_send_is_refused() {
        assert!(matches!(
            batched(Cmd::Gc(kv::GcResponse::default())),
            Err(CallError::Malformed(_))
        ));
    }

    #[test]
    fn a_status_is_told_apart_by_its_two_numbers() {
        let status = |commit_version, lock_ttl, action: kv::Action| {
            status(&kv::CheckTxnStatusResponse {
                commit_version,
                lock_ttl,
                action: action as i32,
                ..Default::default()
            })
        };
        let pushed = kv::Action::MinCommitTsPushed;
        assert_eq!(status(0, 0, kv::Action::NoAction), TxnStatus::RolledBack);
        assert_eq!(status(7, 0, kv::Action::NoAction), TxnStatus::Committed(Timestamp(7)));
        assert_eq!(
            status(0, 9, pushed),
            TxnStatus::Alive { ttl_ms: 9, min_commit_ts_pushed: true }
        );
    }
}
