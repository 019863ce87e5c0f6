//! What must agree in a cluster: chosen when it is born, kept by the scheduler, told to every store
//! that joins, never changed.

use std::fmt;
use std::str::FromStr;

/// Which requests a cluster takes, and how it stores their keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ApiVersion {
    /// Raw or transactional keys as they are, no TTL.
    #[default]
    V1,
    /// Raw keys as they are, with TTL.
    V1Ttl,
    /// Keyspaces, with TTL.
    V2,
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "1",
            Self::V1Ttl => "1ttl",
            Self::V2 => "2",
        })
    }
}

/// A name that is none of `1`, `1ttl` and `2`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown API version `{0}`: it is 1, 1ttl or 2")]
pub struct UnknownApiVersion(pub String);

impl FromStr for ApiVersion {
    type Err = UnknownApiVersion;

    fn from_str(name: &str) -> Result<Self, UnknownApiVersion> {
        match name {
            "1" => Ok(Self::V1),
            "1ttl" => Ok(Self::V1Ttl),
            "2" => Ok(Self::V2),
            _ => Err(UnknownApiVersion(name.to_owned())),
        }
    }
}

/// The settings of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Which requests it takes.
    pub api_version: ApiVersion,
    /// How many peers each region should have. Not 0.
    pub replicas: u32,
    /// Milliseconds between two ticks of consensus. Not 0.
    pub tick_ms: u32,
}

impl Default for Settings {
    /// Version 1, three replicas, ticks of 50 ms: a leader is replaced within a second and a half.
    fn default() -> Self {
        Self { api_version: ApiVersion::V1, replicas: 3, tick_ms: 50 }
    }
}

/// What somebody asks of the settings; `None` takes what the cluster has, or the default when it
/// is born.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WantedSettings {
    /// Which requests it should take.
    pub api_version: Option<ApiVersion>,
    /// How many peers each region should have.
    pub replicas: Option<u32>,
    /// Milliseconds between two ticks of consensus.
    pub tick_ms: Option<u32>,
}

/// Something was asked for that differs from what the cluster was born with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this cluster was born with {setting} {stored} and cannot be run with {setting} {wanted}: leave \
     the setting out, or begin a new cluster in another directory"
)]
pub struct SettingsMismatch {
    /// Which setting.
    pub setting: &'static str,
    /// What the cluster has.
    pub stored: String,
    /// What was asked for.
    pub wanted: String,
}

impl WantedSettings {
    /// The settings of a cluster that is born now.
    pub fn or_default(self) -> Settings {
        let default = Settings::default();
        Settings {
            api_version: self.api_version.unwrap_or(default.api_version),
            replicas: self.replicas.unwrap_or(default.replicas),
            tick_ms: self.tick_ms.unwrap_or(default.tick_ms),
        }
    }

    /// Refuses what differs from the settings of a cluster that exists.
    pub fn check(self, stored: Settings) -> Result<(), SettingsMismatch> {
        agree("API version", self.api_version, stored.api_version)?;
        agree("replica count", self.replicas, stored.replicas)?;
        agree("tick in milliseconds", self.tick_ms, stored.tick_ms)
    }
}

fn agree<T: PartialEq + fmt::Display>(
    setting: &'static str,
    wanted: Option<T>,
    stored: T,
) -> Result<(), SettingsMismatch> {
    match wanted {
        Some(wanted) if wanted != stored => Err(SettingsMismatch {
            setting,
            stored: stored.to_string(),
            wanted: wanted.to_string(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_value_is_refused_with_both() {
        let wanted =
            WantedSettings { api_version: Some(ApiVersion::V2), ..WantedSettings::default() };
        assert_eq!(wanted.or_default().api_version, ApiVersion::V2);
        let error = wanted.check(Settings::default()).unwrap_err().to_string();
        assert!(error.contains("API version 1 "), "{error}");
        assert!(error.contains("API version 2:"), "{error}");
        assert_eq!(wanted.check(wanted.or_default()), Ok(()));
    }

    #[test]
    fn a_version_is_written_as_it_is_read() {
        for name in ["1", "1ttl", "2"] {
            assert_eq!(name.parse::<ApiVersion>().unwrap().to_string(), name);
        }
        assert!("3".parse::<ApiVersion>().is_err());
    }
}
