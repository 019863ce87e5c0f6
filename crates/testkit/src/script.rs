//! Behaviour tests as text files: commands, and what they print, recorded below them.
//!
//! A crate has one runner, which knows its commands, and a directory of scripts:
//!
//! ```text
//! tests/scripts/<topic>/<scenario>
//! ```
//!
//! [`run_directory`] runs them all and reports every one that prints something else than what is
//! recorded. With `UPDATE_GOLDENFILES=1` in the environment the recorded output is replaced; commit
//! it only when each changed line can be explained.
//!
//! People read these files, so bytes are written in a form that is the same in both directions:
//!
//! | bytes | text |
//! |---|---|
//! | printable ASCII | itself |
//! | anything else, and the backslash | `\xNN`, `\\`, `\n`, … (in a script, quoted: `"\\xff"`) |
//! | more than sixteen times the same byte | `x*300` (in a script, quoted: `"x*300"`) |
//!
//! | timestamp | text |
//! |---|---|
//! | below one millisecond | the number |
//! | above | `100ms`, or `100ms.3` with the counter |
//! | the largest | `max` |

use std::error::Error;
use std::path::{Path, PathBuf};

use goldenscript::{Argument, ArgumentConsumer, Command};
use kiva_base::{Key, KeyRange, Timestamp};
use kiva_engine::{Cf, Order, Snapshot};

/// Why a script cannot go on. Text for a person.
pub type ScriptError = Box<dyn Error>;

/// Runs every script below `directory`, each with a runner of its own, in the order of their names.
///
/// # Panics
///
/// When a script fails, after all have run, naming those that did; or when there is none.
pub fn run_directory<R: goldenscript::Runner>(directory: &Path, mut runner: impl FnMut() -> R) {
    let scripts = scripts_below(directory);
    assert!(!scripts.is_empty(), "no scripts below {directory:?}");
    let mut failed = Vec::new();
    for script in &scripts {
        let mut runner = runner();
        // A difference is a panic of the library, on the thread that compares.
        let run = std::panic::AssertUnwindSafe(|| goldenscript::run(&mut runner, script));
        match std::panic::catch_unwind(run) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{}: {error}", script.display())),
            Err(_) => failed.push(format!("{}: see above", script.display())),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} scripts failed:\n{}",
        failed.len(),
        scripts.len(),
        failed.join("\n")
    );
}

fn scripts_below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot list {directory:?}: {error}"));
    let mut scripts = Vec::new();
    for entry in entries {
        let path = entry.expect("the directory can be listed").path();
        if path.is_dir() {
            scripts.extend(scripts_below(&path));
        } else {
            scripts.push(path);
        }
    }
    scripts.sort();
    scripts
}

/// Bytes as a person reads them.
pub fn format_bytes(bytes: &[u8]) -> String {
    match bytes {
        [first, rest @ ..] if rest.len() >= 16 && rest.iter().all(|byte| byte == first) => {
            format!("{}*{}", [*first].escape_ascii(), bytes.len())
        }
        // A star of the data must not be read as a repetition.
        _ => bytes.escape_ascii().to_string().replace('*', "\\x2a"),
    }
}

/// The bytes that a person wrote: the inverse of [`format_bytes`].
pub fn parse_bytes(text: &str) -> Result<Vec<u8>, ScriptError> {
    if let Some((pattern, count)) = text.rsplit_once('*')
        && let Ok(count) = count.parse()
    {
        return Ok(unescape(pattern)?.repeat(count));
    }
    unescape(text)
}

fn unescape(text: &str) -> Result<Vec<u8>, ScriptError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let kind = escape.chars().next().ok_or("a backslash ends the text")?;
        let mut size = kind.len_utf8();
        bytes.push(match kind {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            '0' => 0,
            '\\' | '\'' | '"' => kind as u8,
            'x' => {
                size = 3;
                let digits = escape.get(1..3).ok_or("\\x needs two digits")?;
                u8::from_str_radix(digits, 16)?
            }
            _ => return Err(format!("unknown escape \\{kind}").into()),
        });
        rest = &escape[size..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// The key that a person wrote.
pub fn parse_key(text: &str) -> Result<Key, ScriptError> {
    Ok(Key::from(parse_bytes(text)?))
}

/// A timestamp as a person reads it.
pub fn format_timestamp(ts: Timestamp) -> String {
    match (ts.physical_ms(), ts.logical()) {
        _ if ts == Timestamp::MAX => "max".into(),
        (0, logical) => logical.to_string(),
        (ms, 0) => format!("{ms}ms"),
        (ms, logical) => format!("{ms}ms.{logical}"),
    }
}

/// The timestamp that a person wrote: the inverse of [`format_timestamp`].
pub fn parse_timestamp(text: &str) -> Result<Timestamp, ScriptError> {
    if text == "max" {
        return Ok(Timestamp::MAX);
    }
    let Some((ms, logical)) = text.split_once("ms") else {
        return Ok(Timestamp(text.parse()?));
    };
    let logical = match logical.strip_prefix('.') {
        Some(logical) => logical.parse()?,
        None if logical.is_empty() => 0,
        None => return Err(format!("{text} is not a timestamp").into()),
    };
    Ok(Timestamp::new(ms.parse()?, logical))
}

/// The arguments of one command, taken by name first and then in their order.
pub struct Arguments<'a> {
    rest: ArgumentConsumer<'a>,
}

