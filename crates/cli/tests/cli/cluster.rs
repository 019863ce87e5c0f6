//! Schedulers and stores as processes of their own: how they find each other, and what they refuse.

use std::thread;

use kiva_client::{Client, Options, RawError};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, Server, kiva};

/// Looks at something that is waited for; each starts a process, so this is minutes.
const LOOKS_MAX: usize = 3_000;

/// A directory for all processes of one test.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("the system has room for a directory"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("our paths are text").to_owned()
    }

    fn scheduler(&self, name: &str) -> Server {
        let address = ["--addr", "127.0.0.1:0"];
        let named = ["scheduler", "--name", name, "--data-dir", &self.path(name)];
        Server::start(&[&named[..], &address].concat())
    }

    fn store_args(&self, name: &str, scheduler: &Server) -> Vec<String> {
        let free = ["--addr", "127.0.0.1:0", "--status-addr", "127.0.0.1:0"];
        let named = ["store", "--data-dir", &self.path(name), "--schedulers", &scheduler.address];
        named.iter().chain(&free).map(|&arg| arg.to_owned()).collect()
    }

    fn store(&self, name: &str, scheduler: &Server) -> Server {
        let args = self.store_args(name, scheduler);
        Server::start(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What a store says that does not start.
    fn refused(&self, name: &str, scheduler: &Server) -> Ended {
        let args = self.store_args(name, scheduler);
        kiva(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn regions(scheduler: &Server) -> Vec<Value> {
    objects(&scheduler.ctl(&["region", "list", "--json"]).done())
}

/// Waits until each region has so many peers, and returns the regions.
fn replicated(scheduler: &Server, peers: usize) -> Vec<Value> {
    for _ in 0..LOOKS_MAX {
        let regions = regions(scheduler);
        let count = |region: &Value| region["peers"].as_array().map_or(0, Vec::len);
        if regions.iter().all(|region| count(region) == peers) {
            return regions;
        }
    }
    panic!("regions have no {peers} peers: {:?}", regions(scheduler));
}

/// Covers 2B-cluster-id.
#[test]
fn a_store_does_not_start_on_the_directory_of_another_cluster() {
    let place = Place::new();
    let (one, other) = (place.scheduler("one"), place.scheduler("other"));
    drop(place.store("store", &one));
    let ended = place.refused("store", &other);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("belongs to cluster"), "{ended:?}");
    assert_eq!(ended.stdout, "");
    // It was not touched: where it belongs it goes on.
    drop(place.store("store", &one));
}

/// Covers 2B-double-bootstrap.
#[test]
fn of_stores_that_start_together_one_has_the_first_region_and_the_others_join() {
    let place = Place::new();
    let scheduler = place.scheduler("one");
    let names = ["a", "b", "c"];
    let stores: Vec<Server> = thread::scope(|scope| {
        let start = |name| {
            let (place, scheduler) = (&place, &scheduler);
            scope.spawn(move || place.store(name, scheduler))
        };
        let starting: Vec<_> = names.into_iter().map(start).collect();
        starting.into_iter().map(|store| store.join().expect("it starts")).collect()
    });
    let regions = replicated(&scheduler, stores.len());
    let mut ends: Vec<_> =
        regions.iter().map(|region| (&region["start"], &region["end"])).collect();
    // Whoever was second left no region: each key is in one of them.
    let last = ends.pop().expect("there are regions");
    assert_eq!(last.1, "", "{regions:?}");
    for (position, (_, end)) in ends.iter().enumerate() {
        assert_eq!(*end, &regions[position + 1]["start"], "{regions:?}");
    }
    scheduler.ctl(&["raw", "put", "k", "v"]).done();
    assert_eq!(scheduler.ctl(&["raw", "get", "k"]).done(), "v\n");
}

/// Covers 2B-wire: values that replicas are sent in one piece, and one that is too large for that.
#[tokio::test]
async fn a_value_that_is_too_large_is_refused_and_the_connection_stays() {
    let server = Server::playground(&[]);
    replicated(&server, 3);
    let client = Client::connect([&server.address], Options::default()).await.expect("ready");
    let raw = client.raw();
    let large = vec![7; 6 * 1024 * 1024];
    raw.put("large", large.clone()).await.expect("as large as an entry may be");
    let refused = raw.put("larger", vec![7; 12 * 1024 * 1024]).await;
    let is_named = matches!(&refused, Err(RawError::Refused(why)) if why.contains("limit"));
    assert!(is_named, "{refused:?}");
    assert_eq!(raw.get("large").await.expect("it is there").as_deref(), Some(&large[..]));
    assert_eq!(raw.get("larger").await.expect("nothing is broken"), None);
}

/// Covers 3B-add-to-down-store: the region keeps its majority, and the peer starts with its store.
#[test]
fn a_peer_on_a_store_that_is_down_starts_when_the_store_does() {
    let place = Place::new();
    let scheduler = place.scheduler("one");
    let _stores = ["a", "b", "c"].map(|name| place.store(name, &scheduler));
    let region = replicated(&scheduler, 3)[0]["id"].to_string();
    drop(place.store("d", &scheduler));
    let stores = objects(&scheduler.ctl(&["store", "list", "--json"]).done());
    let last = stores.iter().filter_map(|store| store["id"].as_u64()).max();
    let last = last.expect("there are stores").to_string();

    scheduler.ctl(&["region", "add-peer", &region, &last]).done();
    scheduler.ctl(&["raw", "put", "k", "v"]).done();
    assert_eq!(scheduler.ctl(&["raw", "get", "k"]).done(), "v\n");
    let running = scheduler.ctl(&["operator", "list"]).done();
    assert!(running.contains("add-peer"), "{running}");

    let _fourth = place.store("d", &scheduler);
    for _ in 0..LOOKS_MAX {
        let ended = scheduler.ctl(&["operator", "list", "--ended"]).done();
        if ended.contains("add-peer  success") {
            return;
        }
    }
    panic!("{}", scheduler.ctl(&["operator", "list", "--ended"]).done());
}
