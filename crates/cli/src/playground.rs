//! `kiva playground`: a whole cluster in one process, with real ports on loopback.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_all};
use kiva_server::config::{Config, SchedulerConfig, StoreConfig};
use kiva_server::runtime::{self, ShutdownTrigger};
use kiva_server::scheduler::{self, RunningScheduler};
use kiva_server::store::{self, RunningStore};
use tempfile::TempDir;

use crate::connection::ApiVersion;
use crate::exit::{Failure, Status};
use crate::serve::{self, Running};

/// Stores at most: more is a mistake, as each has threads of its own.
const STORES_MAX: u16 = 64;

/// Flags of `kiva playground`.
#[derive(Debug, Args)]
#[command(after_help = "Store i listens on store-port + i and status-port + i, counted from 0; \
port 0 takes any that is free. Data goes to DIR/scheduler-0 and DIR/store-i. Prints \
\"ready ADDR\", the scheduler's client address, when it serves; Ctrl-C and SIGTERM stop it cleanly.

Examples:
  kiva playground
  kiva playground --stores 1 --data-dir data
  kiva playground --port 0 --store-port 0 --status-port 0")]
pub(crate) struct PlaygroundArgs {
    /// How many stores
    #[arg(long, value_name = "N", default_value_t = 3)]
    stores: u16,
    /// How many schedulers; one for now
    #[arg(long, value_name = "N", default_value_t = 1)]
    schedulers: u16,
    /// Address that everything listens on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Client port of the first scheduler
    #[arg(long, default_value_t = 2379)]
    port: u16,
    /// Port of the first store
    #[arg(long, value_name = "PORT", default_value_t = 20160)]
    store_port: u16,
    /// Status port of the first store
    #[arg(long, value_name = "PORT", default_value_t = 20180)]
    status_port: u16,
    /// Where data is kept; left out, in a directory that is removed at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Which requests the cluster takes, chosen when it is born [default: 1]
    #[arg(long, value_enum, value_name = "VERSION")]
    api_version: Option<ApiVersion>,
    /// Settings in TOML, sections [scheduler] and [store]; addresses and directories are left out
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Ports in a row that belong to one flag.
struct Ports {
    flag: &'static str,
    first: u16,
    count: u16,
}

impl Ports {
    /// The ports; none are known of those that the system chooses.
    fn known(&self) -> std::ops::Range<u32> {
        match self.first {
            0 => 0..0,
            first => u32::from(first)..u32::from(first) + u32::from(self.count),
        }
    }

