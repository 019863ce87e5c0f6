//! The rules of the house that a program can check.
//!
//! A rule looks at the whole repository as a value ([`Repo`]) and returns what it found, so each
//! is tested here on samples that break it and samples that do not. What the compiler and clippy
//! hold already is not repeated, but for a few absences that matter so much that a `#[expect]` in
//! the wrong file should not be enough to get around them.
//!
//! | module | holds |
//! |---|---|
//! | [`layers`] | who may import whom |
//! | [`manifests`] | dependencies are explained, used, and named once; no crate is empty |
//! | [`absences`] | calls and types that may appear in certain rooms only |
//! | [`layout`] | width, size, names, module docs, notes to ourselves |
//! | [`reach`] | every source file belongs to a crate |
//! | [`documents`] | every path that a document names exists |
//! | [`scenarios`] | every scenario we claim is named by a test |

mod absences;
mod documents;
mod layers;
mod layout;
mod manifests;
mod reach;
mod repo;
mod scenarios;
mod source;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

use repo::Repo;

/// What counts as an error while the work on a part is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Strictness {
    /// A claimed scenario without a test is printed.
    ScenariosCounted,
    /// A claimed scenario without a test is an error.
    ScenariosRequired,
}

impl Strictness {
    /// Reads the flags of `cargo xtask tidy`.
    pub(crate) fn parse(flags: &[String]) -> Result<Self> {
        match flags {
            [] => Ok(Self::ScenariosCounted),
            [flag] if flag == "--require-scenarios" => Ok(Self::ScenariosRequired),
            _ => bail!("tidy takes --require-scenarios or nothing"),
        }
    }
}

/// One place that breaks a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    wrong: String,
    instead: String,
}

impl Finding {
    fn new(path: &str, line: usize, wrong: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { path: path.into(), line, wrong: wrong.into(), instead: instead.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, wrong, instead } = self;
        write!(f, "{path}:{line}: {wrong}\n    instead: {instead}")
    }
}

/// A rule: what it finds in a repository.
type Rule = fn(&Repo) -> Vec<Finding>;

const RULES: [Rule; 6] = [
    layers::check,
    manifests::check,
    absences::check,
    layout::check,
    reach::check,
    documents::check,
];

/// Checks the repository at `root`; false when a rule is broken.
pub(crate) fn run(root: &Path, strictness: Strictness) -> Result<bool> {
    let repo = Repo::load(root)?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&repo)).collect();
    let coverage = scenarios::coverage(&repo);
    findings.extend(coverage.mistakes.iter().cloned());
    if strictness == Strictness::ScenariosRequired {
        findings.extend(coverage.missing.iter().cloned());
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    println!("{coverage}");
    println!("tidy: {} files, {} findings", repo.files().len(), findings.len());
    Ok(findings.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_what_and_what_instead() {
        let finding = Finding::new("a/b.rs", 7, "too wide", "break the line");
        assert_eq!(finding.to_string(), "a/b.rs:7: too wide\n    instead: break the line");
    }

    #[test]
    fn flags_choose_the_strictness_and_others_are_errors() {
        assert_eq!(Strictness::parse(&[]).unwrap(), Strictness::ScenariosCounted);
        assert_eq!(
            Strictness::parse(&["--require-scenarios".into()]).unwrap(),
            Strictness::ScenariosRequired
        );
        assert!(Strictness::parse(&["--fast".into()]).is_err());
    }
}
