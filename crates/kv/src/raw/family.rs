//! Column families as clients name them.

use kiva_base::api::ApiVersion;
use kiva_engine::Cf;

use crate::error::Refusal;

/// Bytes of an unknown name that an error repeats.
const SHOWN_MAX: usize = 32;

/// The family a client names; the empty name is the default one.
pub fn family(api: ApiVersion, name: &str) -> Result<Cf, Refusal> {
    match name {
        "" | "default" => Ok(Cf::Default),
        "lock" if api != ApiVersion::V2 => Ok(Cf::Lock),
        "write" if api != ApiVersion::V2 => Ok(Cf::Write),
        _ => Err(Refusal::UnknownFamily {
            name: name.chars().take(SHOWN_MAX).collect(),
            allowed: match api {
                ApiVersion::V2 => "API version 2 has only \"default\"",
                _ => "use \"default\", \"lock\" or \"write\"",
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers 1-unknown-cf.
    #[test]
    fn a_family_that_does_not_exist_is_refused_with_those_that_do() {
        let error = family(ApiVersion::V1, &"x".repeat(100)).expect_err("no such family");
        assert_eq!(
            error.to_string(),
            format!(
                "unknown column family \"{}\": use \"default\", \"lock\" or \"write\"",
                "x".repeat(32)
            )
        );
        assert!(family(ApiVersion::V1, "local").is_err(), "our own metadata is not for clients");
        assert!(family(ApiVersion::V2, "lock").is_err());
        assert_eq!(family(ApiVersion::V2, ""), Ok(Cf::Default));
    }
}
