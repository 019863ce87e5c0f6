//! How many timestamps does one stream get per second?
//!
//! A scheduler and one client in one process over loopback. The client keeps `in flight` requests
//! open at a time, each for `count` timestamps, and checks that they rise.
//!
//! ```text
//! cargo bench -p kiva-server --bench tso
//! ```
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement takes the time and prints it"
)]

use std::error::Error;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kiva_proto::pdpb::pd_client::PdClient;
use kiva_proto::pdpb::{GetMembersRequest, RequestHeader, TsoRequest};
use kiva_server::config::SchedulerConfig;
use kiva_server::{runtime, scheduler};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Long enough for a window or two to be saved meanwhile.
const RUN: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let config = SchedulerConfig {
        name: "one".to_owned(),
        data_dir: dir.path().to_owned(),
        ..SchedulerConfig::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (trigger, shutdown) = runtime::shutdown();
    let running = scheduler::run(&config, listener, shutdown)?;
    println!("{:>9} {:>6} {:>12} {:>14}", "in flight", "count", "requests/s", "timestamps/s");
    for (in_flight, count) in [(1, 1), (64, 1), (512, 1), (1, 64), (64, 64), (512, 64)] {
        let url = format!("http://{}", running.address());
        let asking = std::thread::spawn(move || -> Result<f64, String> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            runtime.block_on(ask(url, in_flight, count)).map_err(|error| error.to_string())
        });
        let rate = asking.join().map_err(|_| "the client panicked")??;
        println!("{in_flight:>9} {count:>6} {rate:>12.0} {:>14.0}", rate * f64::from(count));
    }
    trigger.request();
    running.join()?;
    Ok(())
}

/// Answered requests per second.
async fn ask(url: String, in_flight: usize, count: u32) -> Result<f64, Box<dyn Error>> {
    let mut pd = PdClient::connect(url).await?;
    let members = pd.get_members(GetMembersRequest::default()).await?.into_inner();
    let cluster_id = members.header.ok_or("an answer without a header")?.cluster_id;
    let request = TsoRequest {
        header: Some(RequestHeader { cluster_id, ..RequestHeader::default() }),
        count,
        ..TsoRequest::default()
    };
    let (sender, receiver) = mpsc::channel(in_flight);
    let mut answers = pd.tso(ReceiverStream::new(receiver)).await?.into_inner();
    for _ in 0..in_flight {
        sender.send(request.clone()).await?;
    }
    let began = Instant::now();
    let (mut answered, mut last) = (0_u64, (0, 0));
    while began.elapsed() < RUN {
        // What has come in one frame is answered by one: reading the clock for each would count.
        for _ in 0..in_flight {
            let answer = answers.message().await?.ok_or("the stream has ended")?;
            let timestamp = answer.timestamp.ok_or("an answer without a timestamp")?;
            let next = (timestamp.physical, timestamp.logical);
            if next <= last {
                return Err(format!("{next:?} after {last:?}").into());
            }
            last = next;
            answered += 1;
            sender.send(request.clone()).await?;
        }
    }
    Ok(answered as f64 / began.elapsed().as_secs_f64())
}
