//! What all commands that serve have in common: one `ready` line, then silence on stdout until a
//! signal comes, then a clean end.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use futures_util::future::BoxFuture;
use kiva_server::config::{Config, ConfigError};
use kiva_server::placement::PlacementError;
use kiva_server::runtime::{self, Shutdown};
use kiva_server::scheduler::SchedulerError;
use kiva_server::store::StoreError;
use tracing::info;

use crate::exit::{Failure, Status};
use crate::runtime::block_on;
use crate::signals::Signals;

/// Something that serves.
pub(crate) trait Running: Send + 'static {
    /// What the `ready` line names.
    fn addresses(&self) -> Vec<SocketAddr>;
    /// Ready when clients find everything they may ask for.
    fn ready(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    /// Ready when it cannot go on: a disk has failed.
    fn failed(&self) -> BoxFuture<'static, ()>;
    /// Waits until it has stopped, which it was asked to.
    fn join(self) -> Result<(), Failure>;
}

/// Starts, says so, and finishes when a signal comes or a disk has failed. `start` gets what tells
/// its servers to stop.
///
/// A signal during the start ends it, too, as soon as the start can be cut short.
pub(crate) fn until_signal<R: Running>(
    start: impl FnOnce(Shutdown) -> Result<R, Failure> + Send + 'static,
) -> Result<Status, Failure> {
    let (trigger, shutdown) = runtime::shutdown();
    block_on(async {
        let mut signals = Signals::listen()?;
        let mut starting = std::pin::pin!(runtime::blocking(move || start(shutdown)));
        let started = tokio::select! {
            started = &mut starting => started?,
            () = signals.received() => {
                trigger.request();
                // What it says about having been stopped is no news.
                return match starting.await {
                    Ok(running) => runtime::blocking(move || running.join()).await,
                    Err(_) => Ok(()),
                };
            }
        };
        let serving = async {
            started.ready().await;
            match announce(&started.addresses()) {
                Ok(()) => std::future::pending().await,
                Err(failure) => failure,
            }
        };
        let mut failed = started.failed();
        let outcome = tokio::select! {
            () = signals.received() => Ok(()),
            failure = serving => Err(failure),
            // Half a server is worse than none: what is on the disk is safe, and whoever watches
            // this process starts it again.
            () = &mut failed => Err(Failure::refused("the disk has failed; see the log")
                .advise("what was acknowledged is on the disk: mend it and start again")),
        };
        info!("stopping: requests under way are finished first");
        trigger.request();
        let joined = runtime::blocking(move || started.join()).await;
        outcome.and(joined)
    })??;
    Ok(Status::Done)
}

/// The line that scripts wait for.
fn announce(addresses: &[SocketAddr]) -> Result<(), Failure> {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {}", addresses.join(","))?;
    out.flush()?;
    Ok(())
}

/// The settings of the file, or the default without one.
pub(crate) fn settings(file: Option<&Path>) -> Result<Config, Failure> {
    Ok(match file {
        Some(file) => Config::load(file)?,
        None => Config::default(),
    })
}

/// A socket on `address`, which `flag` can change.
pub(crate) fn bind(address: &str, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        Failure::refused(format!("cannot listen on {address}: {error}"))
            .advise(format!("choose another address with {flag}; port 0 takes any that is free"))
    })
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<SchedulerError> for Failure {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Config(error) => error.into(),
            error => Self::refused(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Config(error) => error.into(),
            StoreError::Placement(PlacementError::Unreachable { .. }) => {
                Self::new(Status::Unreachable, error)
            }
            error => Self::refused(error),
        }
    }
}
