//! Rows of keys and values in files.
//!
//! | format | a row | exported again |
//! |---|---|---|
//! | `csv` | a record of RFC 4180; two of its columns are key and value | those two columns |
//! | `jsonl` | a JSON object on a line; two of its members are key and value | those two members |
//! | `lines` | a line, which is the key; the value is empty | the line |
//!
//! Bytes are taken as they are, and nothing is trimmed or guessed. A file gives the same bytes
//! back, once imported and exported, when it is in the form that export writes: rows sorted by the
//! bytes of their keys, no key twice, lines that end in a line feed, and
//!
//! - in `csv` a head with the names of key and value in this order, and quotes around those fields
//!   only that hold the delimiter, a quote, a carriage return or a line feed;
//! - in `jsonl` no blanks between the tokens, the key before the value, no other members, and
//!   escapes only where JSON demands them. Bytes that are no UTF-8 stand in hexadecimal digits
//!   under the name of the member with `_hex` behind it.
//!
//! Reading is strict. A quote left open, text behind a closing quote, a record with too few or too
//! many fields: each is an error that names its line, never half a file in one value.

mod csv;
mod jsonl;

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use crate::exit::Failure;

/// Longest line or record that is read, in bytes. A value may have 6 MiB, and hexadecimal digits
/// double it; a file without line ends is refused before it fills the memory.
const RECORD_SIZE_MAX: usize = 32 * 1024 * 1024;

/// How rows are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// Comma-separated values, RFC 4180
    Csv,
    /// A JSON object on each line
    Jsonl,
    /// A key on each line; values are empty
    Lines,
}

/// The flags that describe a file.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// How rows are written; left out, told by the ending: .csv, .jsonl, .ndjson, .txt
    #[arg(long, value_enum)]
    format: Option<RowFormat>,
    /// Name of the column (csv) or member (jsonl) that holds the key; without a head its number,
    /// from 1
    #[arg(long, value_name = "NAME")]
    key_column: Option<String>,
    /// Name of the column (csv) or member (jsonl) that holds the value; without a head its number,
    /// from 1
    #[arg(long, value_name = "NAME")]
    value_column: Option<String>,
    /// The first line of the csv file is a row already
    #[arg(long)]
    no_header: bool,
    /// What separates the fields of a csv file; write tab for a tab
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = parse_delimiter)]
    delimiter: u8,
}

/// How a file is written, with all questions answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The format.
    pub(crate) format: RowFormat,
    /// Name of the key's column, or its number when there is no head.
    pub(crate) key: String,
    /// The same of the value.
    pub(crate) value: String,
    /// Whether a csv file begins with the names of its columns.
    pub(crate) has_head: bool,
    /// Between the fields of a csv file.
    pub(crate) delimiter: u8,
}

impl FormatArgs {
    /// The layout of the file called `name`.
    pub(crate) fn layout(&self, name: &str) -> Result<Layout, Failure> {
        let format = match self.format {
            Some(format) => format,
            None => guess(name).ok_or_else(|| {
                Failure::usage(format!("the name {name:?} does not tell how rows are written"))
                    .advise("add --format csv, jsonl or lines")
            })?,
        };
        let has_head = !self.no_header;
        let or = |given: &Option<String>, head: &str, number: &str| match given {
            Some(given) => given.clone(),
            None if has_head => head.to_owned(),
            None => number.to_owned(),
        };
        if self.no_header && format != RowFormat::Csv {
            return Err(Failure::usage("--no-header is about csv files"));
        }
        let names_columns = self.key_column.is_some() || self.value_column.is_some();
        if names_columns && format == RowFormat::Lines {
            return Err(Failure::usage("lines have no columns to name"));
        }
        Ok(Layout {
            format,
            key: or(&self.key_column, "key", "1"),
            value: or(&self.value_column, "value", "2"),
            has_head,
            delimiter: self.delimiter,
        })
    }
}

