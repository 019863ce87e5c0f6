//! `kiva ctl export`: keys and values become the rows of a file that `import` reads.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use kiva_base::KeyRange;
use kiva_client::{KvPair, Raw, Snapshot};
use serde_json::json;

use super::rows::{self, FormatArgs, Layout};
use super::scan::range;
use crate::connection::Connection;
use crate::encoding::EncodingArgs;
use crate::exit::{Failure, Status};
use crate::output::{Output, note, thousands};
use crate::progress;

/// Pairs read at a time, at most.
const PAGE_PAIRS_MAX: usize = 1_000;
/// Pairs of the first page: few enough for values of the largest size.
const PAGE_PAIRS_FIRST: usize = 16;
/// Bytes of a page above which the next one asks for fewer pairs, and below half of which for more.
const PAGE_SIZE: usize = 4 * 1024 * 1024;
/// Half of that.
const PAGE_HALF: usize = PAGE_SIZE / 2;

/// Flags of `kiva ctl export`.
#[derive(Debug, Args)]
#[command(after_help = "Rows come sorted by the bytes of their keys. A file that was written so \
gives the same bytes back when it is imported and exported again: csv with the head \"key,value\" \
(or the names you give), fields in quotes only where they hold the delimiter, a quote, a carriage \
return or a line feed, and lines that end in a line feed; jsonl without blanks, key before value.

Transactional keys are all shown as of one moment. Raw keys have no such moment: what is written \
during the export may be in the file or not.

Examples:
  kiva ctl export cities.csv
  kiva ctl export - --format jsonl --prefix user/
  kiva ctl export accounts.jsonl --txn --force")]
pub(crate) struct ExportArgs {
    /// The file; - is standard output
    file: String,
    #[command(flatten)]
    format: FormatArgs,
    /// Read without transactions, which is also what happens without this flag
    #[arg(long, conflicts_with = "txn")]
    raw: bool,
    /// Read with transactions: everything as of one moment
    #[arg(long)]
    txn: bool,
    /// Column family of raw keys
    #[arg(long, value_name = "NAME", default_value = "default", conflicts_with = "txn")]
    cf: String,
    /// All keys that begin with this
    #[arg(long, value_name = "KEY", conflicts_with_all = ["start", "end"])]
    prefix: Option<String>,
    /// First key; left out, the first there is
    #[arg(long, value_name = "KEY")]
    start: Option<String>,
    /// First key that is not exported; left out, all are
    #[arg(long, value_name = "KEY")]
    end: Option<String>,
    #[command(flatten)]
    encoding: EncodingArgs,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// Reads, writes, and tells how many rows.
pub(crate) async fn run(
    args: &ExportArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let layout = args.format.layout(&args.file)?;
    let all = wanted(args)?;
    let target = Target::open(&args.file, args.force)?;
    let client = connection.connect(connection.options()).await?;
    let source = match args.txn {
        true => Source::Txn(client.snapshot(client.timestamp().await?)),
        false => Source::Raw(client.raw().with_cf(args.cf.as_str())),
    };
    let bar = progress::counting();
    let copied = target.fill(source, all, &layout, &bar).await;
    bar.finish_and_clear();
    let (rows, is_stdout) = copied?;
    let done = format!("{} rows exported", thousands(rows));
    match is_stdout {
        // Standard output holds the rows.
        true => note(&done),
        false => out.answer(&json!({ "rows": rows }), || done)?,
    }
    Ok(Status::Done)
}

fn wanted(args: &ExportArgs) -> Result<KeyRange, Failure> {
    let encoding = args.encoding.get();
    let parse = |argument: &Option<String>| match argument {
        Some(argument) => encoding.parse(argument).map_err(Failure::usage),
        None => Ok(Bytes::new()),
    };
    match &args.prefix {
        Some(_) => Ok(KeyRange::prefix(parse(&args.prefix)?)),
        None => range(parse(&args.start)?, parse(&args.end)?),
    }
}

/// Where pairs come from.
enum Source {
    Raw(Raw),
    Txn(Snapshot),
}

impl Source {
    async fn page(&self, range: KeyRange, limit: usize) -> Result<Vec<KvPair>, Failure> {
        match self {
            Self::Raw(raw) => Ok(raw.scan(range, limit).await?),
            Self::Txn(snapshot) => Ok(snapshot.scan(range, limit).await?),
        }
    }
}

/// Where rows go. A file has its name only once it is whole; until then it is `NAME.partial`.
enum Target {
    Stdout,
    File { name: String, partial: String },
}

impl Target {
    fn open(name: &str, force: bool) -> Result<Self, Failure> {
        if name == "-" {
            return Ok(Self::Stdout);
        }
        if !force && fs::exists(name)? {
            return Err(Failure::refused(format!("{name} exists"))
                .advise("choose another name, or replace it with --force"));
        }
        Ok(Self::File { name: name.to_owned(), partial: format!("{name}.partial") })
    }

