//! Ready lines, ports, signals and settings.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use crate::process::{Server, Stopped, kiva};

/// A directory for one test.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("the system has room for a directory")
}

#[test]
fn a_playground_serves_until_a_signal_ends_with_zero_and_leaves_nothing() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::playground(&[]);
        let stores = server.ctl(&["store", "list", "--json"]).done();
        assert_eq!(stores.lines().count(), 3, "{stores}");
        server.ctl(&["raw", "put", "k", "v"]).done();
        let directory = server.temporary().pop().expect("it keeps its data somewhere");
        assert!(directory.join("store-2").is_dir());
        let Stopped { status, stdout, stderr, left } = server.signal(signal);
        assert!(left.is_empty(), "what is temporary is removed at the end: {left:?}");
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert_eq!(stdout, "", "the ready line is all it prints");
        assert!(!stderr.contains("ERROR") && !stderr.contains('\x1b'), "{stderr}");
    }
}

#[test]
fn a_directory_that_is_given_stays() {
    let directory = directory();
    let path = directory.path().join("kept");
    let server = Server::playground(&["--stores", "1", "--data-dir", path.to_str().unwrap()]);
    server.ctl(&["raw", "put", "k", "v"]).done();
    server.ctl(&["txn", "put", "t", "w"]).done();
    server.signal(Signal::TERM);
    assert!(path.join("scheduler-0").is_dir() && path.join("store-0").is_dir());

    // The same directory holds the same data, on other ports.
    let server = Server::playground(&["--stores", "1", "--data-dir", path.to_str().unwrap()]);
    assert_eq!(server.ctl(&["raw", "get", "k"]).done(), "v\n");
    assert_eq!(server.ctl(&["txn", "get", "t"]).done(), "w\n");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let port = taken.local_addr().unwrap().port().to_string();
    for flag in ["--port", "--store-port", "--status-port"] {
        let mut args = vec!["playground", "--stores", "1"];
        for other in ["--port", "--store-port", "--status-port"] {
            args.extend([other, if other == flag { &port } else { "0" }]);
        }
        let ended = kiva(&args);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&format!("127.0.0.1:{port}")), "{ended:?}");
        assert!(ended.stderr.contains(flag), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn scheduler_and_store_are_processes_of_their_own() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let file = path("kiva.toml");
    fs::write(&file, "[scheduler]\nname = \"one\"\naddr = \"127.0.0.1:1\"\n").unwrap();
    let scheduler = Server::start(&[
        "scheduler",
        "--config",
        &file,
        "--data-dir",
        &path("scheduler"),
        // A flag wins over the file, whose port nobody could bind.
        "--addr",
        "127.0.0.1:0",
        "--api-version",
        "2",
    ]);
    let store = Server::start(&[
        "store",
        "--data-dir",
        &path("store"),
        "--schedulers",
        &scheduler.address,
        "--addr",
        "127.0.0.1:0",
        "--status-addr",
        "127.0.0.1:0",
        "--labels",
        "zone=a,rack=3",
    ]);
    let members = scheduler.ctl(&["member", "list"]).done();
    assert!(members.contains("one") && members.contains("leader"), "{members}");
    let stores = scheduler.ctl(&["store", "list", "--json"]).done();
    let stores: serde_json::Value = serde_json::from_str(&stores).expect("one object");
    assert_eq!(stores["address"], store.address.as_str());
    assert_eq!(stores["labels"]["zone"], "a");

    // The status page is HTTP.
    let status = stores["status_address"].as_str().expect("it has one");
    let mut stream = TcpStream::connect(status).expect("it listens");
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("store_id"), "{page}");

    // The cluster was born with version 2, which clients have to speak.
    scheduler.ctl(&["--api-version", "2", "raw", "put", "k", "v", "--ttl", "1000"]).done();
    let refused = scheduler.ctl(&["raw", "get", "k"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let ttl = scheduler.ctl(&["--api-version", "2", "raw", "ttl", "k"]).done();
    assert!(ttl.ends_with(" s\n"), "{ttl}");
    scheduler.ctl(&["--api-version", "2", "raw", "put", "k", "v"]).done();
    assert_eq!(scheduler.ctl(&["--api-version", "2", "raw", "ttl", "k"]).done(), "for ever\n");

    for server in [store, scheduler] {
        let Stopped { status, stderr, .. } = server.signal(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{stderr}");
    }
}

#[test]
fn what_others_cannot_dial_is_refused() {
    for args in [
        &["scheduler", "--name", "a", "--data-dir", "x", "--addr", "0.0.0.0:0"][..],
        &["store", "--data-dir", "x", "--schedulers", "127.0.0.1:1", "--addr", "0.0.0.0:0"],
        &["playground", "--host", "0.0.0.0"],
    ] {
        let ended = kiva(args);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("dial"), "{ended:?}");
    }
}

#[test]
fn a_file_with_an_unknown_field_is_refused_by_name() {
    let directory = directory();
    let file = directory.path().join("kiva.toml");
    fs::write(&file, "[store]\ndata-dri = \"x\"\n").unwrap();
    for command in ["store", "scheduler", "playground"] {
        let ended = kiva(&[command, "--config", file.to_str().unwrap()]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("data-dri"), "{ended:?}");
    }
}

/// Half a store is worse than none: when it can write no more it says so and ends.
#[test]
fn a_store_that_cannot_write_its_log_stops_by_itself() {
    let directory = directory();
    let path = directory.path().join("data");
    let server = Server::playground(&["--stores", "1", "--data-dir", path.to_str().unwrap()]);
    server.ctl(&["raw", "put", "k", "v"]).done();
    // From now on every write to a file fails.
    server.limit_files(0);
    let ended = server.ctl(&["--timeout", "2", "raw", "put", "k", "w"]);
    assert_ne!(ended.code, Some(0), "nobody may be told that this is durable: {ended:?}");
    let Stopped { status, stderr, .. } = server.wait();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the disk has failed"), "{stderr}");

    let server = Server::playground(&["--stores", "1", "--data-dir", path.to_str().unwrap()]);
    assert_eq!(server.ctl(&["raw", "get", "k"]).done(), "v\n");
}
