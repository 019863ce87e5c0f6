//! `kiva ctl raw`: keys and values without transactions.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use kiva_base::{Key, KeyRange};
use kiva_client::{Raw, Ttl};
use serde_json::json;

use super::scan::{self, RangeArgs, ScanArgs};
use crate::connection::Connection;
use crate::encoding::{Encoding, EncodingArgs};
use crate::exit::{Failure, Status};
use crate::output::Output;

/// Flags of `kiva ctl raw`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kiva ctl raw put fruit apple
  kiva ctl raw get fruit
  kiva ctl raw scan --prefix fr --limit 10
  kiva ctl raw scan 0x66 0x67 --hex --reverse
  kiva ctl raw cas fruit pear --previous apple")]
pub(crate) struct RawArgs {
    #[command(flatten)]
    encoding: EncodingArgs,
    /// Column family: default, lock or write
    #[arg(long, value_name = "NAME", default_value = "default", global = true)]
    cf: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the value of a key
    Get {
        /// The key
        key: String,
    },
    /// Give a key a value
    Put {
        /// The key
        key: String,
        /// Its value
        value: String,
        #[command(flatten)]
        ttl: TtlArgs,
    },
    /// Remove a key; absence is success
    Delete {
        /// The key
        key: String,
    },
    /// Remove all keys of a range
    DeleteRange(RangeArgs),
    /// Show keys and values in order
    Scan(ScanArgs),
    /// Show the values of several keys; those that are not there are left out
    BatchGet {
        /// The keys
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Give several keys values
    BatchPut {
        /// Keys, each followed by its value
        #[arg(required = true, value_name = "KEY VALUE")]
        pairs: Vec<String>,
        #[command(flatten)]
        ttl: TtlArgs,
    },
    /// Remove several keys
    BatchDelete {
        /// The keys
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Show the first pairs of several ranges
    BatchScan {
        /// First keys, each followed by the first key behind its range
        #[arg(required = true, value_name = "START END")]
        bounds: Vec<String>,
        /// Most pairs of each range to show
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = scan::parse_limit)]
        limit: usize,
    },
    /// Show how long a key will live
    Ttl {
        /// The key
        key: String,
    },
    /// Give a key a value if it has the one that is expected
    Cas {
        /// The key
        key: String,
        /// Its new value
        value: String,
        /// The value it must have; left out, it must have none
        #[arg(long, value_name = "VALUE")]
        previous: Option<String>,
        #[command(flatten)]
        ttl: TtlArgs,
    },
    /// Show a digest of all pairs of a range
    Checksum(RangeArgs),
}

#[derive(Debug, Args)]
struct TtlArgs {
    /// Seconds the key will live; left out, for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true)]
    ttl: u64,
}

impl TtlArgs {
    fn get(&self) -> Duration {
        Duration::from_secs(self.ttl)
    }
}

