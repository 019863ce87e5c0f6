//! Three `kiva store` processes of one cluster, one of which is killed every few seconds.
//!
//! Asked for with `KIVA_COMPAT_KILL_SECONDS`: then every test runs against such a cluster instead
//! of a playground. One store at a time is ended as a power cut would, and started again on its
//! directory, where it was. Clients may notice a pause and nothing else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::playground::{await_ready, end, keep};

/// Stores of a cluster.
const STORES: usize = 3;

/// How often a store is started before its address counts as taken. Between its end and its new
/// beginning anybody may be given its port.
const ATTEMPTS: usize = 5;

/// Running stores, and the thread that kills them in turn. All end when it is dropped.
pub(crate) struct Stores {
    stop: Option<Sender<()>>,
    killer: Option<JoinHandle<()>>,
}

/// One store, and where it is.
struct Store {
    keeper: Child,
    address: String,
}

impl Stores {
    /// Starts them, and kills one whenever `interval` has passed.
    pub(crate) fn start(directory: &Path, scheduler: &str, interval: Duration) -> Result<Self> {
        let place = Place { directory: directory.to_owned(), scheduler: scheduler.to_owned() };
        let hosts =
            (0..STORES).map(|number| place.start(number, &format!("127.0.0.{}:0", 20 + number)));
        let mut stores = hosts.collect::<Result<Vec<_>>>()?;
        let (stop, stopped) = mpsc::channel();
        let killer = thread::spawn(move || {
            let mut turn = 0;
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let number = turn % STORES;
                turn += 1;
                let address = stores[number].address.clone();
                let _ = end(&mut stores[number].keeper);
                match place.start(number, &address) {
                    Ok(store) => stores[number] = store,
                    // The tests will say what they miss; this says why.
                    Err(error) => eprintln!("a store did not start again: {error:#}"),
                }
            }
            for store in &mut stores {
                let _ = end(&mut store.keeper);
            }
        });
        Ok(Self { stop: Some(stop), killer: Some(killer) })
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(killer) = self.killer.take() {
            let _ = killer.join();
        }
    }
}

/// What all stores of a cluster have in common.
struct Place {
    directory: PathBuf,
    scheduler: String,
}

impl Place {
    fn start(&self, number: usize, address: &str) -> Result<Store> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let status = format!("{host}:0");
        let data = self.directory.join(format!("store-{number}"));
        let mut outcome = None;
        for _ in 0..ATTEMPTS {
            let log = self.directory.join("stderr.log");
            let log = File::options().create(true).append(true).open(log)?;
            let mut command = keep("store")?;
            command.args(["--schedulers", &self.scheduler, "--addr", address]);
            command.args(["--status-addr", &status]).arg("--data-dir").arg(&data).stderr(log);
            let mut keeper = command.spawn().context("a store")?;
            match await_ready(&mut keeper) {
                Ok(ready) => {
                    let address = ready.first().context("it is somewhere")?.clone();
                    return Ok(Store { keeper, address });
                }
                Err(error) => {
                    let _ = end(&mut keeper);
                    outcome = Some(error);
                }
            }
        }
        Err(outcome.context("it was tried")?)
    }
}
