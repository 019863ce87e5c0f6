//! The methods of transactions.

use std::collections::BTreeMap;

use kiva_base::fault::{Assertion, KeyError};
use kiva_base::{Key, Timestamp};
use kiva_engine::Order;
use kiva_kv::Error;
use kiva_proto::kvrpcpb::{self, *};
use kiva_txn::outcome::Answer;
use kiva_txn::{
    BatchGet, CheckStatus, Cleanup, Commit, Fate, FindLocks, Get, Heartbeat, Op, Pair,
    PessimisticAction, Prewrite, Resolve, Rollback, Scan, ScanLock, StatusAction, TxnStatus,
};

use super::StoreService;
use super::context::read_rules;
use super::fault::{key_error, lock_info};

/// What a client is told who asks for what is not served yet.
const NO_PESSIMISTIC_LOCKS: &str =
    "pessimistic locks are not served yet: use an optimistic transaction";

impl StoreService {
    pub(super) async fn kv_get(&self, request: GetRequest) -> Result<GetResponse, Error> {
        let target = self.target(&request.context);
        let command = Get {
            key: request.key.into(),
            version: Timestamp(request.version),
            rules: read_rules(&request.context),
        };
        Ok(match self.executor.read(&target, command).await? {
            Ok(value) => GetResponse {
                not_found: value.is_none(),
                value: value.unwrap_or_default(),
                ..Default::default()
            },
            Err(error) => GetResponse { error: Some(key_error(error)), ..Default::default() },
        })
    }

    pub(super) async fn kv_batch_get(
        &self,
        request: BatchGetRequest,
    ) -> Result<BatchGetResponse, Error> {
        let target = self.target(&request.context);
        let command = BatchGet {
            keys: request.keys.into_iter().map(Key).collect(),
            version: Timestamp(request.version),
            rules: read_rules(&request.context),
        };
        let (error, pairs) = kv_pairs(self.executor.read(&target, command).await?);
        Ok(BatchGetResponse { error, pairs, ..Default::default() })
    }

    pub(super) async fn kv_scan(&self, request: ScanRequest) -> Result<ScanResponse, Error> {
        let target = self.target(&request.context);
        let (start, end) = (Key(request.start_key), Key(request.end_key));
        let (low, high, order) = match request.reverse {
            false => (start, end, Order::Forward),
            true => (end, start, Order::Reverse),
        };
        let Some(range) = self.executor.txn_range(&low, &high) else {
            return Ok(ScanResponse::default());
        };
        let command = Scan {
            range,
            order,
            limit: request.limit as usize,
            version: Timestamp(request.version),
            key_only: request.key_only,
            sample_step: request.sample_step as usize,
            rules: read_rules(&request.context),
        };
        let (error, pairs) = kv_pairs(self.executor.read(&target, command).await?);
        Ok(ScanResponse { error, pairs, ..Default::default() })
    }

    pub(super) async fn kv_prewrite(
        &self,
        request: PrewriteRequest,
    ) -> Result<PrewriteResponse, Error> {
        let target = self.target(&request.context);
        let errors = match prewrite(request) {
            Ok(command) => match self.write(&target, command).await? {
                Ok(reply) => {
                    return Ok(PrewriteResponse {
                        min_commit_ts: reply.min_commit_ts.0,
                        one_pc_commit_ts: reply.one_pc_commit_ts.0,
                        ..Default::default()
                    });
                }
                Err(errors) => errors,
            },
            Err(error) => vec![error],
        };
        let errors = errors.into_iter().map(key_error).collect();
        Ok(PrewriteResponse { errors, ..Default::default() })
    }

    pub(super) async fn kv_commit(&self, request: CommitRequest) -> Result<CommitResponse, Error> {
        let target = self.target(&request.context);
        let command = Commit {
            keys: request.keys.into_iter().map(Key).collect(),
            start_ts: Timestamp(request.start_version),
            commit_ts: Timestamp(request.commit_version),
        };
        Ok(match self.write(&target, command).await? {
            Ok(commit_ts) => CommitResponse { commit_version: commit_ts.0, ..Default::default() },
            Err(error) => CommitResponse { error: Some(key_error(error)), ..Default::default() },
        })
    }

    pub(super) async fn kv_batch_rollback(
        &self,
        request: BatchRollbackRequest,
    ) -> Result<BatchRollbackResponse, Error> {
        let target = self.target(&request.context);
        let command = Rollback {
            keys: request.keys.into_iter().map(Key).collect(),
            start_ts: Timestamp(request.start_version),
        };
        let error = refusal(self.write(&target, command).await?);
        Ok(BatchRollbackResponse { error, ..Default::default() })
    }

