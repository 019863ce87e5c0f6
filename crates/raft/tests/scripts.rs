//! Behaviour of nodes and groups, as scripts that a person can read. Below `tests/scripts`, one
//! directory for each topic; the commands are documented where the runner parses them.

mod support;

use std::path::{Path, PathBuf};

#[test]
fn scripts() {
    let mut paths = Vec::new();
    below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts"), &mut paths);
    assert!(!paths.is_empty(), "there are scripts");
    let mut failed = Vec::new();
    for path in paths {
        let mut runner = support::runner::Runner::default();
        // A difference is a panic of the library; the other scripts are to be seen all the same.
        let run = std::panic::AssertUnwindSafe(|| goldenscript::run(&mut runner, &path));
        match std::panic::catch_unwind(run) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{}: {error}", path.display())),
            Err(_) => failed.push(format!("{}: see above", path.display())),
        }
    }
    assert!(failed.is_empty(), "{} scripts failed:\n{}", failed.len(), failed.join("\n"));
}

fn below(directory: &Path, paths: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(directory).expect("the directory can be listed");
    let mut entries: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the directory can be listed").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            below(&path, paths);
        } else {
            paths.push(path);
        }
    }
}
