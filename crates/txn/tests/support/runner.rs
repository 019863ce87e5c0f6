//! The commands of the scripts. Each runs one rule on a snapshot of a memory engine, prints what
//! its batch changes, applies it, and prints the reply.
//!
//! Keys and values are text as `kiva_testkit::script` reads it, timestamps numbers. A mutation is
//!
//! | written | means |
//! |---|---|
//! | `a=1` | put |
//! | `delete/a` | delete |
//! | `lock/a` | lock only |
//! | `insert/a=1` | put that must not overwrite |
//! | `absent/a` | check that there is no value |

use bytes::Bytes;
use goldenscript::Argument;
use kiva_base::fault::{Assertion, KeyError, LockKind};
use kiva_base::{Key, KeyRange, Timestamp};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Cf, Engine, Order, WriteBatch};
use kiva_testkit::script::{self, Arguments, ScriptError};
use kiva_txn::lock::Lock;
use kiva_txn::reader::MvccReader;
use kiva_txn::write::{Write, WriteKind};
use kiva_txn::writer::MvccWriter;
use kiva_txn::*;

use super::print;

/// One engine, and the commands that reach it.
pub(crate) struct Runner {
    engine: MemoryEngine,
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, ScriptError> {
        let args = Arguments::of(command);
        match command.name.as_str() {
            "get" => self.get(args),
            "batch_get" => self.batch_get(args),
            "scan" => self.scan(args),
            "prewrite" => self.prewrite(args),
            "commit" => self.commit(args),
            "txn" => self.txn(args),
            "rollback" => self.rollback(args),
            "check_status" => self.check_status(args),
            "resolve" => self.resolve(args),
            "heartbeat" => self.heartbeat(args),
            "scan_lock" => self.scan_lock(args),
            "cleanup" => self.cleanup(args),
            "get_lock" => self.get_lock(args),
            "current_write" => self.current_write(args),
            "most_recent" => self.most_recent(args),
            "put_lock" => self.put_lock(args),
            "put_write" => self.put_write(args),
            "corrupt" => self.corrupt(args),
            "dump" => self.dump(args),
            name => Err(format!("unknown command {name}").into()),
        }
    }
}

impl Runner {
    pub(crate) fn new() -> Self {
        Self { engine: MemoryEngine::new() }
    }

    /// get KEY ts=TS [isolation=rc|rc_check_ts] [resolved=TS,…] [committed=TS,…]
    fn get(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let request = Get {
            key: script::parse_key(args.next("a key")?)?,
            version: args.timestamp("ts")?,
            rules: read_rules(&mut args)?,
        };
        args.finish()?;
        Ok(match get(&*self.engine.snapshot(), &request)? {
            Ok(Some(found)) => format!("{} = {}", print::key(&request.key), print::value(&found)),
            Ok(None) => format!("{} not found", print::key(&request.key)),
            Err(error) => print::key_error(&error),
        })
    }

    /// batch_get KEY… ts=TS, with the options of get
    fn batch_get(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let request = BatchGet {
            version: args.timestamp("ts")?,
            rules: read_rules(&mut args)?,
            keys: args.rest_keys()?,
        };
        Ok(pairs(batch_get(&*self.engine.snapshot(), &request)?))
    }

    /// scan ts=TS [from=KEY] [to=KEY] [limit=N] [reverse=true] [key_only=true] [sample_step=N],
    /// with the options of get. `from` is the lower bound in both orders.
    fn scan(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let request = Scan {
            range: range(&mut args)?,
            order: if args.flag("reverse")? { Order::Reverse } else { Order::Forward },
            limit: args.number_or("limit", usize::MAX)?,
            version: args.timestamp("ts")?,
            key_only: args.flag("key_only")?,
            sample_step: args.number_or("sample_step", 0)?,
            rules: read_rules(&mut args)?,
        };
        args.finish()?;
        Ok(pairs(scan(&*self.engine.snapshot(), &request)?))
    }

