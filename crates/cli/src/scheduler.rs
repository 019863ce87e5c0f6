//! `kiva scheduler`: one scheduler member.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kiva_server::config::SchedulerConfig;
use kiva_server::scheduler::{self, RunningScheduler};

use crate::connection::ApiVersion;
use crate::exit::{Failure, Status};
use crate::serve::{self, Running};

/// Flags of `kiva scheduler`.
#[derive(Debug, Args)]
#[command(after_help = "A flag wins over the file, the file over the default. Prints \
\"ready ADDR\" when it serves; Ctrl-C and SIGTERM stop it cleanly.

Examples:
  kiva scheduler --name one --data-dir data/scheduler
  kiva scheduler --config scheduler.toml --addr 0.0.0.0:2379 --advertise-addr db1:2379")]
pub(crate) struct SchedulerArgs {
    /// Name of this member, unique in the cluster; required here or in the file
    #[arg(long)]
    name: Option<String>,
    /// Its directory, made when it is missing; required here or in the file
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where it listens for clients and stores [default: 127.0.0.1:2379]
    #[arg(long)]
    addr: Option<String>,
    /// Where it listens for other members [default: 127.0.0.1:2380]
    #[arg(long, value_name = "ADDR")]
    peer_addr: Option<String>,
    /// What clients and stores are told to dial [default: what is bound]
    #[arg(long, value_name = "ADDR")]
    advertise_addr: Option<String>,
    /// What other members are told to dial [default: --peer-addr]
    #[arg(long, value_name = "ADDR")]
    advertise_peer_addr: Option<String>,
    /// Which requests the cluster takes, chosen when it is born [default: 1]
    #[arg(long, value_enum, value_name = "VERSION")]
    api_version: Option<ApiVersion>,
    /// The members when the cluster is born; one for now [default: this one alone]
    #[arg(long, value_name = "NAME=PEERADDR,…")]
    initial_cluster: Option<String>,
    /// Members of a cluster to join; not possible yet
    #[arg(long, value_name = "ADDR,…")]
    join: Option<String>,
    /// Settings in TOML, section [scheduler]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SchedulerArgs {
    /// Lays the flags over the file.
    fn settings(self) -> Result<SchedulerConfig, Failure> {
        let file = serve::settings(self.config.as_deref())?.scheduler;
        let config = SchedulerConfig {
            name: self.name.unwrap_or(file.name),
            data_dir: self.data_dir.unwrap_or(file.data_dir),
            addr: self.addr.unwrap_or(file.addr),
            peer_addr: self.peer_addr.unwrap_or(file.peer_addr),
            advertise_addr: self.advertise_addr.or(file.advertise_addr),
            advertise_peer_addr: self.advertise_peer_addr.or(file.advertise_peer_addr),
            api_version: self.api_version.map(ApiVersion::to_setting).or(file.api_version),
            initial_cluster: self.initial_cluster.or(file.initial_cluster),
            join: self.join.or(file.join),
            replicas: file.replicas,
            tick_ms: file.tick_ms,
            store_down_ms: file.store_down_ms,
        };
        config.validate()?;
        Ok(config)
    }
}

/// Serves until a signal comes.
pub(crate) fn run(args: SchedulerArgs) -> Result<Status, Failure> {
    let config = args.settings()?;
    let listener = serve::bind(&config.addr, "--addr")?;
    serve::until_signal(move |shutdown| Ok(scheduler::run(&config, listener, shutdown)?))
}

impl Running for RunningScheduler {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address()]
    }

    fn failed(&self) -> BoxFuture<'static, ()> {
        Self::failed(self).boxed()
    }

    fn join(self) -> Result<(), Failure> {
        Ok(Self::join(self)?)
    }
}
