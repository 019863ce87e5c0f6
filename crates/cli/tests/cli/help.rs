//! Every command explains itself, and wrong usage ends with 2.

use crate::process::kiva;

/// Subcommands that a help text lists.
fn commands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| {
        // Continued descriptions are indented further.
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        name.split_whitespace().next()
    });
    names.filter(|name| *name != "help").collect()
}

fn visit(path: &[&str], seen: &mut Vec<String>) {
    let help = kiva(&[path, &["--help"]].concat()).done();
    assert!(help.contains("Usage:"), "{path:?}: {help}");
    let version = kiva(&[path, &["--version"]].concat()).done();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{path:?}: {version}");
    seen.push(path.join(" "));
    for command in commands(&help) {
        visit(&[path, &[command]].concat(), seen);
    }
}

#[test]
fn every_command_explains_itself() {
    let mut seen = Vec::new();
    visit(&[], &mut seen);
    visit(&["echo"], &mut seen);
    for command in [
        "playground",
        "scheduler",
        "store",
        "bench",
        "ctl raw cas",
        "ctl region list",
        "ctl import",
    ] {
        assert!(seen.iter().any(|path| path == command), "{command} is not among {seen:?}");
    }
    for command in ["", "playground", "scheduler", "store", "bench", "ctl raw", "ctl import"] {
        let path: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        assert!(kiva(&path).done().contains("Examples:"), "{command}");
    }
}

#[test]
fn wrong_usage_ends_with_two_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 12] = [
        (&["nonsense"], "nonsense"),
        (&["ctl", "raw", "get"], "<KEY>"),
        (&["ctl", "raw", "get", "xyz", "--hex"], "hexadecimal"),
        (&["ctl", "raw", "scan", "b", "a"], "before it begins"),
        (&["ctl", "raw", "scan", "--limit", "0"], "at least 1"),
        (&["ctl", "--schedulers", "nowhere::x", "tso"], "nowhere::x"),
        (&["bench", "--clients", "0"], "--clients"),
        (&["bench", "--target", "etcd"], "--endpoints"),
        (&["scheduler", "--data-dir", "x"], "scheduler.name"),
        (&["store", "--data-dir", "x"], "store.schedulers"),
        (&["playground", "--schedulers", "3"], "one member"),
        (&["--log", "a=b=c", "ctl", "tso"], "--log"),
    ];
    for (args, words) in cases {
        let ended = kiva(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(words), "{args:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}