    /// prewrite MUTATION… start_ts=TS [primary=KEY, else the first key] [ttl=MS] [txn_size=N]
    /// [min_commit_ts=TS] [exists=KEY,…] [absent=KEY,…] [assertions=off|fast|strict]
    /// [skip_constraint_check=true] [for_update_ts=TS] [pessimistic=true] [async_commit=true]
    /// [one_pc=true]
    fn prewrite(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let primary: Option<Key> = args.text("primary").map(script::parse_key).transpose()?;
        let exists: Vec<Key> = args.keys("exists")?;
        let absent: Vec<Key> = args.keys("absent")?;
        let mut request = Prewrite {
            mutations: Vec::new(),
            primary: Key::default(),
            start_ts: args.timestamp("start_ts")?,
            lock_ttl_ms: args.number_or("ttl", 3_000)?,
            txn_size: args.number_or("txn_size", 0)?,
            min_commit_ts: args.timestamp_or("min_commit_ts", Timestamp::ZERO)?,
            assertion_level: match args.text("assertions") {
                None | Some("off") => AssertionLevel::Off,
                Some("fast") => AssertionLevel::Fast,
                Some("strict") => AssertionLevel::Strict,
                Some(level) => return Err(format!("unknown level {level}").into()),
            },
            skip_constraint_check: args.flag("skip_constraint_check")?,
            for_update_ts: args.timestamp_or("for_update_ts", Timestamp::ZERO)?,
            pessimistic_actions: match args.flag("pessimistic")? {
                true => vec![PessimisticAction::PessimisticCheck],
                false => Vec::new(),
            },
            use_async_commit: args.flag("async_commit")?,
            try_one_pc: args.flag("one_pc")?,
        };
        request.mutations = args.rest().map(mutation).collect::<Result<_, _>>()?;
        for mutation in &mut request.mutations {
            if exists.contains(&mutation.key) {
                mutation.assertion = Assertion::Exist;
            } else if absent.contains(&mutation.key) {
                mutation.assertion = Assertion::NotExist;
            }
        }
        let first = request.mutations.first().map(|first| first.key.clone());
        request.primary = primary.or(first).unwrap_or_default();
        let outcome = prewrite(&*self.engine.snapshot(), &request)?;
        Ok(self.apply(&outcome.batch)?
            + &match outcome.reply {
                Ok(reply) if reply == PrewriteReply::default() => "ok".into(),
                Ok(reply) => format!("ok min_commit_ts={}", reply.min_commit_ts),
                Err(errors) => {
                    let lines: Vec<_> = errors.iter().map(print::key_error).collect();
                    lines.join("\n")
                }
            })
    }

    /// commit KEY… start_ts=TS commit_ts=TS
    fn commit(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let request = Commit {
            start_ts: args.timestamp("start_ts")?,
            commit_ts: args.timestamp("commit_ts")?,
            keys: args.rest_keys()?,
        };
        let outcome = commit(&*self.engine.snapshot(), &request)?;
        self.finish(outcome, |ts| format!("committed {}", print::ts(ts)))
    }

    /// txn MUTATION… start_ts=TS commit_ts=TS: a prewrite and the commit of the same keys
    fn txn(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let start_ts = args.timestamp("start_ts")?;
        let commit_ts = args.timestamp("commit_ts")?;
        let mutations = args.rest().map(mutation).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<Key> = mutations.iter().map(|m| m.key.clone()).collect();
        let request = Prewrite {
            primary: keys.first().cloned().unwrap_or_default(),
            mutations,
            start_ts,
            lock_ttl_ms: 3_000,
            txn_size: 0,
            min_commit_ts: Timestamp::ZERO,
            assertion_level: AssertionLevel::Off,
            skip_constraint_check: false,
            for_update_ts: Timestamp::ZERO,
            pessimistic_actions: Vec::new(),
            use_async_commit: false,
            try_one_pc: false,
        };
        let outcome = prewrite(&*self.engine.snapshot(), &request)?;
        self.engine.write(&outcome.batch)?;
        if let Err(errors) = outcome.reply {
            return Err(print::key_error(&errors[0]).into());
        }
        let request = Commit { keys, start_ts, commit_ts };
        let outcome = commit(&*self.engine.snapshot(), &request)?;
        self.engine.write(&outcome.batch)?;
        outcome
            .reply
            .map(|ts| format!("committed {}", print::ts(ts)))
            .map_err(|error| print::key_error(&error).into())
    }

    /// rollback KEY… start_ts=TS
    fn rollback(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let request = Rollback { start_ts: args.timestamp("start_ts")?, keys: args.rest_keys()? };
        let outcome = rollback(&*self.engine.snapshot(), &request)?;
        self.finish(outcome, |()| "ok".into())
    }

