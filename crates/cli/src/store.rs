//! `kiva store`: one store.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kiva_server::config::StoreConfig;
use kiva_server::store::{self, RunningStore};

use crate::exit::{Failure, Status};
use crate::serve::{self, Running};

/// Flags of `kiva store`.
#[derive(Debug, Args)]
#[command(after_help = "A flag wins over the file, the file over the default. Prints \
\"ready ADDR\" when it serves; Ctrl-C and SIGTERM stop it cleanly.

Examples:
  kiva store --data-dir data/store-0 --schedulers 127.0.0.1:2379
  kiva store --config store.toml --labels zone=a,rack=3")]
pub(crate) struct StoreArgs {
    /// Its directory, made when it is missing; required here or in the file
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Client addresses of schedulers; required here or in the file
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',')]
    schedulers: Option<Vec<String>>,
    /// Where it listens for clients and other stores [default: 127.0.0.1:20160]
    #[arg(long)]
    addr: Option<String>,
    /// What clients are told to dial [default: what is bound]
    #[arg(long, value_name = "ADDR")]
    advertise_addr: Option<String>,
    /// Where it answers /status and /health [default: 127.0.0.1:20180]
    #[arg(long, value_name = "ADDR")]
    status_addr: Option<String>,
    /// Where it stands, for placement
    #[arg(long, value_name = "k=v,…", value_delimiter = ',', value_parser = parse_label)]
    labels: Option<Vec<(String, String)>>,
    /// Settings in TOML, section [store]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn parse_label(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

impl StoreArgs {
    /// Lays the flags over the file.
    fn settings(self) -> Result<StoreConfig, Failure> {
        let file = serve::settings(self.config.as_deref())?.store;
        let labels = self.labels.map(|labels| labels.into_iter().collect());
        let config = StoreConfig {
            data_dir: self.data_dir.unwrap_or(file.data_dir),
            schedulers: self.schedulers.unwrap_or(file.schedulers),
            addr: self.addr.unwrap_or(file.addr),
            advertise_addr: self.advertise_addr.or(file.advertise_addr),
            status_addr: self.status_addr.unwrap_or(file.status_addr),
            labels: labels.unwrap_or(file.labels),
            ..file
        };
        config.validate()?;
        Ok(config)
    }
}

/// Serves until a signal comes.
pub(crate) fn run(args: StoreArgs) -> Result<Status, Failure> {
    let config = args.settings()?;
    let listener = serve::bind(&config.addr, "--addr")?;
    let status = serve::bind(&config.status_addr, "--status-addr")?;
    serve::until_signal(move |shutdown| Ok(store::run(&config, listener, status, shutdown)?))
}

impl Running for RunningStore {
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
