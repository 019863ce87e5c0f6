//! `kiva ctl import`: the rows of a file become keys and values.
//!
//! Rows are written in the order of the file, one batch after another, so that the number of rows
//! written is exact when something stops the import, and the last row of a key wins. Importing the
//! same file again writes the same values again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use kiva_base::Key;
use kiva_client::{Client, KvPair, Raw};
use serde_json::json;

use super::rows::{FormatArgs, Row, Rows};
use crate::connection::Connection;
use crate::exit::{Failure, Status};
use crate::output::{Output, note, thousands};
use crate::progress;
use crate::signals::Signals;

/// Rows of one batch. Large enough that the way to the store does not count, small enough for a
/// transaction that others may meet.
const BATCH_ROWS_MAX: usize = 1_000;
/// Bytes of one batch, after which no more rows are added.
const BATCH_SIZE_MAX: usize = 1024 * 1024;

/// Flags of `kiva ctl import`.
#[derive(Debug, Args)]
#[command(after_help = "A row is a key and its value. Bytes are taken as they are. The last row \
of a key wins. What is wrong with the file is told with its line, after all rows before it were \
written; --check reads the whole file and writes nothing.

csv     RFC 4180 with a head; the columns \"key\" and \"value\", or those you name. Strict: a quote
        inside a field means that the field is in quotes, and every record has all fields.
jsonl   an object on each line; the members \"key\" and \"value\", or those you name. Bytes that are
        no UTF-8 stand in hexadecimal digits under the name with _hex behind it.
lines   a key on each line; values are empty.

Examples:
  kiva ctl import cities.csv --key-column id --value-column name
  kiva ctl import words.txt --txn
  zcat dump.jsonl.gz | kiva ctl import - --format jsonl
  kiva ctl import table.csv --no-header --key-column 3 --value-column 1 --check")]
pub(crate) struct ImportArgs {
    /// The file; - is standard input
    file: String,
    #[command(flatten)]
    format: FormatArgs,
    /// Write without transactions, which is also what happens without this flag
    #[arg(long, conflicts_with = "txn")]
    raw: bool,
    /// Write with transactions, one for each thousand rows
    #[arg(long)]
    txn: bool,
    /// Column family of raw keys
    #[arg(long, value_name = "NAME", default_value = "default", conflicts_with = "txn")]
    cf: String,
    /// Seconds that raw keys will live; left out, for ever
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true,
        conflicts_with = "txn"
    )]
    ttl: u64,
    /// Read everything and write nothing
    #[arg(long)]
    check: bool,
}

/// Reads, writes, and tells how many rows.
pub(crate) async fn run(
    args: &ImportArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let layout = args.format.layout(&args.file)?;
    let (input, size) = open(&args.file)?;
    let sink = match args.check {
        true => Sink::Nowhere,
        false => {
            let client = connection.connect(connection.options()).await?;
            match args.txn {
                true => Sink::Txn(client),
                false => {
                    let raw = client.raw().with_cf(args.cf.as_str());
                    Sink::Raw(raw, Duration::from_secs(args.ttl))
                }
            }
        }
    };
    let bar = progress::over_bytes(size);
    let mut rows = Rows::new(input, layout);
    let mut written = 0;
    // A signal is looked for between batches. Who types the rows has other ways to stop.
    let mut signals = match args.file.as_str() {
        "-" => None,
        _ => Some(Signals::listen()?),
    };
    let outcome = copy(&mut rows, &sink, &mut written, &bar, signals.as_mut()).await;
    bar.finish_and_clear();
    if let Err(failure) = outcome {
        return Err(explain(failure, written, args.check));
    }
    if !rows.unused().is_empty() {
        note(&format!("columns that were not used: {}", rows.unused().join(", ")));
    }
    let object = json!({ "rows": written, "written": !args.check });
    out.answer(&object, || {
        let done = if args.check { "are good" } else { "written" };
        format!("{} rows {done}", thousands(written))
    })?;
    Ok(Status::Done)
}