    /// check_status KEY start_ts=TS [caller=TS, else 0] [now=TS, else 0]
    /// [rollback_if_not_exist=true] [force_sync_commit=true] [resolving_pessimistic_lock=true]
    /// [verify_is_primary=false]
    fn check_status(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let request = CheckStatus {
            primary: script::parse_key(args.next("a key")?)?,
            lock_ts: args.timestamp("start_ts")?,
            caller_start_ts: args.timestamp_or("caller", Timestamp::ZERO)?,
            current_ts: args.timestamp_or("now", Timestamp::ZERO)?,
            rollback_if_not_exist: args.flag("rollback_if_not_exist")?,
            force_sync_commit: args.flag("force_sync_commit")?,
            resolving_pessimistic_lock: args.flag("resolving_pessimistic_lock")?,
            verify_is_primary: args.number_or("verify_is_primary", true)?,
        };
        args.finish()?;
        let outcome = check_status(&*self.engine.snapshot(), &request)?;
        self.finish(outcome, |status| match status {
            TxnStatus::RolledBack { action } => format!("rolled back, action {action:?}"),
            TxnStatus::Committed { commit_ts } => format!("committed {}", print::ts(commit_ts)),
            TxnStatus::Alive { lock, action } => {
                format!("alive {}, action {action:?}", print::lock_info(&lock))
            }
        })
    }

    /// resolve KEY… start_ts=TS commit_ts=TS (0: roll back): the named keys;
    /// resolve start_ts=TS commit_ts=TS, or resolve txns=START:COMMIT,…: a whole region, in steps
    fn resolve(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let mut fates = Vec::new();
        if let Some(list) = args.text("txns") {
            for txn in list.split(',') {
                let (start_ts, commit_ts) = txn.split_once(':').ok_or("START:COMMIT expected")?;
                fates.push((
                    script::parse_timestamp(start_ts)?,
                    Fate::from_commit_version(script::parse_timestamp(commit_ts)?),
                ));
            }
        } else {
            fates.push((
                args.timestamp("start_ts")?,
                Fate::from_commit_version(args.timestamp("commit_ts")?),
            ));
        }
        let keys = args.rest_keys()?;
        if let [(start_ts, fate)] = fates[..]
            && !keys.is_empty()
        {
            let request = Resolve::keys_of(start_ts, fate, keys);
            let outcome = resolve(&*self.engine.snapshot(), &request)?;
            return self.finish(outcome, |()| "ok".into());
        }
        let mut output = String::new();
        let mut rest = Some(KeyRange::ALL);
        while let Some(range) = rest {
            let request = FindLocks { fates: fates.iter().copied().collect(), range };
            let found = match find_locks(&*self.engine.snapshot(), &request)? {
                Ok(found) => found,
                Err(error) => return Ok(output + &print::key_error(&error)),
            };
            let outcome = resolve(&*self.engine.snapshot(), &found.resolve)?;
            output += &self.apply(&outcome.batch)?;
            if let Err(error) = outcome.reply {
                return Ok(output + &print::key_error(&error));
            }
            rest = found.rest;
        }
        Ok(output + "ok")
    }

    /// heartbeat KEY start_ts=TS ttl=MS
    fn heartbeat(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let request = Heartbeat {
            primary: script::parse_key(args.next("a key")?)?,
            start_ts: args.timestamp("start_ts")?,
            advise_ttl_ms: args.number_or("ttl", 0)?,
        };
        args.finish()?;
        let outcome = heartbeat(&*self.engine.snapshot(), &request)?;
        self.finish(outcome, |ttl_ms| format!("ttl={ttl_ms}"))
    }

    /// scan_lock max=TS [from=KEY] [to=KEY] [limit=N]
    fn scan_lock(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let request = ScanLock {
            max_version: args.timestamp("max")?,
            range: range(&mut args)?,
            limit: args.number_or("limit", usize::MAX)?,
        };
        args.finish()?;
        let locks = scan_lock(&*self.engine.snapshot(), &request)?;
        let lines: Vec<_> = locks.iter().map(print::lock_info).collect();
        Ok(or_nothing(lines))
    }

    /// cleanup KEY start_ts=TS [now=TS, else 0: whatever the lock's age]
    fn cleanup(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let request = Cleanup {
            key: script::parse_key(args.next("a key")?)?,
            start_ts: args.timestamp("start_ts")?,
            current_ts: args.timestamp_or("now", Timestamp::ZERO)?,
        };
        args.finish()?;
        let outcome = cleanup(&*self.engine.snapshot(), &request)?;
        self.finish(outcome, |commit_ts| match commit_ts {
            Some(ts) => format!("committed {}", print::ts(ts)),
            None => "rolled back".into(),
        })
    }

