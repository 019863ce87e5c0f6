//! Production: tokio's tasks, the system's clock, sockets.

#![expect(
    clippy::disallowed_methods,
    reason = "the one place of the client that starts tasks and reads clocks"
)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, Moment};
use tokio::runtime::Handle;

use crate::core::Ports;
use crate::error::ConnectError;
use crate::grpc::endpoint;
use crate::grpc::scheduler::SchedulerPd;
use crate::grpc::stores::Stores;
use crate::options::Options;
use crate::rpc::Spawn;

/// The ports of production, for a cluster whose schedulers are at these addresses.
pub(crate) fn ports(addresses: Vec<String>, options: &Options) -> Result<Ports, ConnectError> {
    if addresses.is_empty() {
        return Err(ConnectError::NoAddress);
    }
    for address in &addresses {
        endpoint(address)?;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock { started: Instant::now() });
    let spawn: Arc<dyn Spawn> = Arc::new(Tasks { runtime: Handle::current() });
    let stores = Stores::new(options.wire, options.connections, clock.clone(), spawn.clone());
    Ok(Ports {
        stores: Arc::new(stores),
        scheduler: Arc::new(SchedulerPd::new(addresses)),
        clock,
        spawn,
    })
}

/// Tasks of the runtime in which the client was made.
struct Tasks {
    runtime: Handle,
}

impl Spawn for Tasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }
}

/// The system's clocks. On Linux the first does not count suspended time, which a client may
/// overlook: it judges no lease by it.
struct SystemClock {
    started: Instant,
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.unwrap_or_default().as_millis() as u64
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
