//! Comma-separated values as RFC 4180 has them, and nothing looser: what another reader would
//! guess about, this one refuses.

use std::io::{self, BufRead, Write};
use std::iter;

use bytes::Bytes;

use super::{Layout, Lines, RECORD_SIZE_MAX, Row, RowError};

/// Where key and value stand in a record.
#[derive(Debug)]
pub(crate) struct Columns {
    key: usize,
    value: usize,
    count: usize,
    /// Names of the columns that are neither.
    pub(super) unused: Vec<String>,
}

/// One record, and the line it begins in.
struct Record {
    line: u64,
    fields: Vec<Vec<u8>>,
}

/// The next row.
pub(super) fn next<R: BufRead>(
    input: &mut Lines<R>,
    layout: &Layout,
    columns: &mut Option<Columns>,
) -> Result<Option<Row>, RowError> {
    let mut record = read(input, layout.delimiter)?;
    let columns = match (columns.as_ref(), record.as_ref()) {
        (Some(columns), _) => columns,
        (None, None) => return Err(RowError::new(1, "the file is empty")),
        (None, Some(first)) if layout.has_head => {
            let found = by_name(first, layout)?;
            record = read(input, layout.delimiter)?;
            columns.insert(found)
        }
        (None, Some(first)) => columns.insert(by_number(first, layout)?),
    };
    let Some(Record { line, mut fields }) = record else {
        return Ok(None);
    };
    if fields.len() != columns.count {
        let (count, plural) = (fields.len(), if fields.len() == 1 { "" } else { "s" });
        let first = if layout.has_head { "head" } else { "first row" };
        let what = format!("{count} field{plural}, where the {first} has {}", columns.count);
        return Err(RowError::new(line, what));
    }
    let mut take = |position: usize| fields.get_mut(position).map(std::mem::take);
    let (key, value) = (take(columns.key), take(columns.value));
    Ok(Some(Row {
        line,
        key: Bytes::from(key.unwrap_or_default()),
        value: Bytes::from(value.unwrap_or_default()),
    }))
}

fn by_name(head: &Record, layout: &Layout) -> Result<Columns, RowError> {
    let names = head.fields.iter();
    let names: Vec<_> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let position = |wanted: &str| {
        let mut found = (0..names.len()).filter(|&position| names[position] == wanted);
        match (found.next(), found.next()) {
            (Some(position), None) => Ok(position),
            (Some(_), Some(_)) => Err(format!("the column {wanted:?} is there twice")),
            (None, _) => Err(format!(
                "there is no column {wanted:?} among {names:?}; name it with --key-column and \
                 --value-column, or say --no-header"
            )),
        }
    };
    let (key, value) = position(&layout.key)
        .and_then(|key| Ok((key, position(&layout.value)?)))
        .map_err(|what| RowError::new(head.line, what))?;
    if key == value {
        return Err(RowError::new(head.line, "key and value are the same column"));
    }
    let unused = names.iter().enumerate();
    let unused = unused.filter(|(position, _)| ![key, value].contains(position));
    Ok(Columns {
        key,
        value,
        count: names.len(),
        unused: unused.map(|(_, name)| name.clone()).collect(),
    })
}

fn by_number(first: &Record, layout: &Layout) -> Result<Columns, RowError> {
    let count = first.fields.len();
    let position = |number: &str| match number.parse() {
        Ok(number) if (1..=count).contains(&number) => Ok(number - 1),
        _ => {
            let what = format!("there is no column {number}: the first row has {count}");
            Err(RowError::new(first.line, what))
        }
    };
    let (key, value) = (position(&layout.key)?, position(&layout.value)?);
    if key == value {
        return Err(RowError::new(first.line, "key and value are the same column"));
    }
    let unused = (0..count).filter(|position| ![key, value].contains(position));
    Ok(Columns {
        key,
        value,
        count,
        unused: unused.map(|position| format!("{}", position + 1)).collect(),
    })
}

/// Where in a record the reader is.
enum Place {
    /// Before the first byte of a field.
    Start,
    /// Inside a field without quotes.
    Plain,
    /// Between quotes, the first of which is in this line.
    Quoted(u64),
    /// Behind a quote that closes the field, unless another follows, which makes them one.
    Closed(u64),
}

/// The next record, which may go over several lines; `None` at the end of the file.
fn read<R: BufRead>(input: &mut Lines<R>, delimiter: u8) -> Result<Option<Record>, RowError> {
    let Some(mut line) = input.next()? else {
        return Ok(None);
    };
    let mut record = Record { line: input.line, fields: Vec::new() };
    let (mut field, mut place, mut size) = (Vec::new(), Place::Start, 0);
    loop {
        size += line.len();
        if size > RECORD_SIZE_MAX {
            return Err(input.too_long());
        }
        let wrong = |what: &str| Err(RowError::new(input.line, what));
        let nexts = line.iter().skip(1).copied().map(Some).chain(iter::once(None));
        for (&byte, next) in line.iter().zip(nexts) {
            let is_end = byte == b'\n' || byte == b'\r' && next == Some(b'\n');
            place = match place {
                Place::Quoted(opened) if byte == b'"' => Place::Closed(opened),
                Place::Quoted(opened) => {
                    field.push(byte);
                    Place::Quoted(opened)
                }
                Place::Closed(opened) if byte == b'"' => {
                    field.push(byte);
                    Place::Quoted(opened)
                }
                Place::Start if byte == b'"' => Place::Quoted(input.line),
                _ if byte == delimiter => {
                    record.fields.push(std::mem::take(&mut field));
                    Place::Start
                }
                _ if is_end => {
                    record.fields.push(field);
                    return Ok(Some(record));
                }
                Place::Closed(_) => {
                    return wrong("text behind a closing quote; write a quote inside as two");
                }
                Place::Start | Place::Plain if byte == b'"' => {
                    return wrong(
                        "a quote inside a field that does not begin with one; put the field in \
                         quotes, and write the quote inside as two",
                    );
                }
                Place::Start | Place::Plain if byte == b'\r' => {
                    return wrong("a carriage return inside a field without quotes");
                }
                Place::Start | Place::Plain => {
                    field.push(byte);
                    Place::Plain
                }
            };
        }
        line = match (input.next()?, place) {
            (Some(line), Place::Quoted(opened)) => {
                place = Place::Quoted(opened);
                line
            }
            (None, Place::Quoted(opened)) => {
                return Err(RowError::new(opened, "a quote is never closed"));
            }
            // Without a line feed there was no more to read: the last line of the file.
            (_, Place::Start | Place::Plain | Place::Closed(_)) => {
                record.fields.push(field);
                return Ok(Some(record));
            }
        };
    }
}

/// Writes a record of two fields.
pub(super) fn write_record(
    out: &mut impl Write,
    layout: &Layout,
    key: &[u8],
    value: &[u8],
) -> io::Result<()> {
    write_field(out, layout.delimiter, key)?;
    out.write_all(&[layout.delimiter])?;
    write_field(out, layout.delimiter, value)?;
    out.write_all(b"\n")
}

fn write_field(out: &mut impl Write, delimiter: u8, field: &[u8]) -> io::Result<()> {
    let needs_quotes = |&byte: &u8| byte == delimiter || matches!(byte, b'"' | b'\r' | b'\n');
    if !field.iter().any(needs_quotes) {
        return out.write_all(field);
    }
    out.write_all(b"\"")?;
    for (position, part) in field.split(|&byte| byte == b'"').enumerate() {
        if position > 0 {
            out.write_all(b"\"\"")?;
        }
        out.write_all(part)?;
    }
    out.write_all(b"\"")
}