    /// get_lock KEY: the lock, as the reader finds it
    fn get_lock(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let key = script::parse_key(args.next("a key")?)?;
        args.finish()?;
        let view = self.engine.snapshot();
        let lock = MvccReader::new(&*view).lock(&key.encode())?;
        Ok(lock.map_or("none".into(), |lock| print::lock(&lock)))
    }

    /// current_write KEY start_ts=TS: what this transaction left on the key
    fn current_write(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let key = script::parse_key(args.next("a key")?)?;
        let start_ts = args.timestamp("start_ts")?;
        args.finish()?;
        let view = self.engine.snapshot();
        let record = MvccReader::new(&*view).own_record(&key.encode(), start_ts)?;
        Ok(format!("{record:?}"))
    }

    /// most_recent KEY: the newest record of any kind
    fn most_recent(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let key = script::parse_key(args.next("a key")?)?;
        args.finish()?;
        let view = self.engine.snapshot();
        let newest = MvccReader::new(&*view).newest_record(&key.encode())?;
        Ok(newest.map_or("none".into(), |(commit_ts, write)| {
            format!("{} = {}", print::ts(commit_ts), print::write(&write))
        }))
    }

    /// put_lock KEY [kind=put|delete|lock|pessimistic] start_ts=TS [primary=KEY, else KEY]
    /// [ttl=MS] [min_commit_ts=TS] [async_commit=KEY,…] [value=VALUE]: straight into the engine
    fn put_lock(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let key = script::parse_key(args.next("a key")?)?;
        let secondaries: Vec<Key> = args.keys("async_commit")?;
        let kind = match args.text("kind") {
            None | Some("put") => LockKind::Put,
            Some("delete") => LockKind::Delete,
            Some("lock") => LockKind::Lock,
            Some("pessimistic") => LockKind::Pessimistic,
            Some(kind) => return Err(format!("unknown kind {kind}").into()),
        };
        let value = script::parse_bytes(args.text("value").unwrap_or_default())?;
        let lock = Lock {
            kind,
            primary: match args.text("primary") {
                Some(primary) => script::parse_key(primary)?,
                None => key.clone(),
            },
            start_ts: args.timestamp("start_ts")?,
            ttl_ms: args.number_or("ttl", 3_000)?,
            txn_size: 0,
            short_value: (kind == LockKind::Put).then(|| value.into()),
            min_commit_ts: args.timestamp_or("min_commit_ts", Timestamp::ZERO)?,
            for_update_ts: Timestamp::ZERO,
            async_commit: (!secondaries.is_empty()).then_some(secondaries),
            rollbacks: Vec::new(),
        };
        args.finish()?;
        let mut writer = MvccWriter::new();
        writer.put_lock(&key.encode(), &lock);
        self.apply(&writer.into_batch())
    }

    /// put_write KEY [kind=put|delete|lock|rollback] start_ts=TS [commit_ts=TS] [value=VALUE]
    /// [count=N]: straight into the engine; with a count, N records at successive timestamps,
    /// printed as one line
    fn put_write(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let key = script::parse_key(args.next("a key")?)?;
        let kind = match args.text("kind") {
            None | Some("put") => WriteKind::Put,
            Some("delete") => WriteKind::Delete,
            Some("lock") => WriteKind::Lock,
            Some("rollback") => WriteKind::Rollback,
            Some(kind) => return Err(format!("unknown kind {kind}").into()),
        };
        let start_ts = args.timestamp("start_ts")?;
        let commit_ts = args.timestamp_or("commit_ts", start_ts)?;
        let value = script::parse_bytes(args.text("value").unwrap_or_default())?;
        let count = args.number_or("count", 1)?;
        args.finish()?;
        let mut writer = MvccWriter::new();
        for offset in 0..count {
            let write = Write {
                kind,
                start_ts: Timestamp(start_ts.0 + offset),
                short_value: (kind == WriteKind::Put).then(|| Bytes::from(value.clone())),
                is_rolled_back_too: false,
                is_protected: false,
            };
            writer.put_write(&key.encode(), Timestamp(commit_ts.0 + offset), &write);
        }
        let batch = writer.into_batch();
        if count == 1 {
            return self.apply(&batch);
        }
        self.engine.write(&batch)?;
        Ok(format!("+ {count} records"))
    }

