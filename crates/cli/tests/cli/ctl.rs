//! Questions, answers and exit statuses.

use crate::process::{Server, kiva};

#[test]
fn raw_keys_are_written_read_and_removed() {
    let server = Server::playground(&["--stores", "1"]);
    server.ctl(&["raw", "put", "a", "1"]).done();
    server.ctl(&["raw", "batch-put", "b", "2", "c", "3"]).done();
    assert_eq!(server.ctl(&["raw", "get", "a"]).done(), "1\n");
    assert_eq!(server.ctl(&["raw", "scan", "a", "d"]).done(), "a\t1\nb\t2\nc\t3\n");
    assert_eq!(server.ctl(&["raw", "scan", "--reverse", "--keys-only"]).done(), "c\nb\na\n");
    assert_eq!(server.ctl(&["raw", "batch-scan", "a", "b", "c", "d"]).done(), "a\t1\nc\t3\n");
    let json = server.ctl(&["raw", "scan", "--prefix", "b", "--json"]).done();
    assert_eq!(json, "{\"key\":\"b\",\"value\":\"2\"}\n");

    let cut = server.ctl(&["raw", "scan", "--limit", "2"]);
    assert!(cut.stderr.contains("there may be more"), "{cut:?}");
    assert_eq!(cut.done(), "a\t1\nb\t2\n");

    server.ctl(&["raw", "cas", "a", "9", "--previous", "1"]).done();
    let refused = server.ctl(&["raw", "cas", "a", "10", "--previous", "1"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("its value is 9"), "{refused:?}");
    assert!(server.ctl(&["raw", "checksum"]).done().contains("3 pairs, 6 bytes"));

    server.ctl(&["raw", "delete", "a"]).done();
    server.ctl(&["raw", "batch-delete", "b"]).done();
    assert_eq!(server.ctl(&["raw", "scan"]).done(), "c\t3\n");
    server.ctl(&["raw", "delete-range"]).done();
    assert_eq!(server.ctl(&["raw", "scan"]).done(), "");
}

#[test]
fn transactions_write_all_their_keys_and_read_the_past() {
    let server = Server::playground(&["--stores", "1"]);
    server.ctl(&["txn", "put", "alice", "90", "bob", "110"]).done();
    let before = server.ctl(&["tso"]).done();
    let before = before.lines().nth(1).and_then(|line| line.split_whitespace().next());
    let before = before.expect("a head and a row").to_owned();
    let committed = server.ctl(&["txn", "put", "alice", "80", "--json"]).done();
    let committed: serde_json::Value = serde_json::from_str(&committed).expect("one object");
    assert!(committed["commit_ts"].as_u64() > before.parse().ok(), "{committed}");

    assert_eq!(server.ctl(&["txn", "get", "alice"]).done(), "80\n");
    assert_eq!(server.ctl(&["txn", "get", "alice", "--at", &before]).done(), "90\n");
    assert_eq!(server.ctl(&["txn", "scan"]).done(), "alice\t80\nbob\t110\n");
    assert_eq!(server.ctl(&["txn", "scan", "--reverse", "--keys-only"]).done(), "bob\nalice\n");
    server.ctl(&["txn", "delete", "alice"]).done();
    assert_eq!(server.ctl(&["txn", "get", "alice"]).code, Some(1));
}

#[test]
fn what_is_not_there_ends_with_one_and_nobody_with_three() {
    let server = Server::playground(&["--stores", "1"]);
    let missing = server.ctl(&["raw", "get", "nothing", "--json"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert_eq!(missing.stdout, "{\"key\":\"nothing\",\"value\":null}\n");
    assert!(missing.stderr.contains("not found"), "{missing:?}");
    let refused = server.ctl(&["raw", "put", "k", "v", "--ttl", "5"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("TTL"), "{refused:?}");
    let refused = server.ctl(&["raw", "put", "k", "v", "--cf", "nothing"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let region = server.ctl(&["region", "find", "k", "--json"]).done();
    let region: serde_json::Value = serde_json::from_str(&region).expect("one object");
    assert_eq!(region["start"], "", "{region}");
    assert!(region["leader"]["store"].as_u64().is_some_and(|store| store > 0), "{region}");

    server.kill();
    // Nobody listens on port 1.
    let args = ["ctl", "--schedulers", "127.0.0.1:1", "--timeout", "0.2", "tso"];
    let silence = kiva(&args);
    assert_eq!(silence.code, Some(3), "{silence:?}");
    assert!(silence.stderr.contains("kiva playground"), "{silence:?}");
    let args = ["store", "--data-dir", "x", "--schedulers", "127.0.0.1:1"];
    let args = [&args[..], &["--addr", "127.0.0.1:0", "--status-addr", "127.0.0.1:0"]].concat();
    assert_eq!(kiva(&args).code, Some(3));
}

#[test]
fn regions_and_stores_are_described_and_regions_operated_on() {
    let server = Server::playground(&["--stores", "1"]);
    let object = |args: &[&str]| -> serde_json::Value {
        let args = [args, &["--json"]].concat();
        serde_json::from_str(&server.ctl(&args).done()).expect("one object")
    };
    let found = object(&["region", "find", "k"]);
    let (region, store) = (found["id"].to_string(), found["leader"]["store"].to_string());
    let shown = object(&["region", "show", &region]);
    assert_eq!(shown["peers"], found["peers"]);
    assert_eq!((&shown["down"], &shown["pending"]), (&serde_json::json!([]), &shown["down"]));
    assert!(server.ctl(&["region", "show", &region]).done().contains("operator  none"));
    let shown = object(&["store", "show", &store]);
    assert_eq!(
        (shown["state"].as_str(), shown["health"].as_str()),
        (Some("up"), Some("connected"))
    );
    assert!(shown["leaders"].as_u64() >= Some(1), "{shown}");
    assert!(server.ctl(&["store", "show", &store]).done().contains("up, connected"));

    // Its peer leads already: there is nothing to do, and that is what is shown afterwards.
    let done = object(&["region", "transfer-leader", &region, &store]);
    assert_eq!((&done["region"], done["status"].as_str()), (&found["id"], Some("success")));
    let list = server.ctl(&["operator", "list", "--ended"]).done();
    assert!(list.contains("transfer-leader  success"), "{list}");
    assert_eq!(server.ctl(&["operator", "list", "--json"]).done(), "");

    for (refused, why) in [
        (&["region", "add-peer", &region, &store][..], "has a peer of region"),
        (&["region", "add-peer", &region, "99"], "cannot take another peer"),
        (&["region", "remove-peer", &region, &store], "would have no majority"),
        (&["region", "transfer-leader", &region, "99"], "has no peer of region"),
        (&["region", "show", "999999"], "no region has the id 999999"),
        (&["store", "show", "999999"], "no store has the id 999999"),
    ] {
        let refused = server.ctl(refused);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
    assert_eq!(server.ctl(&["region", "show", "0"]).code, Some(2));
}

#[test]
fn bytes_that_are_no_text_come_and_go_unharmed() {
    let server = Server::playground(&["--stores", "1"]);
    server.ctl(&["raw", "put", "--hex", "0x00ff1b", "0a"]).done();
    assert_eq!(server.ctl(&["raw", "scan"]).done(), "\\x00\\xff\\x1b\t\\n\n");
    assert_eq!(server.ctl(&["raw", "get", "--hex", "00FF1B"]).done(), "0a\n");
    let escaped = ["raw", "get", "--encoding", "escaped", r"\x00\xff\x1b"];
    assert_eq!(server.ctl(&escaped).done(), "\\n\n");
    let json = server.ctl(&["raw", "scan", "--json"]).done();
    assert_eq!(json, "{\"key_hex\":\"00ff1b\",\"value\":\"\\n\"}\n");
}
