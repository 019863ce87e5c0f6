//! `kill -9` under write load: what was acknowledged is there after a restart.
//!
//! Each writer has keys of its own and writes them in turn, with numbers that only grow. So a key
//! must hold the last number acknowledged for it, or a later one whose answer was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use kiva_base::Timestamp;
use kiva_client::{Client, Options};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::process::{Server, Stopped};

/// Writers without and with transactions.
const WRITERS: u64 = 8;
/// Keys of a writer.
const KEYS: u64 = 40;
/// Acknowledged writes before the kill.
const WRITES: usize = 400;

/// How often the server is killed: few times in every run of the suite, many where
/// `KIVA_CRASH_ROUNDS` says so.
fn rounds() -> u64 {
    let rounds = std::env::var("KIVA_CRASH_ROUNDS").ok();
    rounds.map_or(3, |rounds| rounds.parse().expect("KIVA_CRASH_ROUNDS is a number"))
}

/// What one key may hold: the number acknowledged last, and one whose answer never came.
#[derive(Debug, Default, Clone, Copy)]
struct Promise {
    acknowledged: u64,
    doubtful: Option<u64>,
}

/// Promises by key.
type Promises = BTreeMap<String, Promise>;

/// Whether a writer uses transactions; half of them do.
fn is_txn(writer: u64) -> bool {
    writer % 2 == 1
}

fn key(writer: u64, number: u64) -> String {
    let kind = if is_txn(writer) { "txn" } else { "raw" };
    format!("{kind}-{writer}-{:03}", number % KEYS)
}

async fn connect(address: &str, timeout: Duration) -> Client {
    let options = Options { timeout, ..Options::default() };
    Client::connect([address], options).await.expect("the server is ready")
}

/// Writes until an answer does not come.
async fn write(
    client: Client,
    writer: u64,
    first: u64,
    told: mpsc::UnboundedSender<()>,
) -> Promises {
    let mut promises = Promises::new();
    for number in first.. {
        let (key, value) = (key(writer, number), number.to_string());
        let written = match is_txn(writer) {
            false => client.raw().put(key.clone(), value).await.map_err(|error| error.to_string()),
            true => transact(&client, &key, value).await,
        };
        let promise = promises.entry(key).or_default();
        match written {
            Ok(()) => promise.acknowledged = number,
            Err(_) => {
                promise.doubtful = Some(number);
                break;
            }
        }
        // Nobody counts any more once the server is dead.
        let _ = told.send(());
    }
    promises
}

async fn transact(client: &Client, key: &str, value: String) -> Result<(), String> {
    let mut transaction = client.begin().await.map_err(|error| error.to_string())?;
    transaction.put(key.to_owned(), value);
    transaction.commit().await.map(|_| ()).map_err(|error| error.to_string())
}

/// Writes with all writers until enough is acknowledged, kills `victim`, and tells what was
/// promised.
async fn write_and_kill(scheduler: &str, victim: Server, first: u64) -> Promises {
    write_until(scheduler, first, || victim.kill()).await
}

/// Writes with all writers until enough is acknowledged and `end` has ended whoever serves, and
/// tells what was promised.
async fn write_until(scheduler: &str, first: u64, end: impl FnOnce()) -> Promises {
    // Short, because most of it is waited for after the kill.
    let client = connect(scheduler, Duration::from_secs(2)).await;
    let (told, mut hears) = mpsc::unbounded_channel();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(client.clone(), writer, first, told.clone()));
    }
    for _ in 0..WRITES {
        hears.recv().await.expect("writers hold the other end");
    }
    end();
    writers.join_all().await.into_iter().flatten().collect()
}

