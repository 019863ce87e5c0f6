//! Ranges on a command line, and pairs on the screen.

use clap::Args;
use kiva_base::{Key, KeyRange};
use kiva_client::KvPair;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::encoding::{Encoding, serialize_bytes};
use crate::exit::{Failure, Status};
use crate::output::Output;

/// A half-open range of keys.
#[derive(Debug, Args)]
pub(crate) struct RangeArgs {
    /// First key; left out, the range begins with the first key there is
    start: Option<String>,
    /// First key behind the range; left out, the range ends with the last key there is
    end: Option<String>,
    /// All keys that begin with this
    #[arg(long, conflicts_with_all = ["start", "end"])]
    prefix: Option<String>,
}

impl RangeArgs {
    /// The range.
    pub(crate) fn get(&self, encoding: Encoding) -> Result<KeyRange, Failure> {
        let parse = |argument: &Option<String>| match argument {
            Some(argument) => encoding.parse(argument).map_err(Failure::usage),
            None => Ok(bytes::Bytes::new()),
        };
        if self.prefix.is_some() {
            return Ok(KeyRange::prefix(parse(&self.prefix)?));
        }
        range(parse(&self.start)?, parse(&self.end)?)
    }
}

/// `start..end`, or why that is no range.
pub(crate) fn range(start: bytes::Bytes, end: bytes::Bytes) -> Result<KeyRange, Failure> {
    KeyRange::new(start, end).ok_or_else(|| {
        Failure::usage("the range ends before it begins")
            .advise("give the lower key first; --reverse begins with the last key")
    })
}

/// What is wanted of a scan.
#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// Most pairs to show
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = parse_limit)]
    pub(crate) limit: usize,
    /// Highest key first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Leave the values out
    #[arg(long)]
    pub(crate) keys_only: bool,
}

impl ScanArgs {
    /// The range.
    pub(crate) fn range(&self, encoding: Encoding) -> Result<KeyRange, Failure> {
        self.range.get(encoding)
    }

    /// Says that there may be more, when there may be.
    pub(crate) fn note_limit(&self, shown: usize) {
        if shown == self.limit {
            crate::output::note(&format!(
                "stopped at the limit of {shown}; there may be more (--limit N)"
            ));
        }
    }
}

/// A count of at least one.
pub(crate) fn parse_limit(argument: &str) -> Result<usize, String> {
    match argument.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(limit) => Ok(limit),
        Err(_) => Err("not a count".to_owned()),
    }
}

/// A key as an object.
pub(crate) struct KeyLine<'a>(pub(crate) &'a Key);

impl Serialize for KeyLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        serialize_bytes(&mut map, "key", self.0.as_bytes())?;
        map.end()
    }
}

/// A key and its value, or `null`, as an object.
pub(crate) struct PairLine<'a>(pub(crate) &'a Key, pub(crate) Option<&'a [u8]>);

impl Serialize for PairLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        serialize_bytes(&mut map, "key", self.0.as_bytes())?;
        match self.1 {
            Some(value) => serialize_bytes(&mut map, "value", value)?,
            None => map.serialize_entry("value", &())?,
        }
        map.end()
    }
}

/// Prints keys, one a line.
pub(crate) fn show_keys(keys: &[Key], encoding: Encoding, out: &mut Output) -> Result<(), Failure> {
    for key in keys {
        out.answer(&KeyLine(key), || encoding.show(key.as_bytes()))?;
    }
    Ok(())
}

/// Prints pairs, one a line: key, tab, value.
pub(crate) fn show_pairs(
    pairs: &[KvPair],
    encoding: Encoding,
    out: &mut Output,
) -> Result<(), Failure> {
    for pair in pairs {
        let line = || {
            let (key, value) = (pair.key.as_bytes(), &pair.value);
            format!("{}\t{}", encoding.show(key), encoding.show(value))
        };
        out.answer(&PairLine(&pair.key, Some(&pair.value)), line)?;
    }
    Ok(())
}

/// Prints the value of one key; a key that is not there is said on stderr.
pub(crate) fn show_value(
    key: &Key,
    value: Option<&[u8]>,
    encoding: Encoding,
    out: &mut Output,
) -> Result<Status, Failure> {
    match value {
        Some(value) => out.answer(&PairLine(key, Some(value)), || encoding.show(value))?,
        None => {
            if out.is_json() {
                out.object(&PairLine(key, None))?;
            }
            crate::output::note(&format!("not found: {}", encoding.show(key.as_bytes())));
            return Ok(Status::Refused);
        }
    }
    Ok(Status::Done)
}

/// Keys named one by one.
pub(crate) fn keys(arguments: &[String], encoding: Encoding) -> Result<Vec<Key>, Failure> {
    let parse = |argument: &String| encoding.parse(argument).map(Key).map_err(Failure::usage);
    arguments.iter().map(parse).collect()
}

/// Keys and values that follow each other.
pub(crate) fn pairs(arguments: &[String], encoding: Encoding) -> Result<Vec<KvPair>, Failure> {
    let parse = |argument: &String| encoding.parse(argument).map_err(Failure::usage);
    let pairs = arguments.chunks(2).map(|pair| match pair {
        [key, value] => Ok(KvPair { key: Key(parse(key)?), value: parse(value)? }),
        _ => Err(Failure::usage("the last key has no value").advise("write KEY VALUE KEY VALUE …")),
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_runs_backward_is_refused() {
        assert!(range("a".into(), "b".into()).is_ok());
        assert!(range("a".into(), "".into()).is_ok());
        let failure = range("b".into(), "a".into()).expect_err("runs backward");
        assert_eq!(failure.status, Status::Usage);
    }

    #[test]
    fn pairs_come_in_twos() {
        let arguments = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let read = pairs(&arguments("a 1 b 2"), Encoding::Text).expect("two pairs");
        assert_eq!(read.len(), 2);
        assert!(pairs(&arguments("a 1 b"), Encoding::Text).is_err());
        assert!(pairs(&arguments("zz 1"), Encoding::Hex).is_err());
    }

    #[test]
    fn binary_survives_json() {
        let json = |key: &'static [u8], value| {
            serde_json::to_string(&PairLine(&Key::from(key), value)).expect("it is an object")
        };
        assert_eq!(json(b"k", Some(b"\n")), r#"{"key":"k","value":"\n"}"#);
        assert_eq!(json(b"\xFF", None), r#"{"key_hex":"ff","value":null}"#);
        assert_eq!(json(b"k", Some(b"\xFE\x01")), r#"{"key":"k","value_hex":"fe01"}"#);
    }
}
