//! What must agree in a cluster: chosen when it is born, kept by the scheduler, told to every store
//! that joins, never changed.

use std::fmt;

pub use kiva_base::api::{ApiVersion, UnknownApiVersion};

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
    "this cluster was born with {setting} {stored} and cannot be run with {setting} {wanted}: \
     leave the setting out, or begin a new cluster in another directory"
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
