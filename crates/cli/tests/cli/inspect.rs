//! Replicas compared, and the directories of stores that are stopped.

use std::fs;
use std::path::{Path, PathBuf};

use kiva_engine::tree::{Options, TreeEngine};
use kiva_engine::{Cf, Engine, WriteBatch};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Ended, Server, kiva};

/// A directory for one test.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("the system has room for a directory")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name that we chose")
}

fn playground(path: &Path, stores: &str) -> Server {
    Server::playground(&["--stores", stores, "--data-dir", text(path)])
}

fn inspect(noun: &str, path: &Path, more: &[&str]) -> Ended {
    kiva(&[&["ctl", noun, "inspect", "--data-dir", text(path)], more].concat())
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn the_directory_of_a_stopped_store_is_shown_and_of_a_running_one_is_not() {
    let directory = directory();
    let store = directory.path().join("store-0");
    let server = playground(directory.path(), "1");
    server.ctl(&["raw", "put", "--hex", "6b00", "76"]).done();
    server.ctl(&["txn", "put", "alice", "90"]).done();
    let region = server.ctl(&["region", "find", "alice", "--mode", "txn", "--json"]).done();
    let region = objects(&region).remove(0)["id"].to_string();
    for noun in ["log", "data"] {
        let refused = inspect(noun, &store, &[]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("a store runs on it"), "{refused:?}");
        assert!(refused.stderr.contains("stop the store first"), "{refused:?}");
    }
    server.signal(Signal::TERM);

    let shown = inspect("log", &store, &[]).done();
    assert!(shown.contains(&format!("region {region} #")), "{shown}");
    assert!(shown.contains("was known to be durable to"), "{shown}");
    let summary = inspect("log", &store, &["--summary"]).done();
    assert!(shown.ends_with(&summary) && summary.len() < shown.len(), "{summary}");
    let lines = objects(&inspect("log", &store, &["--json", "--region", &region]).done());
    let of_kind = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let [found] = of_kind("region")[..] else { panic!("one region was asked for: {lines:?}") };
    assert_eq!(found["region"].to_string(), region);
    assert!(found["entries"].as_u64() >= Some(3), "prewrite and commit, at least: {found}");
    for record in of_kind("record") {
        for item in record["items"].as_array().expect("a list") {
            assert_eq!(item["region"].to_string(), region, "{record}");
        }
    }
    let [log] = of_kind("log")[..] else { panic!("one summary: {lines:?}") };
    assert_eq!((&log["bad_entries"], &log["unreadable"]), (&Value::from(0), &Value::from([0; 0])));

    let shown = inspect("data", &store, &["--keys", "5", "--cf", "default"]).done();
    assert!(shown.starts_with("store ") && shown.contains("API version 1"), "{shown}");
    assert!(shown.contains(r"default  k\x00  1"), "{shown}");
    assert!(!shown.contains("\nwrite"), "{shown}");
    let lines = objects(&inspect("data", &store, &["--json", "--region", &region]).done());
    let find = |kind: &str, name: &str, value: &str| {
        let line = lines.iter().find(|line| line["kind"] == kind && line[name] == value);
        line.unwrap_or_else(|| panic!("no {kind} {value} in {lines:?}")).clone()
    };
    assert_eq!(find("family", "family", "write")["keys"], 1);
    assert_eq!(find("family", "family", "lock")["keys"], 0);
    let regions: Vec<_> = lines.iter().filter(|line| line["kind"] == "region").collect();
    let [found] = regions[..] else { panic!("one region was asked for: {lines:?}") };
    assert_eq!(found["id"].to_string(), region);
    assert!(found["applied"]["index"].as_u64() > found["truncated"]["index"].as_u64(), "{found}");

    // Looking has changed nothing: the store goes on.
    let server = playground(directory.path(), "1");
    assert_eq!(server.ctl(&["txn", "get", "alice"]).done(), "90\n");
}

#[test]
fn what_is_no_store_is_not_made_into_one() {
    let directory = directory();
    for noun in ["log", "data"] {
        let refused = inspect(noun, directory.path(), &[]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("is not the directory of a store"), "{refused:?}");
        let missing = inspect(noun, &directory.path().join("nothing"), &[]);
        assert_eq!(missing.code, Some(2), "{missing:?}");
    }
    assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 0);
}

