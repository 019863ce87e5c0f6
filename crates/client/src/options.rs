//! What a program may say about the client it wants.

use std::time::Duration;

use kiva_base::api::ApiVersion;

/// How a client behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How keys of the cluster are written; must be what the cluster was born with.
    pub api_version: ApiVersion,
    /// Under API version 2 the keyspace, by name; of no meaning otherwise.
    pub keyspace: String,
    /// How long one operation may take with all its repetitions, unless a handle says otherwise.
    pub timeout: Duration,
    /// How commands travel to stores.
    pub wire: Wire,
    /// Connections per store, at least one. A server deals them to its cores.
    pub connections: usize,
    /// Where the jitter of waiting begins. Give clients different ones: many that wait in step
    /// arrive in step.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_version: ApiVersion::V1,
            keyspace: "DEFAULT".into(),
            timeout: crate::limits::OPERATION_TIMEOUT,
            wire: Wire::Unary,
            connections: crate::limits::CONNECTIONS,
            seed: 0,
        }
    }
}

/// How commands travel to stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Wire {
    /// One call each. Simple, and ten times the work for a server.
    #[default]
    Unary,
    /// Many in one message of a stream that stays open; what gathers while one message is being
    /// written travels in the next.
    Batch,
}