    pub(super) async fn kv_check_txn_status(
        &self,
        request: CheckTxnStatusRequest,
    ) -> Result<CheckTxnStatusResponse, Error> {
        let target = self.target(&request.context);
        let command = CheckStatus {
            primary: request.primary_key.into(),
            lock_ts: Timestamp(request.lock_ts),
            caller_start_ts: Timestamp(request.caller_start_ts),
            current_ts: Timestamp(request.current_ts),
            rollback_if_not_exist: request.rollback_if_not_exist,
            force_sync_commit: request.force_sync_commit,
            resolving_pessimistic_lock: request.resolving_pessimistic_lock,
            verify_is_primary: request.verify_is_primary,
        };
        let mut response = CheckTxnStatusResponse::default();
        match self.write(&target, command).await? {
            Ok(TxnStatus::RolledBack { action }) => response.action = status_action(action),
            Ok(TxnStatus::Committed { commit_ts }) => response.commit_version = commit_ts.0,
            Ok(TxnStatus::Alive { lock, action }) => {
                response.action = status_action(action);
                response.lock_ttl = lock.ttl_ms;
                response.lock_info = Some(lock_info(*lock));
            }
            Err(error) => response.error = Some(key_error(error)),
        }
        Ok(response)
    }

    pub(super) async fn kv_txn_heart_beat(
        &self,
        request: TxnHeartBeatRequest,
    ) -> Result<TxnHeartBeatResponse, Error> {
        let target = self.target(&request.context);
        let command = Heartbeat {
            primary: request.primary_lock.into(),
            start_ts: Timestamp(request.start_version),
            advise_ttl_ms: request.advise_lock_ttl,
        };
        Ok(match self.write(&target, command).await? {
            Ok(ttl_ms) => TxnHeartBeatResponse { lock_ttl: ttl_ms, ..Default::default() },
            Err(error) => {
                TxnHeartBeatResponse { error: Some(key_error(error)), ..Default::default() }
            }
        })
    }

    pub(super) async fn kv_scan_lock(
        &self,
        request: ScanLockRequest,
    ) -> Result<ScanLockResponse, Error> {
        let target = self.target(&request.context);
        let (start, end) = (Key(request.start_key), Key(request.end_key));
        let Some(range) = self.executor.txn_range(&start, &end) else {
            return Ok(ScanLockResponse::default());
        };
        let command = ScanLock {
            max_version: Timestamp(request.max_version),
            range,
            // A client that names no limit wants them all.
            limit: if request.limit == 0 { usize::MAX } else { request.limit as usize },
        };
        let locks = self.executor.read(&target, command).await?;
        Ok(ScanLockResponse {
            locks: locks.into_iter().map(lock_info).collect(),
            ..Default::default()
        })
    }

    pub(super) async fn kv_resolve_lock(
        &self,
        request: ResolveLockRequest,
    ) -> Result<ResolveLockResponse, Error> {
        let target = self.target(&request.context);
        let fate = |version| Fate::from_commit_version(Timestamp(version));
        let start_ts = Timestamp(request.start_version);
        let settled = if request.keys.is_empty() {
            let fates: BTreeMap<_, _> = if request.txn_infos.is_empty() {
                [(start_ts, fate(request.commit_version))].into()
            } else {
                let known = request.txn_infos.iter();
                known.map(|info| (Timestamp(info.txn), fate(info.status))).collect()
            };
            let find = FindLocks { fates, range: kiva_base::KeyRange::ALL };
            self.executor.resolve_region(&target, find).await?
        } else {
            let keys = request.keys.into_iter().map(Key);
            let command = Resolve::keys_of(start_ts, fate(request.commit_version), keys);
            self.write(&target, command).await?
        };
        Ok(ResolveLockResponse { error: refusal(settled), ..Default::default() })
    }

    pub(super) async fn kv_cleanup(
        &self,
        request: CleanupRequest,
    ) -> Result<CleanupResponse, Error> {
        let target = self.target(&request.context);
        let command = Cleanup {
            key: request.key.into(),
            start_ts: Timestamp(request.start_version),
            current_ts: Timestamp(request.current_ts),
        };
        Ok(match self.write(&target, command).await? {
            Ok(commit_ts) => CleanupResponse {
                commit_version: commit_ts.map_or(0, |ts| ts.0),
                ..Default::default()
            },
            Err(error) => CleanupResponse { error: Some(key_error(error)), ..Default::default() },
        })
    }

    pub(super) async fn kv_pessimistic_lock(
        &self,
        _request: PessimisticLockRequest,
    ) -> Result<PessimisticLockResponse, Error> {
        Ok(PessimisticLockResponse { errors: vec![not_served()], ..Default::default() })
    }

    pub(super) async fn kv_pessimistic_rollback(
        &self,
        _request: PessimisticRollbackRequest,
    ) -> Result<PessimisticRollbackResponse, Error> {
        Ok(PessimisticRollbackResponse { errors: vec![not_served()], ..Default::default() })
    }

    pub(super) async fn kv_check_secondary_locks(
        &self,
        _request: CheckSecondaryLocksRequest,
    ) -> Result<CheckSecondaryLocksResponse, Error> {
        let abort = "async commit is not served yet, so no transaction has secondaries to check";
        let error = Some(key_error(KeyError::Abort(abort.into())));
        Ok(CheckSecondaryLocksResponse { error, ..Default::default() })
    }
}

