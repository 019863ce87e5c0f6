//! How a file looks: width, length, name, first line, and what its comments may say.

use super::Finding;
use super::repo::{File, Repo};
use super::source::{Source, find_word};

/// Columns of a line, as rustfmt counts them.
const WIDTH_MAX: usize = 100;

/// Lines of a file. A comfortable chapter has two to four hundred; beyond this it is two.
const LINES_MAX: usize = 900;

/// Names that say nothing about what is inside.
const NAMELESS: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "manager", "misc", "stuff"];

/// Endings of files in which trailing blanks mean nothing and so must not be.
const WRITTEN: [&str; 6] = [".rs", ".md", ".toml", ".proto", ".sh", ".py"];

/// All findings about single files.
pub(crate) fn check(repo: &Repo) -> Vec<Finding> {
    let files = repo.files().iter().flat_map(check_file);
    let sources = repo.sources().iter().flat_map(check_source);
    files.chain(sources).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let nameless = |part: &&str| NAMELESS.contains(&part.split('.').next().unwrap_or(part));
    if let Some(part) = file.path.split('/').find(nameless) {
        let wrong = format!("`{part}` does not say what is inside");
        findings.push(Finding::new(&file.path, 1, wrong, "name it after its one idea"));
    }
    let is_written = WRITTEN.iter().any(|ending| file.path.ends_with(ending));
    let text = file.text.as_deref().filter(|_| is_written);
    for (position, line) in text.unwrap_or_default().lines().enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            let wrong = "blanks at the end of the line";
            findings.push(Finding::new(&file.path, position + 1, wrong, "remove them"));
        }
    }
    findings
}

fn check_source(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |position: usize, wrong: String, instead: &str| {
        findings.push(Finding::new(&source.path, position + 1, wrong, instead));
    };
    if !source.lines.first().is_some_and(|line| line.starts_with("//!")) {
        let wrong = "the file does not begin with a module doc".into();
        found(0, wrong, "a `//!` line that says what this room is for");
    }
    if source.lines.len() > LINES_MAX {
        let wrong = format!("{} lines, the limit is {LINES_MAX}", source.lines.len());
        found(LINES_MAX, wrong, "split it along its ideas");
    }
    for (position, line) in source.lines.iter().enumerate() {
        let width = line.chars().count();
        // A link cannot be broken.
        if width > WIDTH_MAX && !line.contains("https://") {
            let wrong = format!("{width} columns, the limit is {WIDTH_MAX}");
            found(position, wrong, "break the line");
        }
    }
    for (position, comment) in source.comments.iter().enumerate() {
        if let Some(word) = stray_note(comment) {
            let wrong = format!("`{word}` in a comment");
            found(
                position,
                wrong,
                "do it, or open an issue and write `TODO(#123):` with its number",
            );
        }
        if is_code(comment) {
            let wrong = "a comment that is code".into();
            found(position, wrong, "remove it: the history keeps what was");
        }
    }
    findings
}

/// A note that belongs to nobody.
fn stray_note(comment: &str) -> Option<&'static str> {
    let notes = ["FIXME", "XXX", "HACK"];
    if let Some(word) = notes.into_iter().find(|word| find_word(comment, word).is_some()) {
        return Some(word);
    }
    let position = find_word(comment, "TODO")?;
    let rest = comment[position + "TODO".len()..].strip_prefix("(#");
    let number = rest.and_then(|rest| rest.split_once("):")).map(|(number, _)| number);
    let is_issue =
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
    (!is_issue).then_some("TODO")
}

/// Whether a plain comment reads like a statement. Doc comments show code on purpose.
fn is_code(comment: &str) -> bool {
    let Some(rest) = comment.trim_start().strip_prefix("//") else {
        return false;
    };
    if rest.starts_with(['/', '!']) {
        return false;
    }
    let rest = rest.trim();
    let starts = ["let ", "use ", "pub ", "fn ", "return ", "if ", "match ", "for ", "impl "];
    let is_statement = rest.ends_with(';') && (rest.contains('(') || rest.contains('='));
    let is_opening = rest.ends_with('{') && starts.iter().any(|start| rest.starts_with(start));
    is_statement || is_opening || (rest.ends_with(';') && rest.starts_with("use "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Repo::of(&[(path, text)])).len()
    }

    fn body(line: &str) -> usize {
        count("crates/x/src/a.rs", &format!("//! Doc.\n{line}\n"))
    }

    #[test]
    fn a_line_ends_at_the_hundredth_column() {
        let line = format!("// {}", "ü".repeat(WIDTH_MAX - 3));
        assert_eq!(body(&line), 0);
        assert_eq!(body(&format!("{line}x")), 1);
        assert_eq!(body(&format!("// https://{}", "x".repeat(WIDTH_MAX))), 0);
    }

    #[test]
    fn a_file_ends_somewhere() {
        let text = |lines: usize| format!("//! Doc.\n{}", "fn f() {}\n".repeat(lines - 1));
        assert_eq!(count("a.rs", &text(LINES_MAX)), 0);
        assert_eq!(count("a.rs", &text(LINES_MAX + 1)), 1);
    }

    #[test]
    fn a_file_begins_with_its_doc() {
        assert_eq!(count("a.rs", "//! Doc.\n"), 0);
        assert_eq!(count("a.rs", "use std::fmt;\n"), 1);
        assert_eq!(count("a.rs", ""), 1);
    }

    #[test]
    fn blanks_at_the_end_are_found_in_what_we_write() {
        assert_eq!(count("a.md", "word \nword\t\nword\n"), 2);
        assert_eq!(count("recorded", "word \n"), 0);
    }

    #[test]
    fn rooms_have_names() {
        for path in ["crates/x/src/util.rs", "crates/x/tests/common/mod.txt", "docs/misc.md"] {
            let text = if path.ends_with(".rs") { "//! Doc.\n" } else { "" };
            assert_eq!(count(path, text), 1, "{path}");
        }
        assert_eq!(count("crates/x/src/utility_bill.rs", "//! Doc.\n"), 0);
    }

    #[test]
    fn a_note_to_ourselves_has_an_issue() {
        for bad in ["// TODO: later", "// TODO(me): x", "/* FIXME */", "// XXX", "// TODO(#): x"] {
            assert_eq!(body(bad), 1, "{bad}");
        }
        for good in ["// TODO(#12): later", "let x = \"TODO\";", "fn TODOS() {}"] {
            assert_eq!(body(good), 0, "{good}");
        }
    }

    #[test]
    fn a_comment_is_not_code() {
        for bad in ["// let x = f(1);", "// use a::b;", "    // if x {", "// x = 3;"] {
            assert_eq!(body(bad), 1, "{bad}");
        }
        for good in [
            "// A sentence; and another.",
            "/// let x = f(1);",
            "// the shape of `f(x)`, in words",
            "// a list (of two), that goes on\n// and ends here.",
        ] {
            assert_eq!(body(good), 0, "{good}");
        }
    }
}