/// Reads everything that was ever promised. What a key holds afterwards is settled: nobody who
/// could change it is left from before the crash.
async fn verify(scheduler: &str, promises: &mut Promises, round: u64) {
    // Locks of writers that died are waited for until their time is over.
    let client = connect(scheduler, Duration::from_secs(60)).await;
    let now: Timestamp = client.timestamp().await.expect("the scheduler is ready");
    let snapshot = client.snapshot(now);
    for (key, promise) in promises {
        let found = match key.starts_with("txn") {
            true => snapshot.get(key.clone()).await.expect("the store is ready"),
            false => client.raw().get(key.clone()).await.expect("the store is ready"),
        };
        let found = found.map_or(0, |value| {
            let text = std::str::from_utf8(&value).expect("writers write text");
            text.parse().expect("writers write numbers")
        });
        assert!(
            found == promise.acknowledged || Some(found) == promise.doubtful,
            "round {round}: {key} holds {found}, and was promised {promise:?}"
        );
        *promise = Promise { acknowledged: found, doubtful: None };
    }
}

/// Later promises replace earlier ones; a key that only a doubtful write touched keeps what was
/// acknowledged before.
fn renew(promises: &mut Promises, later: Promises) {
    for (key, promise) in later {
        let known = promises.entry(key).or_default();
        if promise.acknowledged > 0 {
            known.acknowledged = promise.acknowledged;
        }
        known.doubtful = promise.doubtful;
    }
}

#[tokio::test]
async fn a_killed_store_keeps_every_acknowledged_write() {
    let directory = tempfile::tempdir().expect("the system has room for a directory");
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let addresses = ["--addr", "127.0.0.1:0"];
    let args = ["scheduler", "--name", "one", "--data-dir", &path("scheduler")];
    let scheduler = Server::start(&[&args[..], &addresses].concat());
    let (store_path, mut promises) = (path("store"), Promises::new());
    let start = || {
        let args = ["store", "--data-dir", &store_path, "--schedulers", &scheduler.address];
        let statuses = ["--status-addr", "127.0.0.1:0"];
        Server::start(&[&args[..], &addresses, &statuses].concat())
    };
    for round in 1..=rounds() {
        let store = start();
        verify(&scheduler.address, &mut promises, round).await;
        let later = write_and_kill(&scheduler.address, store, round * 1_000_000).await;
        assert!(!later.is_empty());
        renew(&mut promises, later);
    }
    let _store = start();
    verify(&scheduler.address, &mut promises, 0).await;
}

#[tokio::test]
async fn a_killed_playground_of_one_store_keeps_every_acknowledged_write() {
    kill_playground("1").await;
}

/// All replicas die at once, in the first round while they are still being made. What was
/// acknowledged is on the disks of a majority.
#[tokio::test]
async fn a_killed_playground_of_three_stores_keeps_every_acknowledged_write() {
    kill_playground("3").await;
}

async fn kill_playground(stores: &str) {
    let directory = tempfile::tempdir().expect("the system has room for a directory");
    let path = directory.path().to_str().expect("our paths are text").to_owned();
    let start = || Server::playground(&["--stores", stores, "--data-dir", &path]);
    let (mut promises, mut newest) = (Promises::new(), Timestamp::ZERO);
    for round in 1..=rounds() {
        let server = start();
        verify(&server.address, &mut promises, round).await;
        // The oracle does not go back either.
        let client = connect(&server.address, Duration::from_secs(10)).await;
        let now = client.timestamp().await.expect("the scheduler is ready");
        assert!(now > newest, "{now:?} after {newest:?}");
        newest = now;
        let address = server.address.clone();
        renew(&mut promises, write_and_kill(&address, server, round * 1_000_000).await);
    }
    let server = start();
    verify(&server.address, &mut promises, 0).await;
}

/// Covers 2B-shutdown: everybody is answered, and what was acknowledged stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_stores_that_are_stopped_under_load_answer_and_end_with_zero() {
    let directory = tempfile::tempdir().expect("the system has room for a directory");
    let path = directory.path().to_str().expect("our paths are text").to_owned();
    let start = || Server::playground(&["--data-dir", &path]);
    let (server, mut promises) = (start(), Promises::new());
    let address = server.address.clone();
    let stop = || {
        let Stopped { status, stderr, .. } = server.signal(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(!stderr.contains("ERROR"), "{stderr}");
    };
    renew(&mut promises, write_until(&address, 1_000_000, stop).await);
    let server = start();
    verify(&server.address, &mut promises, 0).await;
}