impl<'a> Arguments<'a> {
    /// Those of this command.
    pub fn of(command: &'a Command) -> Self {
        Self { rest: command.consume_args() }
    }

    /// The value of `name=value`, if it is there.
    pub fn text(&mut self, name: &str) -> Option<&'a str> {
        self.rest.take_key(name)
    }

    /// The value of `name=value`, which must be there.
    pub fn required(&mut self, name: &str) -> Result<&'a str, ScriptError> {
        self.text(name).ok_or_else(|| format!("{name}=… is missing").into())
    }

    /// A key by name, which must be there.
    pub fn key(&mut self, name: &str) -> Result<Key, ScriptError> {
        parse_key(self.required(name)?)
    }

    /// A timestamp by name, which must be there.
    pub fn timestamp(&mut self, name: &str) -> Result<Timestamp, ScriptError> {
        parse_timestamp(self.required(name)?)
    }

    /// A timestamp by name, or another one.
    pub fn timestamp_or(
        &mut self,
        name: &str,
        default: Timestamp,
    ) -> Result<Timestamp, ScriptError> {
        self.text(name).map_or(Ok(default), parse_timestamp)
    }

    /// Timestamps by name, separated by commas; none when it is not there.
    pub fn timestamps<C: FromIterator<Timestamp>>(&mut self, name: &str) -> Result<C, ScriptError> {
        self.list(name).map(parse_timestamp).collect()
    }

    /// Keys by name, separated by commas; none when it is not there.
    pub fn keys<C: FromIterator<Key>>(&mut self, name: &str) -> Result<C, ScriptError> {
        self.list(name).map(parse_key).collect()
    }

    fn list(&mut self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text(name).into_iter().flat_map(|list| list.split(','))
    }

    /// A number, or anything else that reads itself, by name, or another one.
    pub fn number_or<T: std::str::FromStr<Err: Error + 'static>>(
        &mut self,
        name: &str,
        default: T,
    ) -> Result<T, ScriptError> {
        Ok(self.text(name).map_or(Ok(default), str::parse)?)
    }

    /// Whether `name=true` is there.
    pub fn flag(&mut self, name: &str) -> Result<bool, ScriptError> {
        self.number_or(name, false)
    }

    /// The next argument without a name, which must be there.
    pub fn next(&mut self, what: &str) -> Result<&'a str, ScriptError> {
        self.rest.next_pos().ok_or_else(|| format!("{what} is missing").into())
    }

    /// All that is left, in its order.
    pub fn rest(self) -> impl Iterator<Item = &'a Argument> {
        self.rest
    }

    /// All that is left, which must be keys.
    pub fn rest_keys(self) -> Result<Vec<Key>, ScriptError> {
        self.rest
            .map(|argument| match argument {
                Argument::Positional(key) => parse_key(key),
                argument => Err(format!("unknown argument {argument}").into()),
            })
            .collect()
    }

    /// Nothing must be left.
    pub fn finish(self) -> Result<(), ScriptError> {
        self.rest.reject_next()
    }
}

/// What a snapshot holds, family by family, each pair as `describe` tells it, one a line.
pub fn dump(
    view: &dyn Snapshot,
    describe: impl Fn(Cf, &[u8], &bytes::Bytes) -> String,
) -> Result<String, ScriptError> {
    let mut output = String::new();
    for cf in Cf::ALL {
        let mut pairs = view.iter(cf, &KeyRange::ALL, Order::Forward);
        while let Some((key, value)) = pairs.next()? {
            output.push_str(&describe(cf, &key, &value));
            output.push('\n');
        }
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_printed() {
        let cases: [&[u8]; 7] = [
            b"",
            b"key",
            b"\x00\xFF\n\t\\'\"a*3",
            "naïve".as_bytes(),
            &[b'x'; 300],
            &[0; 17],
            &[0; 16],
        ];
        for bytes in cases {
            assert_eq!(parse_bytes(&format_bytes(bytes)).unwrap(), bytes);
        }
        assert_eq!(format_bytes(&[b'x'; 300]), "x*300");
        assert!(parse_bytes("\\").is_err());
        assert!(parse_bytes("\\x1").is_err());
        assert!(parse_bytes("\\q").is_err());
    }

    #[test]
    fn timestamps_are_read_as_they_are_printed() {
        for (text, ts) in [
            ("0", Timestamp::ZERO),
            ("12", Timestamp(12)),
            ("3ms", Timestamp::new(3, 0)),
            ("3ms.4", Timestamp::new(3, 4)),
            ("max", Timestamp::MAX),
        ] {
            assert_eq!(parse_timestamp(text).unwrap(), ts);
            assert_eq!(format_timestamp(ts), text);
        }
        assert!(parse_timestamp("3ms4").is_err());
    }
}
