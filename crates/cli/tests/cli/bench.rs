//! Figures that programs can read, and verification that finds what is planted.

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Ended, Server, Stopped, kiva};

const SHORT: [&str; 12] = [
    "--seconds",
    "1",
    "--warmup",
    "0",
    "--clients",
    "4",
    "--keys",
    "64",
    "--value-size",
    "100",
    "--json",
    "--txn-size=3",
];

fn bench(server: &Server, more: &[&str]) -> Ended {
    kiva(&[&["bench", "--schedulers", &server.address], &SHORT[..], more].concat())
}

fn objects(stdout: &str) -> Vec<Value> {
    let objects = stdout.lines().map(|line| serde_json::from_str(line).expect("an object"));
    objects.collect()
}

#[test]
fn every_workload_runs_and_verifies() {
    let server = Server::playground(&["--stores", "1"]);
    for workload in ["raw-put", "raw-get", "txn-commit", "scan", "tso"] {
        for wire in ["unary", "batch"] {
            let ended = bench(&server, &["--workload", workload, "--wire", wire]);
            let objects = objects(&ended.done());
            let [second, summary] = &objects[..] else {
                panic!("a second and a summary, not {objects:?}");
            };
            assert_eq!(second["second"], 1);
            assert_eq!(summary["summary"]["workload"], workload);
            assert_eq!(summary["summary"]["wire"], wire);
            let count = |name: &str| summary[name].as_u64().expect("a count");
            assert!(count("operations") > 0, "{workload} {wire}: {summary}");
            assert_eq!(count("errors"), 0, "{workload} {wire}: {summary}");
            assert!(summary["p50_us"].as_f64() <= summary["p999_us"].as_f64(), "{summary}");
            assert!(summary["verification"]["checked"].as_u64() > Some(0), "{summary}");
            assert_eq!(summary["verification"]["mismatches"], 0, "{summary}");
        }
    }
}

#[test]
fn a_value_that_is_wrong_fails_the_verification() {
    let server = Server::playground(&["--stores", "1"]);
    for workload in ["raw-get", "scan"] {
        bench(&server, &["--workload", workload]).done();
        let key = server.ctl(&["raw", "scan", "--prefix", "r", "--limit", "1", "--keys-only"]);
        let key = key.done();
        let wrong = "x".repeat(100);
        server.ctl(&["raw", "put", key.trim_end(), &wrong]).done();
        let ended = bench(&server, &["--workload", workload]);
        assert_eq!(ended.code, Some(1), "{workload}: {ended:?}");
        assert!(ended.stderr.contains("verification failed"), "{workload}: {ended:?}");
        let objects = objects(&ended.stdout);
        let summary = objects.last().expect("a summary");
        assert!(summary["verification"]["mismatches"].as_u64() > Some(0), "{summary}");
        // Put in order for the next workload: a value of another size is written anew.
        server.ctl(&["raw", "put", key.trim_end(), "short"]).done();
    }
}

#[test]
fn a_bare_echo_is_timed_by_the_same_clients() {
    let server = Server::start(&["echo", "--addr", "127.0.0.1:0", "--value-size", "100"]);
    let target = ["bench", "--target", "echo", "--endpoints", &server.address];
    let ended = kiva(&[&target[..], &SHORT, &["--workload", "raw-get"]].concat());
    let objects = objects(&ended.done());
    let summary = objects.last().expect("a summary");
    assert!(summary["operations"].as_u64() > Some(0), "{summary}");
    assert_eq!(summary["verification"]["mismatches"], 0, "{summary}");
}

#[test]
fn a_target_that_is_not_there_ends_with_three() {
    let target = ["bench", "--timeout", "0.5", "--workload", "raw-get"];
    let others = ["--target", "etcd", "--endpoints", "127.0.0.1:1"];
    let ended = kiva(&[&target[..], &others].concat());
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let ended = kiva(&[&target[..], &["--schedulers", "127.0.0.1:1"]].concat());
    assert_eq!(ended.code, Some(3), "{ended:?}");
}

#[test]
fn a_signal_ends_the_measurement_and_the_verification_is_done_all_the_same() {
    let server = Server::playground(&["--stores", "1"]);
    let args = ["bench", "--schedulers", &server.address, "--json", "--seconds", "100000"];
    let bench = Server::start_until(&[&args[..], &["--warmup", "0"]].concat(), "{");
    let Stopped { status, stdout, stderr, .. } = bench.signal(Signal::INT);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let objects = objects(&stdout);
    let summary = objects.last().expect("a summary");
    assert_eq!(summary["summary"]["is_interrupted"], true, "{summary}");
    assert!(summary["verification"]["checked"].as_u64() > Some(0), "{summary}");
    assert_eq!(summary["verification"]["mismatches"], 0, "{summary}");
}
