//! Every setting of a server: TOML, a struct per section, unknown fields refused.
//!
//! A flag wins over the file and the file over the default: whoever starts a server reads the file
//! with [`Config::load`], lays the flags over it, and has the result checked. What must agree in a
//! cluster is an `Option`: left out, it is what the cluster was born with.

mod store;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kiva_scheduler::{ApiVersion, WantedSettings};
use serde::Deserialize;

pub use store::StoreConfig;

use crate::limits::{REPLICAS_MAX, STORE_DOWN_MS_MAX, STORE_DOWN_MS_MIN, TICK_MS_MAX, TICK_MS_MIN};

/// All settings.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// What a scheduler is.
    pub scheduler: SchedulerConfig,
    /// What a store is.
    pub store: StoreConfig,
}

/// What a scheduler is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SchedulerConfig {
    /// Name of this member, unique in the cluster. Required; no default.
    pub name: String,
    /// Its directory; made when it is missing. Required; no default.
    pub data_dir: PathBuf,
    /// Where it listens for clients and stores. Default `127.0.0.1:2379`.
    pub addr: String,
    /// Where it listens for other members. Default `127.0.0.1:2380`. With one member there are
    /// none, so nothing is bound yet; it is told to those who ask for the members.
    pub peer_addr: String,
    /// What clients and stores are told to dial; set it when they reach `addr` under another name.
    /// Default: what is bound.
    pub advertise_addr: Option<String>,
    /// What other members are told to dial. Default: `peer-addr`.
    pub advertise_peer_addr: Option<String>,
    /// Which requests the cluster takes: `1`, `1ttl` or `2`. Default: as it was born, and `1` when
    /// it is born now.
    pub api_version: Option<String>,
    /// How many peers each region should have. Default: as it was born, and 3.
    pub replicas: Option<u32>,
    /// Milliseconds between two ticks of consensus. Default: as it was born, and 50. Raise it where
    /// stores are further apart than a few milliseconds.
    pub tick_ms: Option<u32>,
    /// Milliseconds of silence after which the peers on a store are replaced. Default: as it was
    /// last set, and 1800000, half an hour. Lower it where stores never come back.
    pub store_down_ms: Option<u32>,
    /// The members at birth, `NAME=PEERADDR,…`. Default: this one alone, which is all there can be
    /// today.
    pub initial_cluster: Option<String>,
    /// Client addresses of members to join. Default: none, which is all there can be today.
    pub join: Option<String>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            data_dir: PathBuf::new(),
            addr: "127.0.0.1:2379".to_owned(),
            peer_addr: "127.0.0.1:2380".to_owned(),
            advertise_addr: None,
            advertise_peer_addr: None,
            api_version: None,
            replicas: None,
            tick_ms: None,
            store_down_ms: None,
            initial_cluster: None,
            join: None,
        }
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, or has a field that does not exist.
    #[error("{path}: {source}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: toml::de::Error,
    },
    /// A field has a value that cannot be used.
    #[error("`{field}` {reason}")]
    Field {
        /// Section and field, as in the file.
        field: &'static str,
        /// What is wrong, to be read after the name.
        reason: String,
    },
}

/// A field has a value that cannot be used.
fn wrong(field: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Field { field, reason: reason.into() }
}

impl Config {
    /// The settings of a file; what it leaves out is as by default. Fields are checked later, when
    /// the flags are known.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
    }
}

impl SchedulerConfig {
    /// Checks every field by itself and those that have to fit together, before anything is
    /// opened.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() {
            return Err(wrong("scheduler.name", "is missing: give the member a name"));
        }
        if self.name.contains(['=', ',']) {
            return Err(wrong("scheduler.name", "must not contain `=` or `,`"));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(wrong("scheduler.data-dir", "is missing: name a directory"));
        }
        check_address("scheduler.addr", &self.addr)?;
        check_address("scheduler.peer-addr", &self.peer_addr)?;
        check_advertised("scheduler.addr", &self.addr, self.advertise_addr.as_deref())?;
        let advertised = self.advertise_peer_addr.as_deref();
        check_advertised("scheduler.peer-addr", &self.peer_addr, advertised)?;
        self.settings()?;
        check_between(
            "scheduler.store-down-ms",
            self.store_down_ms,
            STORE_DOWN_MS_MIN,
            STORE_DOWN_MS_MAX,
        )?;
        self.check_members()
    }

    /// What is asked of the settings that must agree in the cluster.
    pub fn settings(&self) -> Result<WantedSettings, ConfigError> {
        let api_version = self
            .api_version
            .as_deref()
            .map(str::parse::<ApiVersion>)
            .transpose()
            .map_err(|error| wrong("scheduler.api-version", format!("is wrong: {error}")))?;
        check_between("scheduler.replicas", self.replicas, 1, REPLICAS_MAX)?;
        check_between("scheduler.tick-ms", self.tick_ms, TICK_MS_MIN, TICK_MS_MAX)?;
        Ok(WantedSettings { api_version, replicas: self.replicas, tick_ms: self.tick_ms })
    }

    /// What other members are told to dial.
    pub fn advertised_peer_addr(&self) -> &str {
        self.advertise_peer_addr.as_deref().unwrap_or(&self.peer_addr)
    }

    fn check_members(&self) -> Result<(), ConfigError> {
        const FIELD: &str = "scheduler.initial-cluster";
        if self.join.as_deref().is_some_and(|join| !join.is_empty()) {
            return Err(wrong(
                "scheduler.join",
                "cannot be used yet: a scheduler has one member in this version, several come \
                 later",
            ));
        }
        let Some(members) = self.initial_cluster.as_deref().filter(|members| !members.is_empty())
        else {
            return Ok(());
        };
        let members: Vec<_> = members.split(',').collect();
        let [only] = members[..] else {
            let count = members.len();
            return Err(wrong(
                FIELD,
                format!(
                    "names {count} members: a scheduler has one member in this version, several \
                     come later"
                ),
            ));
        };
        match only.split_once('=') {
            Some((name, address)) if name == self.name => {
                if address == self.advertised_peer_addr() {
                    return Ok(());
                }
                let ours = self.advertised_peer_addr();
                Err(wrong(FIELD, format!("says {address}, but this member advertises {ours}")))
            }
            Some((name, _)) => {
                let reason = format!("names {name}, but this member is {}", self.name);
                Err(wrong(FIELD, reason))
            }
            None => Err(wrong(FIELD, format!("has `{only}`, expected NAME=PEERADDR"))),
        }
    }
}

