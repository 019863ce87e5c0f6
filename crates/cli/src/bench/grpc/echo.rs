//! A server that does nothing but answer, and a client of it: what one unary call costs on the
//! runtime that stores are served with, before anybody reads a key.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use clap::Args;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use kiva_proto::echopb::echo_client::EchoClient;
use kiva_proto::echopb::echo_server::{Echo as EchoService, EchoServer};
use kiva_proto::echopb::{GetRequest, GetResponse};
use kiva_server::runtime::{self, Doors, Serving};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status as GrpcStatus};

use super::read_failed;
use crate::exit::{Failure, Status};
use crate::serve::{self, Running};

/// Flags of `kiva echo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kiva echo --addr 127.0.0.1:23790
  kiva bench --target echo --endpoints 127.0.0.1:23790 --workload raw-get --clients 64")]
pub(crate) struct EchoArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:23790")]
    addr: String,
    /// Bytes of every answer's value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: usize,
    /// Threads that serve; left out, one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Answers every read with the same value.
struct Answer {
    value: Bytes,
}

#[tonic::async_trait]
impl EchoService for Answer {
    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, GrpcStatus> {
        let value = self.value.clone();
        Ok(Response::new(GetResponse { value }))
    }
}

/// Serves until a signal comes.
pub(crate) fn run(args: &EchoArgs) -> Result<Status, Failure> {
    let listener = serve::bind(&args.addr, "--addr")?;
    let value = Bytes::from(vec![b'e'; args.value_size]);
    let make = move || {
        let value = value.clone();
        Doors::new(Routes::new(EchoServer::new(Answer { value })), Router::new())
    };
    let threads = args.threads.unwrap_or_else(runtime::cores);
    serve::until_signal(move |shutdown| {
        Ok(Server(runtime::serve("echo", listener, threads, make, shutdown)?))
    })
}

/// The server, while it serves.
struct Server(Serving);

impl Running for Server {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.0.address()]
    }

    fn failed(&self) -> BoxFuture<'static, ()> {
        // It has no disk.
        pending().boxed()
    }

    fn join(self) -> Result<(), Failure> {
        self.0.join();
        Ok(())
    }
}

/// One connection to the server. Clones share it.
#[derive(Clone)]
pub(crate) struct Echo {
    client: EchoClient<Channel>,
}

/// `count` connections, dealt to the endpoints in turn.
pub(crate) async fn connect(
    endpoints: &[String],
    count: usize,
    timeout: Duration,
) -> Result<Vec<Echo>, Failure> {
    let channels = super::connect(endpoints, count, timeout).await?;
    let clients = channels.into_iter().map(|channel| Echo { client: EchoClient::new(channel) });
    Ok(clients.collect())
}

impl Echo {
    /// Whatever it answers.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Bytes, Failure> {
        match self.client.clone().get(GetRequest { key }).await {
            Ok(answer) => Ok(answer.into_inner().value),
            Err(status) => Err(read_failed(&status)),
        }
    }
}