/// Asks and answers.
pub(crate) async fn run(
    args: RawArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let encoding = args.encoding.get();
    let parse = |argument: &str| encoding.parse(argument).map_err(Failure::usage);
    let raw = async || -> Result<Raw, Failure> {
        let client = connection.connect(connection.options()).await?;
        Ok(client.raw().with_cf(args.cf.as_str()))
    };
    // Arguments are read before anybody is connected to: what is wrong with them needs no cluster.
    match args.verb {
        Verb::Get { key } => {
            let key = Key(parse(&key)?);
            let value = raw().await?.get(key.clone()).await?;
            return scan::show_value(&key, value.as_deref(), encoding, out);
        }
        Verb::Put { key, value, ttl } => {
            let (key, value) = (Key(parse(&key)?), parse(&value)?);
            raw().await?.put_with_ttl(key, value, ttl.get()).await?;
            done(out)?;
        }
        Verb::Delete { key } => {
            let key = Key(parse(&key)?);
            raw().await?.delete(key).await?;
            done(out)?;
        }
        Verb::DeleteRange(range) => {
            let range = range.get(encoding)?;
            raw().await?.delete_range(range).await?;
            done(out)?;
        }
        Verb::Scan(args) => show_scan(&raw, &args, encoding, out).await?,
        Verb::BatchGet { keys } => {
            let keys = scan::keys(&keys, encoding)?;
            let asked = keys.len();
            let pairs = raw().await?.batch_get(keys).await?;
            scan::show_pairs(&pairs, encoding, out)?;
            if pairs.len() < asked {
                let missing = asked - pairs.len();
                crate::output::note(&format!("not found: {missing} of {asked} keys"));
                return Ok(Status::Refused);
            }
        }
        Verb::BatchPut { pairs, ttl } => {
            let pairs = scan::pairs(&pairs, encoding)?;
            raw().await?.batch_put(pairs, ttl.get()).await?;
            done(out)?;
        }
        Verb::BatchDelete { keys } => {
            let keys = scan::keys(&keys, encoding)?;
            raw().await?.batch_delete(keys).await?;
            done(out)?;
        }
        Verb::BatchScan { bounds, limit } => {
            let ranges = ranges(&bounds, encoding)?;
            for pairs in raw().await?.batch_scan(ranges, limit).await? {
                scan::show_pairs(&pairs, encoding, out)?;
            }
        }
        Verb::Ttl { key } => {
            let key = Key(parse(&key)?);
            return match raw().await?.get_ttl(key.clone()).await? {
                Some(Ttl::Never) => {
                    out.answer(&json!({ "ttl_seconds": null }), || "for ever".to_owned())?;
                    Ok(Status::Done)
                }
                Some(Ttl::Left(left)) => {
                    let seconds = left.as_secs();
                    out.answer(&json!({ "ttl_seconds": seconds }), || format!("{seconds} s"))?;
                    Ok(Status::Done)
                }
                None => {
                    crate::output::note(&format!("not found: {}", encoding.show(key.as_bytes())));
                    Ok(Status::Refused)
                }
            };
        }
        Verb::Cas { key, value, previous, ttl } => {
            let previous = previous.map(|previous| parse(&previous)).transpose()?;
            let (key, value) = (Key(parse(&key)?), parse(&value)?);
            let raw = raw().await?;
            return swap(&raw, key, value, previous, ttl.get(), encoding, out).await;
        }
        Verb::Checksum(range) => {
            let range = range.get(encoding)?;
            let sum = raw().await?.checksum(range).await?;
            let object = json!({
                "crc64_xor": format!("{:016x}", sum.crc64_xor),
                "pairs": sum.pairs,
                "bytes": sum.bytes,
            });
            out.answer(&object, || {
                let (crc, pairs, bytes) = (sum.crc64_xor, sum.pairs, sum.bytes);
                format!("crc64 {crc:016x}, {pairs} pairs, {bytes} bytes")
            })?;
        }
    }
    Ok(Status::Done)
}

/// What a write answers: nothing for people, an object for programs.
fn done(out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        out.object(&json!({ "done": true }))?;
    }
    Ok(())
}

async fn show_scan(
    raw: &impl AsyncFn() -> Result<Raw, Failure>,
    args: &ScanArgs,
    encoding: Encoding,
    out: &mut Output,
) -> Result<(), Failure> {
    let (range, limit) = (args.range(encoding)?, args.limit);
    let raw = raw().await?;
    let shown = if args.keys_only {
        let keys = match args.reverse {
            true => raw.scan_keys_reverse(range, limit).await?,
            false => raw.scan_keys(range, limit).await?,
        };
        scan::show_keys(&keys, encoding, out)?;
        keys.len()
    } else {
        let pairs = match args.reverse {
            true => raw.scan_reverse(range, limit).await?,
            false => raw.scan(range, limit).await?,
        };
        scan::show_pairs(&pairs, encoding, out)?;
        pairs.len()
    };
    args.note_limit(shown);
    Ok(())
}

async fn swap(
    raw: &Raw,
    key: Key,
    value: Bytes,
    previous: Option<Bytes>,
    ttl: Duration,
    encoding: Encoding,
    out: &mut Output,
) -> Result<Status, Failure> {
    let swap = raw.compare_and_swap(key, previous, value, ttl).await?;
    if out.is_json() {
        out.object(&json!({ "swapped": swap.swapped }))?;
    }
    if swap.swapped {
        return Ok(Status::Done);
    }
    let found = match &swap.previous {
        Some(value) => format!("its value is {}", encoding.show(value)),
        None => "it has no value".to_owned(),
    };
    crate::output::note(&format!("not swapped: {found}"));
    Ok(Status::Refused)
}

fn ranges(bounds: &[String], encoding: Encoding) -> Result<Vec<KeyRange>, Failure> {
    let parse = |argument: &String| encoding.parse(argument).map_err(Failure::usage);
    let ranges = bounds.chunks(2).map(|bounds| match bounds {
        [start, end] => scan::range(parse(start)?, parse(end)?),
        _ => Err(Failure::usage("the last range has no end")
            .advise("write START END START END …; an empty end is the last key there is")),
    });
    ranges.collect()
}
