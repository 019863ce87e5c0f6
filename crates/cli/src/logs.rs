//! Logs: to stderr, coloured on a terminal.

use tracing_subscriber::EnvFilter;

use crate::exit::Failure;
use crate::output::wants_colour;

/// Sends logs to stderr that pass `filter`, or else `RUST_LOG`, or else `default`.
pub(crate) fn start(filter: Option<&str>, default: &str) -> Result<(), Failure> {
    let variable = std::env::var("RUST_LOG").ok();
    let (source, directives) = match (filter, variable.as_deref()) {
        (Some(filter), _) => ("--log", filter),
        (None, Some(variable)) if !variable.is_empty() => ("RUST_LOG", variable),
        _ => ("the default filter", default),
    };
    let filter = EnvFilter::try_new(directives)
        .map_err(|error| Failure::usage(format!("{source} {directives:?}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(wants_colour(&std::io::stderr()))
        .init();
    Ok(())
}