fn guess(name: &str) -> Option<RowFormat> {
    match Path::new(name).extension()?.to_str()? {
        "csv" => Some(RowFormat::Csv),
        "jsonl" | "ndjson" => Some(RowFormat::Jsonl),
        "txt" => Some(RowFormat::Lines),
        _ => None,
    }
}

fn parse_delimiter(argument: &str) -> Result<u8, String> {
    match argument.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [b'"' | b'\r' | b'\n'] => Err("cannot separate fields".to_owned()),
        [one] if one.is_ascii() => Ok(*one),
        _ => Err("must be one ASCII character, or tab".to_owned()),
    }
}

/// A row, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Line of its first byte, from 1.
    pub(crate) line: u64,
    /// The key, not empty.
    pub(crate) key: Bytes,
    /// The value.
    pub(crate) value: Bytes,
}

/// What is wrong with the input, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RowError {
    /// The line, from 1.
    pub(crate) line: u64,
    /// What is wrong.
    pub(crate) what: String,
}

impl RowError {
    fn new(line: u64, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads rows one after another.
pub(crate) struct Rows<R> {
    input: Lines<R>,
    layout: Layout,
    /// Where key and value stand in a csv record, once its head is read.
    columns: Option<csv::Columns>,
}

impl<R: BufRead> Rows<R> {
    /// Rows of `input`.
    pub(crate) fn new(input: R, layout: Layout) -> Self {
        Self { input: Lines::new(input), layout, columns: None }
    }

    /// The next row; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Row>, RowError> {
        let row = match self.layout.format {
            RowFormat::Csv => csv::next(&mut self.input, &self.layout, &mut self.columns),
            RowFormat::Jsonl => jsonl::next(&mut self.input, &self.layout),
            RowFormat::Lines => self.input.next().map(|line| {
                line.map(|line| Row {
                    line: self.input.line,
                    key: Bytes::copy_from_slice(without_end(&line)),
                    value: Bytes::new(),
                })
            }),
        }?;
        match row {
            Some(row) if row.key.is_empty() => Err(RowError::new(row.line, "the key is empty")),
            row => Ok(row),
        }
    }

    /// Names of columns that hold neither key nor value, once the first row is read.
    pub(crate) fn unused(&self) -> &[String] {
        self.columns.as_ref().map_or(&[], |columns| &columns.unused)
    }

    /// Bytes read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.input.bytes
    }
}

/// Lines of a file, counted.
pub(crate) struct Lines<R> {
    input: R,
    line: u64,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(input: R) -> Self {
        Self { input, line: 0, bytes: 0 }
    }

    /// The next line with its end; `None` at the end of the file. A mark that says "UTF-8" at the
    /// beginning of the file, which some spreadsheets write, is no part of the first line.
    fn next(&mut self) -> Result<Option<Vec<u8>>, RowError> {
        let mut line = Vec::new();
        self.line += 1;
        let limit = RECORD_SIZE_MAX as u64 + 1;
        let read = (&mut self.input).take(limit).read_until(b'\n', &mut line);
        if let Err(error) = read {
            return Err(RowError::new(self.line, format!("cannot be read: {error}")));
        }
        if line.len() > RECORD_SIZE_MAX {
            return Err(self.too_long());
        }
        self.bytes += line.len() as u64;
        if self.line == 1 && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        Ok((!line.is_empty()).then_some(line))
    }

    fn too_long(&self) -> RowError {
        let limit = RECORD_SIZE_MAX / (1024 * 1024);
        RowError::new(self.line, format!("longer than {limit} MiB"))
    }
}

/// The line without its line feed, and without a carriage return before that.
fn without_end(line: &[u8]) -> &[u8] {
    match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    }
}

/// Writes the head, if the layout has one.
pub(crate) fn write_head(out: &mut impl Write, layout: &Layout) -> io::Result<()> {
    match layout.format == RowFormat::Csv && layout.has_head {
        true => csv::write_record(out, layout, layout.key.as_bytes(), layout.value.as_bytes()),
        false => Ok(()),
    }
}