fn open(file: &str) -> Result<(Box<dyn BufRead>, Option<u64>), Failure> {
    if file == "-" {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let cannot = |error| Failure::refused(format!("cannot open {file}: {error}"));
    let opened = File::open(file).map_err(cannot)?;
    let size = opened.metadata().map_err(cannot)?.len();
    Ok((Box::new(BufReader::new(opened)), Some(size)))
}

/// The same failure, with what is known about the rows before it.
fn explain(failure: Failure, written: u64, is_check: bool) -> Failure {
    let rows = thousands(written);
    let before = match is_check {
        true => format!("the {rows} rows before it are good; nothing was written"),
        false => format!("the {rows} rows before it are written"),
    };
    let advice = match failure.advice.as_deref() {
        Some(advice) => format!("{before}; {advice}"),
        None if is_check => before,
        None => {
            format!("{before}; correct it and import again, which writes the same values again")
        }
    };
    failure.advise(advice)
}

/// Where rows go.
enum Sink {
    Raw(Raw, Duration),
    Txn(Client),
    Nowhere,
}

impl Sink {
    async fn write(&self, pairs: Vec<KvPair>) -> Result<(), Failure> {
        match self {
            Self::Raw(raw, ttl) => raw.batch_put(pairs, *ttl).await?,
            Self::Txn(client) => {
                let mut transaction = client.begin().await?;
                for pair in pairs {
                    transaction.put(pair.key, pair.value);
                }
                // The process may end next: what is left to do is done now.
                let committed = transaction.commit_primary().await?;
                if let Some(secondaries) = committed.and_then(|committed| committed.secondaries) {
                    secondaries.await;
                }
            }
            Self::Nowhere => {}
        }
        Ok(())
    }
}

/// Rows that will be written together. Of two with the same key only the later one is left.
#[derive(Default)]
struct Batch {
    rows: u64,
    size: usize,
    pairs: BTreeMap<Bytes, (u64, Bytes)>,
}

impl Batch {
    fn add(&mut self, row: Row) {
        self.rows += 1;
        self.size += row.key.len() + row.value.len();
        self.pairs.insert(row.key, (row.line, row.value));
    }

    fn is_full(&self) -> bool {
        self.pairs.len() >= BATCH_ROWS_MAX || self.size >= BATCH_SIZE_MAX
    }
}

async fn copy<R: BufRead>(
    rows: &mut Rows<R>,
    sink: &Sink,
    written: &mut u64,
    bar: &ProgressBar,
    mut signals: Option<&mut Signals>,
) -> Result<(), Failure> {
    let mut batch = Batch::default();
    loop {
        let row = rows.next();
        let ended = match row {
            Ok(Some(row)) => {
                batch.add(row);
                None
            }
            Ok(None) => Some(Ok(())),
            Err(error) => Some(Err(Failure::refused(error))),
        };
        if batch.is_full() || ended.is_some() && batch.rows > 0 {
            write(std::mem::take(&mut batch), sink, written).await?;
            bar.set_position(rows.bytes());
            bar.set_message(format!("{} rows", thousands(*written)));
            if let Some(signals) = &mut signals
                && signals.came().await
            {
                return Err(Failure::refused("stopped by a signal before the end of the file")
                    .advise("import it again to write the rest"));
            }
        }
        if let Some(ended) = ended {
            return ended;
        }
    }
}

/// Writes a batch. When it is refused its rows are written one by one, in the order of the file,
/// to find the line that is to blame.
async fn write(batch: Batch, sink: &Sink, written: &mut u64) -> Result<(), Failure> {
    let pairs = batch.pairs.iter().map(|(key, (_, value))| pair(key, value));
    let failure = match sink.write(pairs.collect()).await {
        Ok(()) => {
            *written += batch.rows;
            return Ok(());
        }
        Err(failure) => failure,
    };
    let mut rows: Vec<_> = batch.pairs.iter().collect();
    rows.sort_by_key(|(_, (line, _))| *line);
    if failure.status != Status::Refused {
        let line = |row: Option<&(&Bytes, &(u64, Bytes))>| row.map_or(0, |(_, (line, _))| *line);
        let (first, last) = (line(rows.first()), line(rows.last()));
        return Err(failure.about(format!("lines {first} to {last}")));
    }
    for (key, (line, value)) in rows {
        let alone = sink.write(vec![pair(key, value)]).await;
        alone.map_err(|failure| failure.about(format!("line {line}")))?;
        *written += 1;
    }
    // Each row alone was taken, though not all together.
    Ok(())
}

fn pair(key: &Bytes, value: &Bytes) -> KvPair {
    KvPair { key: Key(key.clone()), value: value.clone() }
}
