//! A Rust source taken apart into code and comments, line by line.
//!
//! A rule that bans a call must not stumble over a comment or a text that mentions it, and a rule
//! about comments must not look into code. So both get a view of the file in which everything else
//! is blank, with the same lines and columns. This is a lexer for comments and literals, nothing
//! more: it knows no grammar.

/// A source file, as text, as code alone and as comments alone.
///
/// Invariant: `code`, `comments` and `is_test` have one item per line of the text.
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// The file as it is.
    pub(crate) lines: Vec<String>,
    /// Comments and the insides of literals are blank.
    pub(crate) code: Vec<String>,
    /// Everything but comments is blank.
    pub(crate) comments: Vec<String>,
    /// Whether the line is only compiled for tests.
    pub(crate) is_test: Vec<bool>,
}

impl Source {
    /// Takes `text` apart.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        let is_test = match is_test_path(path) {
            true => vec![true; code.lines().count()],
            false => test_lines(&code),
        };
        let lines = |view: &str| view.lines().map(str::to_owned).collect();
        Self {
            path: path.into(),
            lines: lines(text),
            code: lines(&code),
            comments: lines(&comments),
            is_test,
        }
    }

    /// The name of the folder below `crates/`, if it is in one.
    pub(crate) fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// The rooms it is in: the folders below `src` and the name of the file, without `.rs`.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = &str> {
        let inside = self.path.split_once("/src/").map_or("", |(_, rest)| rest);
        inside.trim_end_matches(".rs").split('/')
    }

    /// Lines of code that are compiled into the product, with their numbers from 1.
    pub(crate) fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.iter().zip(&self.is_test).enumerate();
        lines
            .filter(|(_, (_, is_test))| !**is_test)
            .map(|(position, (line, _))| (position + 1, line.as_str()))
    }
}

/// Whether a whole file is no part of the product: in a folder of tests, benches or examples, or a
/// `tests` module.
fn is_test_path(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| matches!(part, "tests" | "benches" | "examples" | "tests.rs"))
}

/// Where `needle` stands in `line` as a word of its own, and not as a part of a longer name.
pub(crate) fn find_word(line: &str, needle: &str) -> Option<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let first_matters = needle.starts_with(is_name);
    let last_matters = needle.ends_with(is_name);
    line.match_indices(needle).map(|(position, _)| position).find(|&position| {
        let before = line[..position].chars().next_back();
        let after = line[position + needle.len()..].chars().next();
        let begins_earlier = first_matters && before.is_some_and(is_name);
        let ends_later = last_matters && after.is_some_and(is_name);
        !begins_earlier && !ends_later
    })
}

/// What the lexer is inside of.
#[derive(Clone, Copy)]
enum Inside {
    Code,
    LineComment,
    /// How deep comments are nested.
    BlockComment(usize),
    Text,
    /// How many `#` end it.
    RawText(usize),
}

/// The text as code alone and as comments alone.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut comments = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut position = 0;
    while position < chars.len() {
        let rest = &chars[position..];
        // How many characters this step takes, and whether each view shows them.
        let (taken, in_code, in_comments, next) = match inside {
            Inside::Code => code_step(rest, &chars[..position]),
            Inside::LineComment => match rest[0] {
                '\n' => (1, true, true, Inside::Code),
                _ => (1, false, true, inside),
            },
            Inside::BlockComment(depth) => match rest {
                ['*', '/', ..] if depth == 1 => (2, false, true, Inside::Code),
                ['*', '/', ..] => (2, false, true, Inside::BlockComment(depth - 1)),
                ['/', '*', ..] => (2, false, true, Inside::BlockComment(depth + 1)),
                _ => (1, false, true, inside),
            },
            Inside::Text => match rest {
                ['\\', _, ..] => (2, false, false, inside),
                ['"', ..] => (1, true, false, Inside::Code),
                _ => (1, false, false, inside),
            },
            Inside::RawText(marks) => match rest {
                ['"', tail @ ..] if tail.iter().take_while(|c| **c == '#').count() >= marks => {
                    (1 + marks, true, false, Inside::Code)
                }
                _ => (1, false, false, inside),
            },
        };
        for &c in &rest[..taken] {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if in_code { c } else { blank });
            comments.push(if in_comments { c } else { blank });
        }
        inside = next;
        position += taken;
    }
    (code, comments)
}

