//! How bytes of a user are written on a command line and shown in an answer.
//!
//! | encoding | argument | answer |
//! |---|---|---|
//! | `text` | the bytes of the argument | printable text as it is, the rest as `\xNN` |
//! | `hex` | hexadecimal digits, with or without `0x` | hexadecimal digits |
//! | `escaped` | text with escapes | ASCII with escapes |
//!
//! Escapes are `\xNN`, `\n`, `\r`, `\t`, `\0`, `\\`, `\"`, `\'`; each stands for one byte. What
//! `escaped` shows it also reads back. So does `text`, while there is nothing to escape.

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde::ser::SerializeMap;

/// How keys and values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// As it is; what cannot be printed is shown as \xNN
    Text,
    /// Hexadecimal digits
    Hex,
    /// ASCII, with \xNN, \n, \r, \t, \0, \\ for other bytes
    Escaped,
}

/// The choice on a command line.
#[derive(Debug, Clone, Args)]
pub(crate) struct EncodingArgs {
    /// How keys and values are written, in arguments and in the answer
    #[arg(long, value_enum, default_value = "text", global = true)]
    encoding: Encoding,
    /// Short for --encoding hex
    #[arg(long, global = true, conflicts_with = "encoding")]
    hex: bool,
}

impl EncodingArgs {
    /// What was chosen.
    pub(crate) fn get(&self) -> Encoding {
        match self.hex {
            true => Encoding::Hex,
            false => self.encoding,
        }
    }
}

impl Encoding {
    /// The bytes that an argument stands for, or what is wrong with it.
    pub(crate) fn parse(self, argument: &str) -> Result<Bytes, String> {
        match self {
            Self::Text => Ok(Bytes::copy_from_slice(argument.as_bytes())),
            Self::Hex => parse_hex(argument),
            Self::Escaped => parse_escaped(argument),
        }
    }

    /// Bytes for a person to read, on one line.
    pub(crate) fn show(self, bytes: &[u8]) -> String {
        match self {
            Self::Text => show_text(bytes),
            Self::Hex => show_hex(bytes),
            Self::Escaped => bytes.escape_ascii().to_string(),
        }
    }
}

fn parse_hex(argument: &str) -> Result<Bytes, String> {
    let digits = argument.strip_prefix("0x").unwrap_or(argument).as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(format!("{argument:?} has an odd number of hexadecimal digits"));
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or_else(|| format!("{argument:?} is not hexadecimal"))
    };
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect::<Result<Vec<u8>, String>>()
        .map(Bytes::from)
}

fn parse_escaped(argument: &str) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(argument.len());
    let mut rest = argument.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match rest.next() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(quoted @ (b'\\' | b'"' | b'\'')) => quoted,
            Some(b'x') => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                match (digit(), digit()) {
                    // Two hexadecimal digits are below 256.
                    (Some(high), Some(low)) => (high << 4 | low) as u8,
                    _ => return Err(format!("{argument:?}: \\x needs two hexadecimal digits")),
                }
            }
            _ => {
                return Err(format!(
                    "{argument:?}: a backslash is written \\\\, other bytes \\xNN"
                ));
            }
        });
    }
    Ok(out.into())
}

/// Hexadecimal digits.
pub(crate) fn show_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Printable characters as they are; of the others, which could move the cursor or turn the
/// direction of writing, the bytes.
fn show_text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut shown = character.escape_debug();
            let is_printable = shown.next() == Some(character) || matches!(character, '"' | '\'');
            let mut buffer = [0; 4];
            match is_printable && character != '\\' {
                true => out.push(character),
                false => escape(character.encode_utf8(&mut buffer).as_bytes(), &mut out),
            }
        }
        escape(chunk.invalid(), &mut out);
    }
    out
}

fn escape(bytes: &[u8], out: &mut String) {
    out.extend(bytes.escape_ascii().map(char::from));
}

/// A member of a JSON object that holds bytes: text under its own name, and what is no UTF-8 in
/// hexadecimal digits under `NAME_hex`, so that nothing is lost.
pub(crate) fn serialize_bytes<M: SerializeMap>(
    map: &mut M,
    name: &str,
    bytes: &[u8],
) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(name, text),
        Err(_) => map.serialize_entry(&format!("{name}_hex"), &show_hex(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_escaped_read_back_what_they_show() {
        let all: Vec<u8> = (0..=255).collect();
        for encoding in [Encoding::Hex, Encoding::Escaped] {
            let shown = encoding.show(&all);
            assert!(shown.is_ascii() && !shown.contains('\n'));
            assert_eq!(encoding.parse(&shown).as_deref(), Ok(&all[..]));
        }
        assert_eq!(Encoding::Hex.parse("0x00fF").as_deref(), Ok(&b"\0\xFF"[..]));
    }

    #[test]
    fn text_is_shown_as_it_is_unless_it_could_move_the_cursor() {
        let show = |text: &str| Encoding::Text.show(text.as_bytes());
        assert_eq!(show("Grüße, 世界 \"'"), "Grüße, 世界 \"'");
        assert_eq!(show("a\x1b[2Jb\n"), r"a\x1b[2Jb\n");
        assert_eq!(show(r"back\slash"), r"back\\slash");
        assert_eq!(show("\u{202E}"), r"\xe2\x80\xae");
        assert_eq!(Encoding::Text.show(b"ok\xFF\xFE"), r"ok\xff\xfe");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(Encoding::Hex.parse("abc").is_err_and(|e| e.contains("odd")));
        assert!(Encoding::Hex.parse("zz").is_err_and(|e| e.contains("not hex")));
        assert!(Encoding::Hex.parse("0xé").is_err());
        assert!(Encoding::Escaped.parse(r"\x4").is_err_and(|e| e.contains("two")));
        assert!(Encoding::Escaped.parse(r"\q").is_err());
        assert!(Encoding::Escaped.parse("\\").is_err());
    }
}
