//! Import and export: the same bytes back, and bad lines by name.

use std::fs;
use std::io::Write;

use crate::process::{Server, kiva_with_input};

/// Rows of a csv file, sorted by key, some of which need quotes.
fn csv(rows: usize) -> String {
    let mut text = "key,value\n".to_owned();
    for row in 0..rows {
        text += &match row % 4 {
            0 => format!("city-{row:06},plain {row}\n"),
            1 => format!("city-{row:06},\"comma, {row}\"\n"),
            2 => format!("city-{row:06},\"quote \"\"{row}\"\"\"\n"),
            _ => format!("city-{row:06},\"ünïcode\r\nline {row}\"\n"),
        };
    }
    text
}

#[test]
fn what_is_imported_is_exported_to_the_byte() {
    let server = Server::playground(&["--stores", "1"]);
    let directory = tempfile::tempdir().expect("the system has room for a directory");
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (input, output) = (path("cities.csv"), path("again.csv"));
    fs::write(&input, csv(5_000)).unwrap();
    for mode in ["--raw", "--txn"] {
        let said = server.ctl(&["import", &input, mode]).done();
        assert_eq!(said, "5,000 rows written\n", "{mode}");
        let said = server.ctl(&["export", &output, mode, "--prefix", "city-", "--force"]).done();
        assert_eq!(said, "5,000 rows exported\n", "{mode}");
        assert!(fs::read(&input).unwrap() == fs::read(&output).unwrap(), "{mode}");
    }

    // Over another format and standard output and input, into a column family that commits leave
    // empty: under version 1 both kinds of keys are in one key space.
    let jsonl = server.ctl(&["export", "-", "--format", "jsonl", "--prefix", "city-"]).done();
    assert_eq!(jsonl.lines().count(), 5_000);
    let args = ["ctl", "--schedulers", &server.address, "import", "-", "--format", "jsonl"];
    let args = [&args[..], &["--cf", "lock", "--json"]].concat();
    let said = kiva_with_input(&args, |stdin| stdin.write_all(jsonl.as_bytes()).unwrap()).done();
    assert_eq!(said, "{\"rows\":5000,\"written\":true}\n");
    let args = ["export", &output, "--cf", "lock", "--prefix", "city-", "--force"];
    server.ctl(&args).done();
    assert!(fs::read(&input).unwrap() == fs::read(&output).unwrap());

    let exists = server.ctl(&["export", &output]);
    assert_eq!(exists.code, Some(1), "{exists:?}");
    assert!(exists.stderr.contains("--force"), "{exists:?}");
}

#[test]
fn a_bad_line_is_named_and_the_rows_before_it_are_there() {
    let server = Server::playground(&["--stores", "1"]);
    let directory = tempfile::tempdir().expect("the system has room for a directory");
    let path = directory.path().join("bad.csv").to_str().unwrap().to_owned();
    let rows = |range: std::ops::Range<u32>| -> String {
        range.map(|row| format!("bad-{row:06},{row}\n")).collect()
    };
    let text = format!("key,value\n{}broken\n{}", rows(0..2_500), rows(2_500..3_000));
    fs::write(&path, text).unwrap();

    let checked = server.ctl(&["import", &path, "--check"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stderr.contains("line 2502") && checked.stderr.contains("nothing was written"));
    assert_eq!(server.ctl(&["raw", "scan", "--prefix", "bad-"]).done(), "");

    let failed = server.ctl(&["import", &path]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("line 2502: 1 field"), "{failed:?}");
    assert!(failed.stderr.contains("2,500 rows before it are written"), "{failed:?}");
    let args = ["raw", "scan", "--prefix", "bad-", "--limit", "9999", "--keys-only"];
    assert_eq!(server.ctl(&args).done().lines().count(), 2_500);
}

#[test]
fn a_row_that_the_store_refuses_is_named_too() {
    let server = Server::playground(&["--stores", "1"]);
    let directory = tempfile::tempdir().expect("the system has room for a directory");
    let path = directory.path().join("words.txt").to_str().unwrap().to_owned();
    // Keys may have 8 KiB.
    let long = "x".repeat(8 * 1024 + 1);
    for mode in ["--raw", "--txn"] {
        fs::write(&path, format!("a\nb\n{long}\nd\n")).unwrap();
        let failed = server.ctl(&["import", &path, mode]);
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert!(failed.stderr.contains("line 3"), "{mode}: {failed:?}");
        assert!(failed.stderr.contains("the 2 rows before it are written"), "{mode}: {failed:?}");
        fs::write(&path, "a\nb\nd\n").unwrap();
        server.ctl(&["import", &path, mode]).done();
        let args = ["export", "-", "--format", "lines", mode, "--start", "a", "--end", "e"];
        assert_eq!(server.ctl(&args).done(), "a\nb\nd\n", "{mode}");
    }
}