    /// One bound socket for each.
    fn bind(&self, host: IpAddr) -> Result<Vec<TcpListener>, Failure> {
        let port = |position| match self.first {
            0 => 0,
            first => first + position,
        };
        let bind = |position| {
            let address = SocketAddr::new(host, port(position));
            serve::bind(&address.to_string(), self.flag)
        };
        (0..self.count).map(bind).collect()
    }
}

impl PlaygroundArgs {
    /// Refuses what makes no sense, before anything is bound.
    fn check(&self) -> Result<[Ports; 3], Failure> {
        if self.schedulers != 1 {
            return Err(Failure::usage(
                "a scheduler has one member in this version, several come later",
            )
            .advise("leave --schedulers out"));
        }
        if !(1..=STORES_MAX).contains(&self.stores) {
            return Err(Failure::usage(format!(
                "--stores must be at least 1, at most {STORES_MAX}"
            )));
        }
        if self.host.is_unspecified() {
            return Err(Failure::usage(format!("nobody can dial {}", self.host))
                .advise("give --host the address that others should dial"));
        }
        let ports = |flag, first, count| Ports { flag, first, count };
        let all = [
            ports("--port", self.port, 1),
            ports("--store-port", self.store_port, self.stores),
            ports("--status-port", self.status_port, self.stores),
        ];
        if let Some(ports) = all.iter().find(|ports| ports.known().end > 1 << 16) {
            let (flag, last) = (ports.flag, ports.known().end - 1);
            return Err(Failure::usage(format!("{flag}: there is no port {last}")));
        }
        for (position, one) in all.iter().enumerate() {
            for other in &all[position + 1..] {
                let first = one.known().start.max(other.known().start);
                if first < one.known().end.min(other.known().end) {
                    let (one, other) = (one.flag, other.flag);
                    return Err(Failure::usage(format!(
                        "port {first} is wanted twice: by {one} and by {other}"
                    )));
                }
            }
        }
        Ok(all)
    }
}

/// Serves until a signal comes.
pub(crate) fn run(args: PlaygroundArgs) -> Result<Status, Failure> {
    let [port, store_ports, status_ports] = args.check()?;
    let config = serve::settings(args.config.as_deref())?;
    check_file(&config)?;
    let sockets = Sockets {
        scheduler: port.bind(args.host)?,
        stores: store_ports.bind(args.host)?,
        statuses: status_ports.bind(args.host)?,
    };
    serve::until_signal(move |_| Playground::start(args, config, sockets))
}

/// What a playground chooses itself must not be in the file, where it would be ignored.
fn check_file(config: &Config) -> Result<(), Failure> {
    let (scheduler, store) = (SchedulerConfig::default(), StoreConfig::default());
    let (given, stores) = (&config.scheduler, &config.store);
    let fields = [
        ("scheduler.name", given.name != scheduler.name),
        ("scheduler.data-dir", given.data_dir != scheduler.data_dir),
        ("scheduler.addr", given.addr != scheduler.addr),
        ("scheduler.peer-addr", given.peer_addr != scheduler.peer_addr),
        ("scheduler.advertise-addr", given.advertise_addr.is_some()),
        ("scheduler.advertise-peer-addr", given.advertise_peer_addr.is_some()),
        ("scheduler.initial-cluster", given.initial_cluster.is_some()),
        ("scheduler.join", given.join.is_some()),
        ("store.data-dir", stores.data_dir != store.data_dir),
        ("store.schedulers", stores.schedulers != store.schedulers),
        ("store.addr", stores.addr != store.addr),
        ("store.advertise-addr", stores.advertise_addr.is_some()),
        ("store.status-addr", stores.status_addr != store.status_addr),
    ];
    match fields.iter().find(|(_, is_given)| *is_given) {
        Some((field, _)) => Err(Failure::usage(format!(
            "`{field}` is chosen by the playground; leave it out of the file"
        ))),
        None => Ok(()),
    }
}

/// Everything bound, nothing started.
struct Sockets {
    scheduler: Vec<TcpListener>,
    stores: Vec<TcpListener>,
    statuses: Vec<TcpListener>,
}

/// A cluster that serves. Stores stop before the scheduler, which hears their last reports.
struct Playground {
    stores: Vec<RunningStore>,
    stores_trigger: ShutdownTrigger,
    scheduler: RunningScheduler,
    scheduler_trigger: ShutdownTrigger,
    /// Removed when everything has stopped; `None` when the data stays.
    directory: Option<TempDir>,
}

impl Playground {
    fn start(args: PlaygroundArgs, config: Config, sockets: Sockets) -> Result<Self, Failure> {
        let (directory, path) = match args.data_dir {
            Some(path) => (None, path),
            None => {
                let directory = tempfile::Builder::new().prefix("kiva-").tempdir()?;
                let path = directory.path().to_owned();
                (Some(directory), path)
            }
        };
        let listener = sockets.scheduler.into_iter().next();
        let listener = listener.ok_or_else(|| Failure::usage("a cluster needs a scheduler"))?;
        let address = listener.local_addr()?.to_string();
        let scheduler_config = SchedulerConfig {
            name: "scheduler-0".to_owned(),
            data_dir: path.join("scheduler-0"),
            addr: address.clone(),
            api_version: args
                .api_version
                .map(ApiVersion::to_setting)
                .or(config.scheduler.api_version.clone()),
            ..config.scheduler
        };
        let (scheduler_trigger, shutdown) = runtime::shutdown();
        let scheduler = scheduler::run(&scheduler_config, listener, shutdown)?;
        let (stores_trigger, shutdown) = runtime::shutdown();
        let mut playground =
            Self { stores: Vec::new(), stores_trigger, scheduler, scheduler_trigger, directory };
        let sockets = sockets.stores.into_iter().zip(sockets.statuses);
        for (position, (listener, status)) in sockets.enumerate() {
            let config = store_config(&config.store, position, &path, &address, &listener)?;
            match store::run(&config, listener, status, shutdown.clone()) {
                Ok(store) => playground.stores.push(store),
                Err(error) => {
                    // What has started is stopped, so that its directory can be removed.
                    let _ = playground.join();
                    return Err(error.into());
                }
            }
        }
        Ok(playground)
    }
}

fn store_config(
    template: &StoreConfig,
    position: usize,
    path: &Path,
    scheduler: &str,
    listener: &TcpListener,
) -> Result<StoreConfig, Failure> {
    Ok(StoreConfig {
        data_dir: path.join(format!("store-{position}")),
        schedulers: vec![scheduler.to_owned()],
        addr: listener.local_addr()?.to_string(),
        ..template.clone()
    })
}

impl Running for Playground {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.scheduler.address()]
    }

    /// A cluster that was stopped has to elect its leaders anew.
    fn ready(&self) -> BoxFuture<'static, ()> {
        self.scheduler.led().boxed()
    }

    /// One store, or the scheduler: a cluster for trying things out should not limp.
    fn failed(&self) -> BoxFuture<'static, ()> {
        let stores = self.stores.iter().map(|store| store.failed().boxed());
        let all = stores.chain([self.scheduler.failed().boxed()]);
        select_all(all).map(|_| ()).boxed()
    }

    fn join(self) -> Result<(), Failure> {
        self.stores_trigger.request();
        let mut outcome = Ok(());
        for store in self.stores {
            outcome = outcome.and(store.join().map_err(Failure::from));
        }
        self.scheduler_trigger.request();
        outcome = outcome.and(self.scheduler.join().map_err(Failure::from));
        if let Some(directory) = self.directory {
            directory.close()?;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        playground: PlaygroundArgs,
    }

    fn check(flags: &str) -> Result<(), Failure> {
        let flags = Flags::try_parse_from(["playground"].into_iter().chain(flags.split(' ')));
        flags.expect("the flags are known").playground.check().map(|_| ())
    }

    #[test]
    fn a_port_that_two_would_take_is_named() {
        assert_eq!(check("--stores 3"), Ok(()));
        let twice = check("--stores 20 --store-port 30000 --status-port 30019");
        let failure = twice.expect_err("the ranges meet in one port");
        assert_eq!(failure.status, Status::Usage);
        assert!(failure.message.contains("port 30019"), "{}", failure.message);
        assert_eq!(check("--stores 19 --store-port 30000 --status-port 30019"), Ok(()));
        assert!(check("--port 20161").is_err_and(|failure| failure.message.contains("20161")));
        assert_eq!(check("--port 0 --store-port 0 --status-port 0"), Ok(()));
        assert!(
            check("--store-port 65534").is_err_and(|failure| failure.message.contains("65536"))
        );
    }

    #[test]
    fn what_is_not_possible_is_said_in_a_sentence() {
        for flags in ["--schedulers 3", "--stores 0", "--stores 65", "--host 0.0.0.0"] {
            let failure = check(flags).expect_err(flags);
            assert_eq!(failure.status, Status::Usage, "{flags}");
        }
    }

    #[test]
    fn a_setting_that_would_be_ignored_is_refused() {
        let mut config = Config::default();
        assert_eq!(check_file(&config), Ok(()));
        config.store.cache_bytes += 1;
        assert_eq!(check_file(&config), Ok(()));
        config.store.addr = "127.0.0.1:1".to_owned();
        assert!(check_file(&config).is_err_and(|failure| failure.message.contains("store.addr")));
    }
}