    /// corrupt lock|write KEY [commit_ts=TS] bytes=TEXT: puts bytes in the place of a record
    fn corrupt(&mut self, mut args: Arguments<'_>) -> Result<String, ScriptError> {
        let family = args.next("a family")?;
        let key = script::parse_key(args.next("a key")?)?.encode();
        let bytes = script::parse_bytes(args.required("bytes")?)?;
        let mut batch = WriteBatch::new();
        match family {
            "lock" => batch.put(Cf::Lock, key.as_bytes(), &bytes),
            "write" => batch.put(Cf::Write, &key.at(args.timestamp("commit_ts")?), &bytes),
            "default" => batch.delete(Cf::Default, &key.at(args.timestamp("start_ts")?)),
            name => return Err(format!("no family {name} to corrupt").into()),
        }
        args.finish()?;
        self.engine.write(&batch)?;
        Ok("done".into())
    }

    /// dump: everything in the engine
    fn dump(&mut self, args: Arguments<'_>) -> Result<String, ScriptError> {
        args.finish()?;
        let text = script::dump(&*self.engine.snapshot(), print::pair)?;
        Ok(if text.is_empty() { "nothing".into() } else { text })
    }

    fn finish<T>(
        &mut self,
        outcome: Outcome<Result<T, KeyError>>,
        print: impl FnOnce(T) -> String,
    ) -> Result<String, ScriptError> {
        let changes = self.apply(&outcome.batch)?;
        Ok(changes
            + &match outcome.reply {
                Ok(reply) => print(reply),
                Err(error) => print::key_error(&error),
            })
    }

    fn apply(&mut self, batch: &WriteBatch) -> Result<String, ScriptError> {
        self.engine.write(batch)?;
        Ok(print::batch(batch))
    }
}

fn read_rules(args: &mut Arguments<'_>) -> Result<ReadRules, ScriptError> {
    Ok(ReadRules {
        isolation: match args.text("isolation") {
            None => Isolation::Snapshot,
            Some("rc") => Isolation::ReadCommitted,
            Some("rc_check_ts") => Isolation::ReadCommittedCheckTs,
            Some(name) => return Err(format!("unknown isolation {name}").into()),
        },
        resolved_locks: args.timestamps("resolved")?,
        committed_locks: args.timestamps("committed")?,
    })
}

fn range(args: &mut Arguments<'_>) -> Result<KeyRange, ScriptError> {
    let bound = |text: Option<&str>| match text {
        None => Ok(Bytes::new()),
        Some(text) => script::parse_key(text).map(|key| key.encode().0),
    };
    let (from, to) = (bound(args.text("from"))?, bound(args.text("to"))?);
    KeyRange::new(from, to).ok_or_else(|| "the range runs backwards".into())
}

fn mutation(argument: &Argument) -> Result<Mutation, ScriptError> {
    let (key, op) = match argument {
        Argument::KeyValue(key, value) => {
            let value = Bytes::from(script::parse_bytes(value)?);
            match key.strip_prefix("insert/") {
                Some(key) => (key, Op::Insert(value)),
                None => (key.as_str(), Op::Put(value)),
            }
        }
        Argument::Positional(text) => match text.split_once('/') {
            Some(("delete", key)) => (key, Op::Delete),
            Some(("lock", key)) => (key, Op::Lock),
            Some(("absent", key)) => (key, Op::CheckNotExists),
            _ => return Err(format!("{text} is not a mutation").into()),
        },
        _ => return Err(format!("{argument} is not a mutation").into()),
    };
    Ok(Mutation { key: script::parse_key(key)?, op, assertion: Assertion::None })
}

fn pairs(answer: Answer<Vec<Pair>>) -> String {
    match answer {
        Ok(pairs) => or_nothing(
            pairs
                .iter()
                .map(|pair| match pair {
                    Pair::Value { key, value } => {
                        format!("{} = {}", print::key(key), print::value(value))
                    }
                    Pair::Locked(info) => format!("KeyIsLocked {}", print::lock_info(info)),
                })
                .collect(),
        ),
        Err(error) => print::key_error(&error),
    }
}

fn or_nothing(lines: Vec<String>) -> String {
    if lines.is_empty() { "nothing".into() } else { lines.join("\n") }
}