    /// Writes all rows; tells how many, and whether they went to standard output.
    async fn fill(
        self,
        source: Source,
        all: KeyRange,
        layout: &Layout,
        bar: &ProgressBar,
    ) -> Result<(u64, bool), Failure> {
        match self {
            Self::Stdout => {
                let rows = copy(source, all, layout, &mut io::stdout().lock(), bar).await?;
                Ok((rows, true))
            }
            Self::File { name, partial } => {
                let cannot =
                    |error: io::Error| Failure::refused(format!("cannot write {name}: {error}"));
                let mut file = File::create(&partial).map_err(cannot)?;
                let copied = copy(source, all, layout, &mut file, bar).await;
                let renamed = match copied {
                    Ok(rows) => fs::rename(&partial, &name).map_err(cannot).map(|()| rows),
                    Err(failure) => Err(failure),
                };
                if renamed.is_err() {
                    // Half a file would pass for a whole one; if it cannot be removed either, its
                    // name still tells.
                    let _ = fs::remove_file(&partial);
                }
                Ok((renamed?, false))
            }
        }
    }
}

async fn copy(
    source: Source,
    all: KeyRange,
    layout: &Layout,
    out: &mut impl Write,
    bar: &ProgressBar,
) -> Result<u64, Failure> {
    let mut out = BufWriter::new(out);
    rows::write_head(&mut out, layout)?;
    let (mut rows, mut rest, mut limit) = (0, all, PAGE_PAIRS_FIRST);
    loop {
        let page = source.page(rest.clone(), limit).await?;
        for pair in &page {
            let written = rows::write_row(&mut out, layout, pair.key.as_bytes(), &pair.value);
            written.map_err(|why| Failure::refused(why).advise("use --format csv or jsonl"))??;
        }
        rows += page.len() as u64;
        bar.set_message(format!("{} rows", thousands(rows)));
        let last = match page.last() {
            Some(last) if page.len() == limit => last,
            _ => break,
        };
        let next = [last.key.as_bytes(), b"\0"].concat();
        rest = range(next.into(), rest.end().clone())?;
        limit = next_limit(limit, &page);
    }
    out.flush()?;
    Ok(rows)
}

/// How many pairs to ask for after `page`, which had `limit` of them.
fn next_limit(limit: usize, page: &[KvPair]) -> usize {
    let sizes = page.iter().map(|pair| pair.key.as_bytes().len() + pair.value.len());
    match sizes.sum::<usize>() {
        ..PAGE_HALF => (limit * 2).min(PAGE_PAIRS_MAX),
        PAGE_HALF..=PAGE_SIZE => limit,
        _ => (limit / 2).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_large_values_have_few_pairs() {
        let page = |count, size| {
            let pair = KvPair { key: "k".into(), value: vec![0; size].into() };
            vec![pair; count]
        };
        assert_eq!(next_limit(16, &page(16, 10)), 32);
        assert_eq!(next_limit(600, &page(600, 10)), PAGE_PAIRS_MAX);
        assert_eq!(next_limit(16, &page(16, 200 * 1024)), 16);
        assert_eq!(next_limit(16, &page(16, 6 * 1024 * 1024)), 8);
        assert_eq!(next_limit(1, &page(1, 6 * 1024 * 1024)), 1);
    }
}
