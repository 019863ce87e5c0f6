//! Commands as they leave.

use std::time::Duration;

use bytes::Bytes;
use kiva_base::Timestamp;
use kiva_proto::tikvpb::batch_commands_request::request::Cmd;
use kiva_proto::{kvrpcpb as kv, metapb};

use crate::rpc::{Change, Command, Context, Direction, Mutation, Prewrite, Span};
use kiva_base::api::ApiVersion;

/// A command in protobuf's shape.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// May travel with others; its oneof serves for single calls too.
    Batched(Cmd),
    /// Has no place in a batch.
    RawGetTtl(kv::RawGetKeyTtlRequest),
    /// Has no place in a batch.
    RawCompareAndSwap(kv::RawCasRequest),
    /// Has no place in a batch.
    RawChecksum(kv::RawChecksumRequest),
}

/// A command on its way. `timeout` tells the store until when it is worth beginning.
pub(crate) fn outgoing(context: &Context, command: &Command, timeout: Duration) -> Outgoing {
    let context = Some(self::context(context, timeout));
    match command {
        Command::RawGetTtl { key, cf } => Outgoing::RawGetTtl(kv::RawGetKeyTtlRequest {
            context,
            key: key.clone(),
            cf: cf.to_string(),
        }),
        Command::RawCompareAndSwap { key, previous, value, cf, ttl_secs } => {
            Outgoing::RawCompareAndSwap(kv::RawCasRequest {
                context,
                key: key.clone(),
                value: value.clone(),
                previous_not_exist: previous.is_none(),
                previous_value: previous.clone().unwrap_or_default(),
                cf: cf.to_string(),
                ttl: *ttl_secs,
                delete: false,
            })
        }
        Command::RawChecksum { start, end } => Outgoing::RawChecksum(kv::RawChecksumRequest {
            context,
            algorithm: kv::ChecksumAlgorithm::Crc64Xor as i32,
            ranges: vec![kv::KeyRange { start_key: start.clone(), end_key: end.clone() }],
        }),
        Command::RawGet { .. }
        | Command::RawBatchGet { .. }
        | Command::RawPut { .. }
        | Command::RawBatchPut { .. }
        | Command::RawDelete { .. }
        | Command::RawBatchDelete { .. }
        | Command::RawDeleteRange { .. }
        | Command::RawScan { .. } => Outgoing::Batched(raw(context, command)),
        Command::Get { .. }
        | Command::BatchGet { .. }
        | Command::Scan { .. }
        | Command::Prewrite(_)
        | Command::Commit { .. }
        | Command::Rollback { .. }
        | Command::CheckStatus { .. }
        | Command::Resolve { .. }
        | Command::Heartbeat { .. }
        | Command::ScanLock { .. } => Outgoing::Batched(txn(context, command)),
    }
}

fn raw(context: Option<kv::Context>, command: &Command) -> Cmd {
    match command {
        Command::RawGet { key, cf } => {
            Cmd::RawGet(kv::RawGetRequest { context, key: key.clone(), cf: cf.to_string() })
        }
        Command::RawBatchGet { keys, cf } => Cmd::RawBatchGet(kv::RawBatchGetRequest {
            context,
            keys: keys.clone(),
            cf: cf.to_string(),
        }),
        Command::RawPut { key, value, cf, ttl_secs, for_cas } => Cmd::RawPut(kv::RawPutRequest {
            context,
            key: key.clone(),
            value: value.clone(),
            cf: cf.to_string(),
            ttl: *ttl_secs,
            for_cas: *for_cas,
        }),
        Command::RawBatchPut { pairs, cf, ttl_secs, for_cas } => {
            Cmd::RawBatchPut(kv::RawBatchPutRequest {
                context,
                pairs: pairs.iter().map(pair).collect(),
                cf: cf.to_string(),
                for_cas: *for_cas,
                ttls: match ttl_secs {
                    0 => Vec::new(),
                    &ttl => vec![ttl],
                },
                ..Default::default()
            })
        }
        Command::RawDelete { key, cf, for_cas } => Cmd::RawDelete(kv::RawDeleteRequest {
            context,
            key: key.clone(),
            cf: cf.to_string(),
            for_cas: *for_cas,
        }),
        Command::RawBatchDelete { keys, cf, for_cas } => {
            Cmd::RawBatchDelete(kv::RawBatchDeleteRequest {
                context,
                keys: keys.clone(),
                cf: cf.to_string(),
                for_cas: *for_cas,
            })
        }
        Command::RawDeleteRange { start, end, cf } => {
            Cmd::RawDeleteRange(kv::RawDeleteRangeRequest {
                context,
                start_key: start.clone(),
                end_key: end.clone(),
                cf: cf.to_string(),
            })
        }
        Command::RawScan { span, key_only, cf } => {
            let (start_key, end_key, reverse) = bounds(span);
            Cmd::RawScan(kv::RawScanRequest {
                context,
                start_key,
                limit: span.limit,
                key_only: *key_only,
                cf: cf.to_string(),
                reverse,
                end_key,
            })
        }
        other => unreachable!("{} is no raw command of a batch", other.name()),
    }
}

