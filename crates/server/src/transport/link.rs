//! The link to one store: one connection with one stream of frames, opened again when it breaks.

use std::error::Error;
use std::future::poll_fn;
use std::sync::Arc;

use kiva_base::StoreId;
use kiva_proto::kivapb::peers_client::PeersClient;
use kiva_raftstore::transport::Feedback;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::Shared;
use super::addresses::AddressError;
use super::backoff::Backoff;
use super::queue::Queue;
use crate::limits::{LINK_PING_INTERVAL, LINK_TIMEOUT};

/// What waits for a store, and the bell of whoever carries it there.
pub(super) struct Link {
    store: StoreId,
    pub(super) queue: Arc<Queue>,
    nudged: Notify,
}

/// Why a store cannot be reached, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// Nobody knows where it is.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No connection.
    #[error("{address}: {}", chain(.source))]
    Connect {
        /// Where it should be.
        address: String,
        /// What the system said.
        source: tonic::transport::Error,
    },
    /// It does not want us, or the connection broke.
    #[error("{} ({})", .0.message(), .0.code())]
    Status(#[from] Status),
    /// It is there and does nothing.
    #[error("no answer in time")]
    Silent,
    /// It ended the stream.
    #[error("the stream was ended")]
    Ended,
}

impl Link {
    pub(super) fn new(store: StoreId) -> Self {
        Self { store, queue: Arc::default(), nudged: Notify::new() }
    }

    /// Says that the store can be reached: a pause ends.
    pub(super) fn nudge(&self) {
        self.nudged.notify_one();
    }
}

/// Carries what waits to the store, for as long as the thread runs.
pub(super) async fn drive(link: Arc<Link>, shared: Arc<Shared>) {
    let seed = shared.options.seed ^ link.store.get();
    let (mut place, mut backoff) = (Place::default(), Backoff::new(seed));
    let mut is_away = false;
    loop {
        poll_fn(|context| link.queue.poll_filled(context)).await;
        let mut was_accepted = false;
        let ended = converse(&link, &shared, &mut place, &mut was_accepted).await;
        let error = ended.err().unwrap_or(LinkError::Ended);
        // What is on its way may be lost as well, so the report does not depend on what waits.
        link.queue.clear();
        shared.inbox.report(&Feedback::Unreachable(link.store));
        if was_accepted {
            backoff.reset();
        }
        if was_accepted || !is_away {
            tracing::warn!(store = link.store.get(), %error, "a store cannot be reached");
        }
        is_away = true;
        tokio::select! {
            () = link.nudged.notified() => {}
            () = sleep(backoff.next()) => {}
        }
    }
}

/// Where a store is, as far as we know.
#[derive(Default)]
struct Place {
    address: Option<String>,
    /// Whether it was reached there when it was tried last.
    is_proven: bool,
}

impl Place {
    /// The address where it was reached last, and otherwise what is known now. When nobody answers,
    /// an old address is better than none.
    async fn find(&mut self, shared: &Shared, store: StoreId) -> Result<String, AddressError> {
        if self.is_proven
            && let Some(address) = &self.address
        {
            return Ok(address.clone());
        }
        let found = match (shared.addresses.find(store).await, &self.address) {
            (Ok(found), _) => found,
            (Err(_), Some(old)) => old.clone(),
            (Err(error), None) => return Err(error),
        };
        self.address = Some(found.clone());
        Ok(found)
    }
}

/// One connection, from finding the store to the end of the stream.
async fn converse(
    link: &Link,
    shared: &Shared,
    place: &mut Place,
    was_accepted: &mut bool,
) -> Result<(), LinkError> {
    let address = place.find(shared, link.store).await?;
    place.is_proven = false;
    let mut client = PeersClient::new(connect(&address).await?);
    let frames = link.queue.open(shared.greeting(link.store));
    let call = timeout(LINK_TIMEOUT, client.frames(frames));
    let mut answers = call.await.map_err(|_| LinkError::Silent)??.into_inner();
    tracing::info!(store = link.store.get(), address, "a store is reached");
    *was_accepted = true;
    place.is_proven = true;
    while answers.message().await?.is_some() {}
    Ok(())
}

/// A connection of its own to a store.
pub(super) async fn connect(address: &str) -> Result<Channel, LinkError> {
    let failed = |source| LinkError::Connect { address: address.to_owned(), source };
    let url = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    let endpoint = Endpoint::from_shared(url)
        .map_err(failed)?
        .connect_timeout(LINK_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(LINK_PING_INTERVAL)
        .keep_alive_timeout(LINK_PING_INTERVAL)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(failed)
}

/// All causes in one line: the first one alone says "transport error".
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