/// Writes one row; the message says why this format cannot hold it.
pub(crate) fn write_row(
    out: &mut impl Write,
    layout: &Layout,
    key: &[u8],
    value: &[u8],
) -> Result<io::Result<()>, String> {
    match layout.format {
        RowFormat::Csv => Ok(csv::write_record(out, layout, key, value)),
        RowFormat::Jsonl => Ok(jsonl::write_object(out, layout, key, value)),
        RowFormat::Lines => {
            let shown = key.escape_ascii();
            if key.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
                return Err(format!("the key {shown} is more than a line"));
            }
            if !value.is_empty() {
                return Err(format!("the value of {shown} is not empty and would be lost"));
            }
            Ok(out.write_all(key).and_then(|()| out.write_all(b"\n")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(format: RowFormat) -> Layout {
        Layout { format, key: "key".into(), value: "value".into(), has_head: true, delimiter: b',' }
    }

    fn read(layout: &Layout, text: &[u8]) -> Result<Vec<Row>, RowError> {
        let mut rows = Rows::new(text, layout.clone());
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            out.push(row);
        }
        Ok(out)
    }

    fn write(layout: &Layout, rows: &[Row]) -> Vec<u8> {
        let mut out = Vec::new();
        write_head(&mut out, layout).expect("memory takes it");
        for row in rows {
            let written = write_row(&mut out, layout, &row.key, &row.value);
            written.expect("the format holds it").expect("memory takes it");
        }
        out
    }

    fn error(format: RowFormat, text: &str) -> String {
        let read = read(&layout(format), text.as_bytes());
        read.expect_err("the text is wrong").to_string()
    }

    #[test]
    fn what_is_written_reads_back_to_the_byte() {
        let all: Vec<u8> = (0..=255).collect();
        let values: [&[u8]; 6] = [b"", b"plain", b"a,b", b"say \"hi\"", b"two\r\nlines\n", &all];
        for format in [RowFormat::Csv, RowFormat::Jsonl] {
            let layout = layout(format);
            let pairs = values.iter().enumerate();
            let rows: Vec<_> = pairs
                .map(|(position, value)| Row {
                    line: 0,
                    key: [b"k,\"\n\xFF", &[b'0' + position as u8][..]].concat().into(),
                    value: Bytes::copy_from_slice(value),
                })
                .collect();
            let written = write(&layout, &rows);
            let back = read(&layout, &written).expect("our own form");
            let pairs = |rows: &[Row]| -> Vec<_> {
                let pairs = rows.iter().map(|row| (row.key.clone(), row.value.clone()));
                pairs.collect()
            };
            assert_eq!(pairs(&back), pairs(&rows), "{format:?}");
            assert_eq!(write(&layout, &back), written, "{format:?}");
        }
    }

    #[test]
    fn a_file_in_our_form_comes_back_as_it_was() {
        let csv = "key,value\na,\nb,\"1,2\"\n\"c\"\"\",\"x\ny\"\nd, blanks stay \n";
        let jsonl = "{\"key\":\"a\",\"value\":\"ü\\n\"}\n{\"key_hex\":\"ff\",\"value\":\"\"}\n";
        let lines = "a\nb b\nÜ\n";
        let files = [(RowFormat::Csv, csv), (RowFormat::Jsonl, jsonl), (RowFormat::Lines, lines)];
        for (format, text) in files {
            let layout = layout(format);
            let rows = read(&layout, text.as_bytes()).expect("our own form");
            assert_eq!(String::from_utf8(write(&layout, &rows)).as_deref(), Ok(text));
        }
    }

    #[test]
    fn rows_know_their_line() {
        let text = "\u{FEFF}key,value\r\na,\"1\n2\"\r\nb,3";
        let rows = read(&layout(RowFormat::Csv), text.as_bytes()).expect("valid");
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4]);
        assert_eq!((&rows[0].key[..], &rows[0].value[..]), (&b"a"[..], &b"1\n2"[..]));
        assert_eq!((&rows[1].key[..], &rows[1].value[..]), (&b"b"[..], &b"3"[..]));
    }

    #[test]
    fn columns_are_found_by_name_or_by_number() {
        let mut by_name = layout(RowFormat::Csv);
        (by_name.key, by_name.value) = ("id".into(), "name".into());
        let rows = read(&by_name, b"name,x,id\nn,1,k\n").expect("valid");
        assert_eq!((&rows[0].key[..], &rows[0].value[..]), (&b"k"[..], &b"n"[..]));
        let mut rows = Rows::new(&b"name,x,id\nn,1,k\n"[..], by_name.clone());
        rows.next().expect("valid");
        assert_eq!(rows.unused(), ["x"]);

        let by_number = Layout { key: "3".into(), value: "1".into(), has_head: false, ..by_name };
        let rows = read(&by_number, b"n,1,k\n").expect("valid");
        assert_eq!((&rows[0].key[..], &rows[0].value[..]), (&b"k"[..], &b"n"[..]));
    }

    #[test]
    fn a_bad_line_is_named() {
        let csv = |text: &str| error(RowFormat::Csv, text);
        assert_eq!(csv("key,value\na,1\nb\n"), "line 3: 1 field, where the head has 2");
        assert_eq!(csv("key,value\na,1\n,2\n"), "line 3: the key is empty");
        assert_eq!(csv("key,value\na,\"1\nb,2\n"), "line 2: a quote is never closed");
        assert!(csv("key,value\na,\"1\"x\n").starts_with("line 2: text behind"));
        assert!(csv("key,value\na,5\" pipe\n").starts_with("line 2: a quote inside"));
        assert!(csv("key,value\na,1\rb,2\n").starts_with("line 2: a carriage return"));
        assert!(csv("id,value\n").contains("no column \"key\""));
        assert!(csv("key,key,value\n").contains("twice"));
        assert!(csv("").contains("empty"));
        let jsonl = |text: &str| error(RowFormat::Jsonl, text);
        let good = "{\"key\":\"a\",\"value\":\"1\"}\n";
        assert!(jsonl(&format!("{good}{{\"key\":\n")).starts_with("line 2: not JSON"));
        assert!(jsonl(&format!("{good}[1]\n")).starts_with("line 2: not a JSON object"));
        assert!(jsonl(&format!("{good}{{\"key\":\"a\"}}")).contains("no member \"value\""));
        assert!(jsonl("{\"key\":1,\"value\":\"\"}\n").contains("not text"));
        assert!(jsonl("{\"key_hex\":\"0\",\"value\":\"\"}\n").contains("odd"));
        assert!(jsonl("\n").starts_with("line 1"));
        assert_eq!(error(RowFormat::Lines, "a\n\nb\n"), "line 2: the key is empty");
    }

    #[test]
    fn lines_refuse_what_they_would_lose() {
        let layout = layout(RowFormat::Lines);
        let write = |key: &[u8], value: &[u8]| write_row(&mut Vec::new(), &layout, key, value);
        assert!(write(b"a", b"").is_ok());
        assert!(write(b"a", b"1").is_err_and(|why| why.contains("lost")));
        assert!(write(b"a\nb", b"").is_err_and(|why| why.contains("line")));
    }

    #[test]
    fn the_ending_tells_the_format() {
        assert_eq!(guess("a/b.csv"), Some(RowFormat::Csv));
        assert_eq!(guess("b.ndjson"), Some(RowFormat::Jsonl));
        assert_eq!(guess("words.txt"), Some(RowFormat::Lines));
        assert_eq!(guess("-"), None);
        assert_eq!(parse_delimiter("tab"), Ok(b'\t'));
        assert!(parse_delimiter("\"").is_err() && parse_delimiter("::").is_err());
    }
}
