//! Every scenario we claim is named by a test.
//!
//! `docs/scenarios-covered.txt` lists ids, one a line, in parts. A test that shows one says so in
//! its doc comment, a script in its header. The list is a claim, and this is what keeps it honest:
//! an id that no test names is missing.

use std::collections::BTreeSet;
use std::fmt;

use super::Finding;
use super::repo::Repo;

/// Where the list is.
const LIST: &str = "docs/scenarios-covered.txt";

/// What the list claims, and what of it is true.
pub(crate) struct Coverage {
    claimed: usize,
    /// A finding per id that no test names.
    pub(crate) missing: Vec<Finding>,
    /// What is wrong with the list itself.
    pub(crate) mistakes: Vec<Finding>,
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.claimed - self.missing.len();
        write!(f, "scenarios: {shown} of {} ids are named by a test", self.claimed)?;
        if !self.missing.is_empty() {
            write!(f, "; missing:")?;
            for finding in &self.missing {
                write!(f, "\n    {}", finding.wrong)?;
            }
        }
        Ok(())
    }
}

/// Compares the list with the tests.
pub(crate) fn coverage(repo: &Repo) -> Coverage {
    let named = named(repo);
    let mut coverage = Coverage { claimed: 0, missing: Vec::new(), mistakes: Vec::new() };
    let mut seen = BTreeSet::new();
    for (position, line) in repo.text(LIST).unwrap_or_default().lines().enumerate() {
        let id = line.trim();
        if id.is_empty() || id.starts_with('#') {
            continue;
        }
        let at = |wrong: String, instead| Finding::new(LIST, position + 1, wrong, instead);
        if !is_id(id) {
            let wrong = format!("`{id}` is not an id");
            coverage
                .mistakes
                .push(at(wrong, "one id a line, such as 4B-get; `#` begins a comment"));
        } else if !seen.insert(id) {
            coverage.mistakes.push(at(format!("`{id}` stands here twice"), "once is enough"));
        } else {
            coverage.claimed += 1;
            if !named.contains(id) {
                let instead = "write the test and name the id in its doc comment or script header";
                coverage.missing.push(at(format!("{id} is named by no test"), instead));
            }
        }
    }
    coverage
}

/// Parts that have a word instead of a number: what makes consensus fast, and traces from data.
const NAMED_PARTS: [&str; 2] = ["OPT", "DD"];

/// A part (`1`, `4B`, `OPT`) and words, joined by dashes.
fn is_id(word: &str) -> bool {
    let Some((part, rest)) = word.split_once('-') else {
        return false;
    };
    let is_numbered = part.starts_with(|c: char| c.is_ascii_digit()) && part.len() <= 2;
    (is_numbered || NAMED_PARTS.contains(&part))
        && !rest.is_empty()
        && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// Every word of test code, scripts and the testkit that looks like an id.
fn named(repo: &Repo) -> BTreeSet<&str> {
    let mut ids = BTreeSet::new();
    for source in repo.sources() {
        let is_testkit = source.crate_name() == Some("testkit");
        for (line, is_test) in source.lines.iter().zip(&source.is_test) {
            if *is_test || is_testkit {
                ids.extend(ids_of(line));
            }
        }
    }
    let scripts = repo.files().iter().filter(|file| {
        let is_test = file.path.contains("/tests/") || file.path.starts_with("tests/");
        !file.path.ends_with(".rs") && (is_test || file.path.starts_with("compat/"))
    });
    for line in scripts.flat_map(|file| file.text.as_deref().unwrap_or_default().lines()) {
        ids.extend(ids_of(line));
    }
    ids
}

fn ids_of(line: &str) -> impl Iterator<Item = &str> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    line.split(move |c| !is_inside(c)).filter(|word| is_id(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(list: &str, file: (&str, &str)) -> Vec<String> {
        let coverage = coverage(&Repo::of(&[(LIST, list), file]));
        coverage.missing.into_iter().map(|finding| finding.wrong).collect()
    }

    #[test]
    fn an_id_counts_where_a_test_names_it() {
        let list = "# part 4B\n4B-get\n\n4B-get-ts\n";
        let doc = "/// Covers 4B-get, 4B-get-ts.\nfn f() {}\n";
        assert_eq!(missing("OPT-x\n", ("crates/x/tests/scripts/y", "# OPT-x: y\n")), [""; 0]);
        for (path, text) in [
            ("crates/txn/tests/scripts/get", "# 4B-get, 4B-get-ts: x\n"),
            ("crates/txn/tests/get.rs", doc),
            ("crates/txn/src/get/tests.rs", doc),
            ("crates/testkit/src/suite.rs", doc),
            ("compat/txn.py", "# 4B-get (4B-get-ts)\n"),
        ] {
            assert_eq!(missing(list, (path, text)), [""; 0], "{path}");
        }
    }

    #[test]
    fn an_id_does_not_count_elsewhere_or_as_a_part_of_another() {
        let list = "4B-get\n";
        for (path, text) in [
            ("crates/txn/src/get.rs", "/// Covers 4B-get.\nfn f() {}\n"),
            ("docs/testing.md", "4B-get\n"),
            ("crates/txn/tests/scripts/get", "# 4B-get-ts, 14B-get, x4B-get\n"),
        ] {
            assert_eq!(missing(list, (path, text)), ["4B-get is named by no test"], "{path}");
        }
    }

    #[test]
    fn a_list_with_mistakes_is_found() {
        let repo = Repo::of(&[(LIST, "4B-get\n4B-get\nnonsense\n4B-\n")]);
        assert_eq!(coverage(&repo).mistakes.len(), 3);
    }

    #[test]
    fn the_count_and_the_missing_are_printed() {
        let repo = Repo::of(&[(LIST, "1-a\n1-b\n"), ("crates/x/tests/t.rs", "/// 1-a\n")]);
        assert_eq!(
            coverage(&repo).to_string(),
            "scenarios: 1 of 2 ids are named by a test; missing:\n    1-b is named by no test"
        );
    }
}