#[test]
fn damage_in_a_log_is_named_and_ends_with_one() {
    let directory = directory();
    let store = directory.path().join("store-0");
    let server = playground(directory.path(), "1");
    server.ctl(&["raw", "put", "k", "a-needle-in-the-log"]).done();
    server.ctl(&["raw", "put", "k", "something else"]).done();
    server.ctl(&["raw", "put", "k", "and more"]).done();
    server.signal(Signal::TERM);
    let entries = fs::read_dir(store.join("log")).expect("it is there");
    let mut changed = 0;
    for file in entries.map(|entry| entry.expect("readable").path()) {
        let mut bytes = fs::read(&file).expect("readable");
        let needle = bytes.windows(8).position(|window| window == b"a-needle");
        if let Some(place) = needle {
            bytes[place] ^= 1;
            fs::write(&file, bytes).expect("ours");
            changed += 1;
        }
    }
    assert_eq!(changed, 1);
    let damaged = inspect("log", &store, &[]);
    assert_eq!(damaged.code, Some(1), "{damaged:?}");
    assert!(damaged.stdout.contains("is DAMAGED"), "{damaged:?}");
    assert!(damaged.stderr.contains("damaged in 1 places"), "{damaged:?}");
}

#[test]
fn replicas_that_hold_something_else_are_found() {
    let directory = directory();
    let file = directory.path().join("kiva.toml");
    fs::write(&file, "[scheduler]\nreplicas = 3\n").expect("ours");
    let start = || {
        let args = ["--stores", "3", "--data-dir", text(directory.path()), "--config", text(&file)];
        Server::playground(&args)
    };
    let server = start();
    server.ctl(&["raw", "put", "k", "v"]).done();
    whole(&server);
    let same = server.ctl(&["region", "check", "--timeout", "60"]).done();
    assert_eq!(same.matches("same").count(), 2 * same.matches("leader").count(), "{same}");
    let missing = server.ctl(&["region", "check", "999999"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("no region has the id 999999"), "{missing:?}");
    server.signal(Signal::TERM);

    let stray: PathBuf = directory.path().join("store-1/data");
    let engine = TreeEngine::open(&stray, Options::default()).expect("the store has stopped");
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"kk", b"from nowhere");
    engine.write(&batch).expect("writes");
    engine.flush().expect("flushes");
    drop(engine);
    let stray = inspect("data", &directory.path().join("store-1"), &["--json"]).done();
    let stray = objects(&stray)[0]["store"].clone();

    let server = start();
    server.ctl(&["raw", "get", "k"]).done();
    let found = server.ctl(&["region", "check", "--json", "--timeout", "60"]);
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.stderr.contains("replicas differ"), "{found:?}");
    let compared = objects(&found.stdout);
    let different: Vec<_> =
        compared.iter().filter(|region| region["verdict"] == "different").collect();
    let [region] = different[..] else { panic!("one region differs: {found:?}") };
    // Who leads is compared with the others, so if that is the stray one, the others differ.
    let leads = region["leader"]["store"] == stray;
    let differing = region["differing_stores"].as_array().expect("a list");
    assert_eq!(differing.contains(&stray), !leads, "{region}");
    assert_eq!(differing.len(), if leads { 2 } else { 1 }, "{region}");
    let shown = server.ctl(&["region", "check", "--timeout", "60"]);
    assert!(shown.stdout.contains("DIFFERS in default"), "{shown:?}");
}

/// Waits until every region has three peers that are in touch.
fn whole(server: &Server) {
    loop {
        let regions = objects(&server.ctl(&["region", "list", "--json"]).done());
        let is_whole = regions.iter().all(|region| {
            let peers = region["peers"].as_array().expect("a list");
            peers.len() == 3 && peers.iter().all(|peer| peer["is_learner"] == false)
        });
        if is_whole {
            return;
        }
    }
}