fn txn(context: Option<kv::Context>, command: &Command) -> Cmd {
    match command {
        Command::Get { key, version } => Cmd::Get(kv::GetRequest {
            context,
            key: key.clone(),
            version: version.0,
            ..Default::default()
        }),
        Command::BatchGet { keys, version } => Cmd::BatchGet(kv::BatchGetRequest {
            context,
            keys: keys.clone(),
            version: version.0,
            ..Default::default()
        }),
        Command::Scan { span, key_only, version } => {
            let (start_key, end_key, reverse) = bounds(span);
            Cmd::Scan(kv::ScanRequest {
                context,
                start_key,
                limit: span.limit,
                version: version.0,
                key_only: *key_only,
                reverse,
                end_key,
                ..Default::default()
            })
        }
        Command::Prewrite(prewrite) => Cmd::Prewrite(self::prewrite(context, prewrite)),
        Command::Commit { start_ts, keys, commit_ts } => Cmd::Commit(kv::CommitRequest {
            context,
            start_version: start_ts.0,
            keys: keys.clone(),
            commit_version: commit_ts.0,
            ..Default::default()
        }),
        Command::Rollback { start_ts, keys } => Cmd::BatchRollback(kv::BatchRollbackRequest {
            context,
            start_version: start_ts.0,
            keys: keys.clone(),
        }),
        Command::CheckStatus {
            primary,
            lock_ts,
            caller_start_ts,
            current_ts,
            rollback_if_not_exist,
        } => Cmd::CheckTxnStatus(kv::CheckTxnStatusRequest {
            context,
            primary_key: primary.clone(),
            lock_ts: lock_ts.0,
            caller_start_ts: caller_start_ts.0,
            current_ts: current_ts.0,
            rollback_if_not_exist: *rollback_if_not_exist,
            verify_is_primary: true,
            ..Default::default()
        }),
        Command::Resolve { start_ts, commit_ts, keys } => {
            Cmd::ResolveLock(kv::ResolveLockRequest {
                context,
                start_version: start_ts.0,
                commit_version: commit_ts.unwrap_or(Timestamp::ZERO).0,
                keys: keys.clone(),
                ..Default::default()
            })
        }
        Command::Heartbeat { primary, start_ts, ttl_ms } => {
            Cmd::TxnHeartBeat(kv::TxnHeartBeatRequest {
                context,
                primary_lock: primary.clone(),
                start_version: start_ts.0,
                advise_lock_ttl: *ttl_ms,
                ..Default::default()
            })
        }
        Command::ScanLock { max_ts, start, end, limit } => Cmd::ScanLock(kv::ScanLockRequest {
            context,
            max_version: max_ts.0,
            start_key: start.clone(),
            limit: *limit,
            end_key: end.clone(),
        }),
        other => unreachable!("{} is no transactional command", other.name()),
    }
}

fn prewrite(context: Option<kv::Context>, prewrite: &Prewrite) -> kv::PrewriteRequest {
    kv::PrewriteRequest {
        context,
        mutations: prewrite.mutations.iter().map(mutation).collect(),
        primary_lock: prewrite.primary.clone(),
        start_version: prewrite.start_ts.0,
        lock_ttl: prewrite.lock_ttl_ms,
        txn_size: prewrite.txn_size,
        min_commit_ts: prewrite.min_commit_ts.0,
        ..Default::default()
    }
}

fn mutation(mutation: &Mutation) -> kv::Mutation {
    let (op, value) = match &mutation.change {
        Change::Put(value) => (kv::Op::Put, value.clone()),
        Change::Insert(value) => (kv::Op::Insert, value.clone()),
        Change::Delete => (kv::Op::Del, Bytes::new()),
        Change::Lock => (kv::Op::Lock, Bytes::new()),
        Change::CheckNotExists => (kv::Op::CheckNotExists, Bytes::new()),
    };
    kv::Mutation { op: op as i32, key: mutation.key.clone(), value, ..Default::default() }
}

fn pair((key, value): &(Bytes, Bytes)) -> kv::KvPair {
    kv::KvPair { key: key.clone(), value: value.clone(), ..Default::default() }
}

/// Start, end and whether they are reversed: on the wire a scan begins at its start key, and going
/// down that is the upper bound.
fn bounds(span: &Span) -> (Bytes, Bytes, bool) {
    match span.direction {
        Direction::Forward => (span.lower.clone(), span.upper.clone(), false),
        Direction::Backward => (span.upper.clone(), span.lower.clone(), true),
    }
}

fn context(context: &Context, timeout: Duration) -> kv::Context {
    kv::Context {
        region_id: context.region.get(),
        region_epoch: Some(metapb::RegionEpoch {
            conf_ver: context.epoch.conf_ver,
            version: context.epoch.version,
        }),
        peer: Some(metapb::Peer {
            id: context.peer.id.get(),
            store_id: context.peer.store.get(),
            ..Default::default()
        }),
        resolved_locks: context.resolved_locks.iter().map(|ts| ts.0).collect(),
        max_execution_duration_ms: timeout.as_millis() as u64,
        is_retry_request: context.is_retry,
        api_version: match context.api_version {
            // A store with TTL, too, wants requests marked as the first version.
            ApiVersion::V1 | ApiVersion::V1Ttl => kv::ApiVersion::V1,
            ApiVersion::V2 => kv::ApiVersion::V2,
        } as i32,
        ..Default::default()
    }
}
