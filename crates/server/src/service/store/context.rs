//! Which region a request means, and how it is marked.

use std::time::Duration;

use kiva_base::{Epoch, Timestamp};
use kiva_kv::{ApiVersion, Target};
use kiva_proto::kvrpcpb::{self, Context, IsolationLevel};
use kiva_txn::{Isolation, ReadRules};
use tonic::Status;

use super::StoreService;

impl StoreService {
    /// Refuses a request meant for another cluster. One that names none is taken.
    pub(super) fn check_cluster(&self, context: &Option<Context>) -> Result<(), Status> {
        match context.as_ref().map_or(0, |context| context.cluster_id) {
            0 => Ok(()),
            id if id == self.cluster.get() => Ok(()),
            id => Err(Status::invalid_argument(format!(
                "the request is for cluster {id}, this is cluster {}",
                self.cluster
            ))),
        }
    }

    /// What the client believes about the region it means. Its deadline begins now.
    pub(super) fn target(&self, context: &Option<Context>) -> Target {
        let Some(context) = context else { return Target::default() };
        let (peer, store) = context.peer.as_ref().map_or((0, 0), |peer| (peer.id, peer.store_id));
        let wait = Duration::from_millis(context.max_execution_duration_ms);
        Target {
            region: context.region_id,
            epoch: context
                .region_epoch
                .as_ref()
                .map(|epoch| Epoch { conf_ver: epoch.conf_ver, version: epoch.version }),
            peer,
            store,
            term: context.term,
            deadline: (!wait.is_zero()).then(|| self.executor.clock().now() + wait),
            api: match kvrpcpb::ApiVersion::try_from(context.api_version) {
                Ok(kvrpcpb::ApiVersion::V1) => ApiVersion::V1,
                Ok(kvrpcpb::ApiVersion::V1ttl) => ApiVersion::V1Ttl,
                // A version from the future is refused like any other that does not fit.
                Ok(kvrpcpb::ApiVersion::V2) | Err(_) => ApiVersion::V2,
            },
            replica_read: context.replica_read,
        }
    }
}

/// How a read treats locks.
pub(super) fn read_rules(context: &Option<Context>) -> ReadRules {
    let Some(context) = context else { return ReadRules::default() };
    let isolation = match IsolationLevel::try_from(context.isolation_level) {
        Ok(IsolationLevel::Rc) => Isolation::ReadCommitted,
        Ok(IsolationLevel::RcCheckTs) => Isolation::ReadCommittedCheckTs,
        // The strictest for what we do not know.
        Ok(IsolationLevel::Si) | Err(_) => Isolation::Snapshot,
    };
    ReadRules {
        isolation,
        resolved_locks: context.resolved_locks.iter().copied().map(Timestamp).collect(),
        committed_locks: context.committed_locks.iter().copied().map(Timestamp).collect(),
    }
}
