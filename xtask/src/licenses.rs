//! The license of every dependency, against the list of those we accept.
//!
//! A dependency passes when its SPDX expression can be satisfied with accepted licenses alone.
//! Advisories are not looked up: their database is not part of this repository, and a check that
//! needs the network would fail for reasons of its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::ci::cargo_path;

/// Licenses that ask for no more than attribution, or nothing. A license that asks for more is a
/// decision to be taken in the open, here.
const ACCEPTED: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks all packages of the lock file; false when one is not acceptable.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let output = Command::new(cargo_path())
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root)
        .output()
        .context("cargo metadata could not be started")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let refused: Vec<String> = packages.iter().filter_map(refusal).collect();
    for line in &refused {
        println!("{line}");
    }
    println!("licenses: {} packages, {} not acceptable", packages.len(), refused.len());
    println!("advisories: not checked, their database is not here (`cargo audit` looks them up)");
    Ok(refused.is_empty())
}

/// What is wrong with the license of one package.
fn refusal(package: &Value) -> Option<String> {
    let name = package["name"].as_str().unwrap_or("?");
    let version = package["version"].as_str().unwrap_or("?");
    match package["license"].as_str() {
        None => Some(format!("{name} {version}: names no license; use a dependency that does")),
        Some(expression) if accepts(expression) => None,
        Some(expression) => Some(format!(
            "{name} {version}: `{expression}` is not accepted; use another dependency, or argue \
             for the license in xtask/src/licenses.rs"
        )),
    }
}

/// Whether an SPDX expression can be satisfied with accepted licenses. `AND` binds tighter than
/// `OR`; the old form `A/B` means `OR`; an exception (`WITH`) only ever grants more.
fn accepts(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

fn any_of(rest: &mut &[&str]) -> Option<bool> {
    let mut satisfied = all_of(rest)?;
    while let Some((&"OR", after)) = rest.split_first() {
        *rest = after;
        satisfied |= all_of(rest)?;
    }
    Some(satisfied)
}

fn all_of(rest: &mut &[&str]) -> Option<bool> {
    let mut satisfied = one(rest)?;
    while let Some((&"AND", after)) = rest.split_first() {
        *rest = after;
        satisfied &= one(rest)?;
    }
    Some(satisfied)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    let (word, after) = rest.split_first()?;
    *rest = after;
    if *word == "(" {
        let satisfied = any_of(rest)?;
        let (close, after) = rest.split_first()?;
        *rest = after;
        return (*close == ")").then_some(satisfied);
    }
    if let Some((&"WITH", after)) = rest.split_first() {
        *rest = after.get(1..)?;
    }
    Some(ACCEPTED.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_passes_when_accepted_licenses_satisfy_it() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(accepts(good), "{good}");
        }
    }

    #[test]
    fn an_expression_that_needs_another_license_does_not_pass() {
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND MPL-2.0",
            "MIT OR",
            "(MIT",
            "MIT Apache-2.0",
            "",
        ] {
            assert!(!accepts(bad), "{bad}");
        }
    }

    #[test]
    fn a_package_without_a_license_is_named() {
        let package = serde_json::json!({ "name": "quiet", "version": "1.2.3", "license": null });
        assert!(refusal(&package).unwrap().starts_with("quiet 1.2.3: names no license"));
    }
}