fn not_served() -> kvrpcpb::KeyError {
    key_error(KeyError::Abort(NO_PESSIMISTIC_LOCKS.into()))
}

/// The command, or the refusal of an operation that does not exist.
fn prewrite(request: PrewriteRequest) -> Result<Prewrite, KeyError> {
    let mutations: Result<_, _> = request.mutations.into_iter().map(mutation).collect();
    let actions = request.pessimistic_actions.into_iter().map(|action| {
        match prewrite_request::PessimisticAction::try_from(action) {
            Ok(prewrite_request::PessimisticAction::SkipPessimisticCheck) => {
                Ok(PessimisticAction::Skip)
            }
            Ok(prewrite_request::PessimisticAction::DoPessimisticCheck) => {
                Ok(PessimisticAction::PessimisticCheck)
            }
            Ok(prewrite_request::PessimisticAction::DoConstraintCheck) => {
                Ok(PessimisticAction::ConstraintCheck)
            }
            Err(_) => Err(KeyError::Abort(format!("unknown pessimistic action {action}"))),
        }
    });
    Ok(Prewrite {
        mutations: mutations?,
        primary: request.primary_lock.into(),
        start_ts: Timestamp(request.start_version),
        lock_ttl_ms: request.lock_ttl,
        txn_size: request.txn_size,
        min_commit_ts: Timestamp(request.min_commit_ts),
        assertion_level: match AssertionLevel::try_from(request.assertion_level) {
            Ok(AssertionLevel::Off) => kiva_txn::AssertionLevel::Off,
            Ok(AssertionLevel::Fast) => kiva_txn::AssertionLevel::Fast,
            // The strictest for what we do not know.
            Ok(AssertionLevel::Strict) | Err(_) => kiva_txn::AssertionLevel::Strict,
        },
        skip_constraint_check: request.skip_constraint_check,
        for_update_ts: Timestamp(request.for_update_ts),
        pessimistic_actions: actions.collect::<Result<_, _>>()?,
        use_async_commit: request.use_async_commit,
        try_one_pc: request.try_one_pc,
    })
}

fn mutation(mutation: kvrpcpb::Mutation) -> Result<kiva_txn::Mutation, KeyError> {
    let unknown = |what, number| Err(KeyError::Abort(format!("unknown {what} {number}")));
    let op = match kvrpcpb::Op::try_from(mutation.op) {
        Ok(kvrpcpb::Op::Put) => Op::Put(mutation.value),
        Ok(kvrpcpb::Op::Del) => Op::Delete,
        Ok(kvrpcpb::Op::Lock) => Op::Lock,
        Ok(kvrpcpb::Op::Insert) => Op::Insert(mutation.value),
        Ok(kvrpcpb::Op::CheckNotExists) => Op::CheckNotExists,
        _ => return unknown("operation of a prewrite:", mutation.op),
    };
    let assertion = match kvrpcpb::Assertion::try_from(mutation.assertion) {
        Ok(kvrpcpb::Assertion::None) => Assertion::None,
        Ok(kvrpcpb::Assertion::Exist) => Assertion::Exist,
        Ok(kvrpcpb::Assertion::NotExist) => Assertion::NotExist,
        Err(_) => return unknown("assertion", mutation.assertion),
    };
    Ok(kiva_txn::Mutation { key: mutation.key.into(), op, assertion })
}

fn status_action(action: StatusAction) -> i32 {
    let action = match action {
        StatusAction::None => Action::NoAction,
        StatusAction::TtlExpireRollback => Action::TtlExpireRollback,
        StatusAction::LockNotExistRollback => Action::LockNotExistRollback,
        StatusAction::MinCommitTsPushed => Action::MinCommitTsPushed,
        StatusAction::TtlExpirePessimisticRollback => Action::TtlExpirePessimisticRollback,
        StatusAction::LockNotExistDoNothing => Action::LockNotExistDoNothing,
    };
    action.into()
}

fn refusal(answer: Answer<()>) -> Option<kvrpcpb::KeyError> {
    answer.err().map(key_error)
}

/// The pairs, locked ones in their place with only an error; or a refusal of the whole request,
/// said at the top and in a single pair, because clients differ in where they look.
fn kv_pairs(answer: Answer<Vec<Pair>>) -> (Option<kvrpcpb::KeyError>, Vec<KvPair>) {
    let failed = |error| KvPair { error: Some(error), ..Default::default() };
    match answer {
        Ok(pairs) => {
            let pairs = pairs.into_iter().map(|pair| match pair {
                Pair::Value { key: Key(key), value } => KvPair { key, value, ..Default::default() },
                Pair::Locked(lock) => failed(key_error(KeyError::Locked(lock))),
            });
            (None, pairs.collect())
        }
        Err(error) => {
            let error = key_error(error);
            (Some(error.clone()), vec![failed(error)])
        }
    }
}
