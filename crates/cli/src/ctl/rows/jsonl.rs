//! A JSON object on each line.

use std::io::{self, BufRead, Write};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Layout, Lines, Row, RowError, without_end};
use crate::encoding::{Encoding, show_hex};

/// The next row.
pub(super) fn next<R: BufRead>(
    input: &mut Lines<R>,
    layout: &Layout,
) -> Result<Option<Row>, RowError> {
    let Some(text) = input.next()? else {
        return Ok(None);
    };
    let line = input.line;
    let wrong = |what: String| RowError::new(line, what);
    let object = match serde_json::from_slice(without_end(&text)) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(wrong("not a JSON object".to_owned())),
        Err(error) => return Err(wrong(not_json(&error))),
    };
    Ok(Some(Row {
        line,
        key: member(&object, &layout.key).map_err(wrong)?,
        value: member(&object, &layout.value).map_err(wrong)?,
    }))
}

/// The parser counts lines too, but in a text of one line.
fn not_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("not JSON: {what}, column {}", error.column())
}

fn member(object: &Map<String, Value>, name: &str) -> Result<Bytes, String> {
    let hex = format!("{name}_hex");
    match (object.get(name), object.get(&hex)) {
        (Some(_), Some(_)) => Err(format!("both {name:?} and {hex:?}")),
        (Some(Value::String(text)), None) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        (None, Some(Value::String(digits))) => Encoding::Hex.parse(digits),
        (None, None) => Err(format!("there is no member {name:?}")),
        _ => Err(format!("{name:?} is not text; write it between quotes")),
    }
}

/// Writes an object of two members.
pub(super) fn write_object(
    out: &mut impl Write,
    layout: &Layout,
    key: &[u8],
    value: &[u8],
) -> io::Result<()> {
    out.write_all(b"{")?;
    write_member(out, &layout.key, key)?;
    out.write_all(b",")?;
    write_member(out, &layout.value, value)?;
    out.write_all(b"}\n")
}

fn write_member(out: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (name, text) = match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text.to_owned()),
        Err(_) => (format!("{name}_hex"), show_hex(bytes)),
    };
    serde_json::to_writer(&mut *out, &name)?;
    out.write_all(b":")?;
    serde_json::to_writer(out, &text)?;
    Ok(())
}