/// One step of [`split`] outside of comments and literals.
fn code_step(rest: &[char], before: &[char]) -> (usize, bool, bool, Inside) {
    let in_name = before.last().is_some_and(|c| c.is_alphanumeric() || *c == '_');
    match rest {
        ['/', '/', ..] => (2, false, true, Inside::LineComment),
        ['/', '*', ..] => (2, false, true, Inside::BlockComment(1)),
        ['"', ..] => (1, true, false, Inside::Text),
        ['b', '"', ..] if !in_name => (2, true, false, Inside::Text),
        ['r', tail @ ..] | ['b', 'r', tail @ ..] if !in_name => {
            let marks = tail.iter().take_while(|c| **c == '#').count();
            let prefix = rest.len() - tail.len();
            match tail.get(marks) {
                Some('"') => (prefix + marks + 1, true, false, Inside::RawText(marks)),
                _ => (1, true, false, Inside::Code),
            }
        }
        // A character, which may be a quote or a brace. A lifetime has no second tick.
        ['\'', '\\', _, tail @ ..] => {
            let length = tail.iter().take_while(|c| **c != '\'').count();
            (length + 4, false, false, Inside::Code)
        }
        ['\'', _, '\'', ..] => (3, false, false, Inside::Code),
        _ => (1, true, false, Inside::Code),
    }
}

/// Which lines belong to an item under `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<bool> {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut is_test = vec![false; code.lines().count()];
    let line_of = |position: usize| code[..position].matches('\n').count();
    for (start, _) in code.match_indices(ATTRIBUTE) {
        let mut depth = 0usize;
        let mut end = code.len();
        for (offset, c) in code[start + ATTRIBUTE.len()..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                end = start + ATTRIBUTE.len() + offset;
                break;
            }
        }
        let last = line_of(end).min(is_test.len().saturating_sub(1));
        for flag in &mut is_test[line_of(start)..=last] {
            *flag = true;
        }
    }
    is_test
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        split(text).0
    }

    #[test]
    fn comments_and_literals_are_blank_in_code() {
        assert_eq!(code("a(); // b()"), "a();       ");
        assert_eq!(code("a(/* b /* c */ d */);"), "a(                 );");
        assert_eq!(code(r#"f("x \" y", b"z");"#), r#"f("      ", b" ");"#);
        assert_eq!(code(r##"f(r#"x " y"#, 'c');"##), r##"f(r#"     "#,    );"##);
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
        assert_eq!(code(r"['\'', '{', '\u{7f}']"), "[    ,    ,         ]");
        assert_eq!(code("for r in attr {}"), "for r in attr {}");
    }

    #[test]
    fn comments_alone_keep_lines_and_columns() {
        let (code, comments) = split("let x = 1; // one\n\"// no\"\n/* two\nlines */ y");
        assert_eq!(comments, "           // one\n       \n/* two\nlines */  ");
        assert_eq!(code, "let x = 1;       \n\"     \"\n      \n         y");
    }

    #[test]
    fn an_item_for_tests_is_marked_to_its_last_brace() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { '}' }\n}\nfn c() {}\n";
        let source = Source::new("crates/x/src/a.rs", text);
        assert_eq!(source.is_test, [false, true, true, true, true, false]);
        let text = "#[cfg(test)]\nmod tests;\nfn c() {}\n";
        let source = Source::new("crates/x/src/a.rs", text);
        assert_eq!(source.is_test, [true, true, false]);
    }

    #[test]
    fn files_for_tests_are_marked_whole() {
        for path in [
            "crates/x/tests/a.rs",
            "crates/x/src/a/tests.rs",
            "crates/x/benches/b.rs",
            "crates/x/examples/e.rs",
        ] {
            assert_eq!(Source::new(path, "fn a() {}\n").is_test, [true], "{path}");
        }
    }

    #[test]
    fn rooms_are_the_folders_and_the_file() {
        let source = Source::new("crates/server/src/service/kv.rs", "");
        assert_eq!(source.rooms().collect::<Vec<_>>(), ["service", "kv"]);
        assert_eq!(source.crate_name(), Some("server"));
    }

    #[test]
    fn a_word_is_not_a_part_of_a_longer_name() {
        assert_eq!(find_word("use HashMap;", "HashMap"), Some(4));
        assert_eq!(find_word("use MyHashMap; HashMaps", "HashMap"), None);
        assert_eq!(find_word("my_dbg!(x)", "dbg!("), None);
        assert_eq!(find_word("x.unwrap()", ".unwrap()"), Some(1));
        assert_eq!(find_word("x.unwrap_or()", ".unwrap()"), None);
    }
}
