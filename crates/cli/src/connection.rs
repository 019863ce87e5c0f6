//! Which cluster to talk to, and how: the flags that `ctl` and `bench` share.

use std::time::Duration;

use clap::{Args, ValueEnum};
use kiva_client::{Client, Options};

use crate::exit::Failure;

/// Flags of a connection to a cluster.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Client addresses of the schedulers; one that answers is enough
    #[arg(
        long,
        value_name = "ADDR,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        global = true
    )]
    pub(crate) schedulers: Vec<String>,
    /// How keys of the cluster are written; must be what the cluster was born with
    #[arg(long, value_enum, default_value = "1", global = true)]
    pub(crate) api_version: ApiVersion,
    /// Keyspace of API version 2, by name
    #[arg(long, value_name = "NAME", default_value = "DEFAULT", global = true)]
    pub(crate) keyspace: String,
    /// How long one operation may take with all its repetitions
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = parse_seconds,
        default_value = "10",
        global = true
    )]
    pub(crate) timeout: Duration,
}

impl Connection {
    /// What the client has to know.
    pub(crate) fn options(&self) -> Options {
        Options {
            api_version: self.api_version.into(),
            keyspace: self.keyspace.clone(),
            timeout: self.timeout,
            seed: kiva_server::runtime::random_seed(),
            ..Options::default()
        }
    }

    /// A client of the cluster.
    pub(crate) async fn connect(&self, options: Options) -> Result<Client, Failure> {
        Ok(Client::connect(self.schedulers.iter().map(String::as_str), options).await?)
    }
}

/// API versions as they are written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApiVersion {
    /// Raw keys without TTL, and transactions, in one key space
    #[value(name = "1")]
    V1,
    /// Raw keys that may expire, no transactions
    #[value(name = "1ttl")]
    V1Ttl,
    /// Every key belongs to a keyspace; raw keys may expire
    #[value(name = "2")]
    V2,
}

impl ApiVersion {
    /// As it is written in a configuration file.
    pub(crate) fn to_setting(self) -> String {
        match self {
            Self::V1 => "1",
            Self::V1Ttl => "1ttl",
            Self::V2 => "2",
        }
        .to_owned()
    }
}

impl From<ApiVersion> for kiva_client::ApiVersion {
    fn from(version: ApiVersion) -> Self {
        match version {
            ApiVersion::V1 => Self::V1,
            ApiVersion::V1Ttl => Self::V1Ttl,
            ApiVersion::V2 => Self::V2,
        }
    }
}

/// A time in seconds, with a fraction if need be, above zero and below a day.
pub(crate) fn parse_seconds(argument: &str) -> Result<Duration, String> {
    let seconds: f64 = argument.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match seconds > 0.0 && seconds <= 86_400.0 {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("must be above 0 and at most 86400 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "NaN", "inf", "86401", "ten", ""] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }
}
