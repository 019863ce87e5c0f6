//! `kiva ctl txn`: keys and values with transactions.

use clap::{Args, Subcommand};
use kiva_base::{Key, Timestamp};
use kiva_client::{Snapshot, Transaction};
use serde_json::json;

use super::scan::{self, ScanArgs};
use crate::connection::Connection;
use crate::encoding::EncodingArgs;
use crate::exit::{Failure, Status};
use crate::output::Output;

/// Flags of `kiva ctl txn`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kiva ctl txn put alice 90 bob 110      both or none
  kiva ctl txn get alice
  kiva ctl txn scan --prefix a
  kiva ctl txn get alice --at 445566778899001122")]
pub(crate) struct TxnArgs {
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the value of a key
    Get {
        /// The key
        key: String,
        #[command(flatten)]
        at: AtArgs,
    },
    /// Give keys values in one transaction
    Put {
        /// Keys, each followed by its value
        #[arg(required = true, value_name = "KEY VALUE")]
        pairs: Vec<String>,
    },
    /// Remove keys in one transaction; absence is success
    Delete {
        /// The keys
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Show keys and values in order, all as of one moment
    Scan {
        #[command(flatten)]
        scan: ScanArgs,
        #[command(flatten)]
        at: AtArgs,
    },
}

#[derive(Debug, Args)]
struct AtArgs {
    /// Read as of this timestamp instead of now
    #[arg(long, value_name = "TIMESTAMP")]
    at: Option<u64>,
}

/// Asks and answers.
pub(crate) async fn run(
    args: TxnArgs,
    connection: &Connection,
    out: &mut Output,
) -> Result<Status, Failure> {
    let encoding = args.encoding.get();
    match args.verb {
        Verb::Get { key, at } => {
            let key = Key(encoding.parse(&key).map_err(Failure::usage)?);
            let value = snapshot(connection, &at).await?.get(key.clone()).await?;
            return scan::show_value(&key, value.as_deref(), encoding, out);
        }
        Verb::Put { pairs } => {
            let pairs = scan::pairs(&pairs, encoding)?;
            let mut transaction = begin(connection).await?;
            for pair in pairs {
                transaction.put(pair.key, pair.value);
            }
            commit(transaction, out).await?;
        }
        Verb::Delete { keys } => {
            let keys = scan::keys(&keys, encoding)?;
            let mut transaction = begin(connection).await?;
            for key in keys {
                transaction.delete(key);
            }
            commit(transaction, out).await?;
        }
        Verb::Scan { scan: args, at } => {
            let (range, limit) = (args.range(encoding)?, args.limit);
            let snapshot = snapshot(connection, &at).await?;
            let shown = if args.keys_only && !args.reverse {
                let keys = snapshot.scan_keys(range, limit).await?;
                scan::show_keys(&keys, encoding, out)?;
                keys.len()
            } else {
                let pairs = match args.reverse {
                    true => snapshot.scan_reverse(range, limit).await?,
                    false => snapshot.scan(range, limit).await?,
                };
                match args.keys_only {
                    true => {
                        let keys: Vec<_> = pairs.iter().map(|pair| pair.key.clone()).collect();
                        scan::show_keys(&keys, encoding, out)?;
                    }
                    false => scan::show_pairs(&pairs, encoding, out)?,
                }
                pairs.len()
            };
            args.note_limit(shown);
        }
    }
    Ok(Status::Done)
}

async fn begin(connection: &Connection) -> Result<Transaction, Failure> {
    let client = connection.connect(connection.options()).await?;
    Ok(client.begin().await?)
}

async fn snapshot(connection: &Connection, at: &AtArgs) -> Result<Snapshot, Failure> {
    let client = connection.connect(connection.options()).await?;
    let version = match at.at {
        Some(version) => Timestamp(version),
        None => client.timestamp().await?,
    };
    Ok(client.snapshot(version))
}

/// Commits, finishes the other keys before the process ends, and tells when it happened.
async fn commit(transaction: Transaction, out: &mut Output) -> Result<(), Failure> {
    let start_ts = transaction.start_ts();
    let committed = transaction.commit_primary().await?;
    let commit_ts = match committed {
        Some(committed) => {
            if let Some(secondaries) = committed.secondaries {
                secondaries.await;
            }
            Some(committed.commit_ts)
        }
        None => None,
    };
    if out.is_json() {
        let commit_ts = commit_ts.map(|ts| ts.0);
        out.object(&json!({ "start_ts": start_ts.0, "commit_ts": commit_ts }))?;
    }
    Ok(())
}