/// `HOST:PORT`.
fn check_address(field: &'static str, address: &str) -> Result<(), ConfigError> {
    let is_good = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_good { Ok(()) } else { Err(wrong(field, format!("is `{address}`, expected HOST:PORT"))) }
}

/// Nobody can dial a wildcard, so what is told to others has to be given then.
pub fn check_advertised(
    field: &'static str,
    bound: &str,
    advertised: Option<&str>,
) -> Result<(), ConfigError> {
    if let Some(advertised) = advertised {
        let bare = advertised.rsplit("://").next().unwrap_or(advertised);
        return match bare.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_unspecified() => {
                let reason = format!("is advertised as {advertised}, which nobody can dial");
                Err(wrong(field, reason))
            }
            _ => check_address(field, bare),
        };
    }
    match bound.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => Err(wrong(
            field,
            format!("is {bound}, which nobody can dial: say what others should dial as well"),
        )),
        _ => Ok(()),
    }
}

fn check_between(
    field: &'static str,
    value: Option<u32>,
    first: u32,
    last: u32,
) -> Result<(), ConfigError> {
    match value {
        Some(value) if !(first..=last).contains(&value) => {
            Err(wrong(field, format!("is {value}, expected {first} to {last}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> SchedulerConfig {
        SchedulerConfig {
            name: "one".to_owned(),
            data_dir: "data".into(),
            ..SchedulerConfig::default()
        }
    }

    #[test]
    fn the_reference_file_is_the_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/scheduler.toml");
        assert_eq!(Config::load(&path).unwrap().scheduler, SchedulerConfig::default());
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scheduler.toml");
        fs::write(&path, "[scheduler]\ndata-dri = \"x\"\n").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("scheduler.toml") && error.contains("data-dri"), "{error}");
        let missing = Config::load(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none"), "{missing}");
    }

    #[test]
    fn a_bad_value_names_its_field() {
        type Change = fn(&mut SchedulerConfig);
        let cases: [(&str, Change); 15] = [
            ("`scheduler.name`", |c| c.name.clear()),
            ("`scheduler.name`", |c| c.name = "a=b".into()),
            ("`scheduler.data-dir`", |c| c.data_dir = PathBuf::new()),
            ("`scheduler.addr`", |c| c.addr = "2379".into()),
            ("`scheduler.addr` is 0.0.0.0:1", |c| c.addr = "0.0.0.0:1".into()),
            ("`scheduler.addr` is [::]:1", |c| c.addr = "[::]:1".into()),
            ("`scheduler.addr`", |c| c.advertise_addr = Some("http://0.0.0.0:1".into())),
            ("`scheduler.peer-addr`", |c| c.peer_addr = "0.0.0.0:1".into()),
            ("`scheduler.api-version`", |c| c.api_version = Some("3".into())),
            ("`scheduler.replicas`", |c| c.replicas = Some(0)),
            ("`scheduler.tick-ms`", |c| c.tick_ms = Some(1)),
            ("`scheduler.join`", |c| c.join = Some("127.0.0.1:1".into())),
            ("several come later", |c| c.initial_cluster = Some("one=a:1,two=b:1".into())),
            ("but this member is one", |c| c.initial_cluster = Some("two=b:1".into())),
            ("advertises 127.0.0.1:2380", |c| c.initial_cluster = Some("one=b:1".into())),
        ];
        for (words, change) in cases {
            let mut config = good();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn what_fits_is_taken() {
        type Change = fn(&mut SchedulerConfig);
        let cases: [Change; 5] = [
            |_| {},
            |c| c.addr = "localhost:0".into(),
            |c| c.initial_cluster = Some("one=127.0.0.1:2380".into()),
            |c| c.initial_cluster = Some(String::new()),
            |c| {
                c.addr = "0.0.0.0:2379".into();
                c.advertise_addr = Some("http://scheduler.example:2379".into());
            },
        ];
        for change in cases {
            let mut config = good();
            change(&mut config);
            config.validate().unwrap();
        }
    }
}
