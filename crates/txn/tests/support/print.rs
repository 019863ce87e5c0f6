//! Locks, records, batches and answers, one line each.

use bytes::Bytes;
use kiva_base::fault::{KeyError, LockInfo};
use kiva_base::{EncodedKey, Key, Timestamp, codec};
use kiva_engine::{Cf, Op, WriteBatch};
use kiva_testkit::script::{format_bytes, format_timestamp};
use kiva_txn::lock::Lock;
use kiva_txn::write::Write;

pub(crate) fn key(key: &Key) -> String {
    match key.as_bytes() {
        b"" => "\"\"".into(),
        bytes => format_bytes(bytes),
    }
}

pub(crate) fn ts(ts: Timestamp) -> String {
    format!("@{}", format_timestamp(ts))
}

pub(crate) fn value(value: &[u8]) -> String {
    format!("\"{}\"", format_bytes(value))
}

/// One pair of the engine.
pub(crate) fn pair(cf: Cf, stored_key: &[u8], record: &Bytes) -> String {
    let place = place(cf, stored_key);
    let content = match cf {
        Cf::Lock => Lock::decode(record).map_or_else(|error| error.to_string(), |l| lock(&l)),
        Cf::Write => Write::decode(record).map_or_else(|error| error.to_string(), |w| write(&w)),
        Cf::Default | Cf::Local => value(record),
    };
    format!("{place} = {content}")
}

/// What a batch changes, in its order.
pub(crate) fn batch(batch: &WriteBatch) -> String {
    let line = |op| match op {
        Op::Put { cf, key, value } => format!("+ {}\n", pair(cf, key, &value.to_vec().into())),
        Op::Delete { cf, key } => format!("- {}\n", place(cf, key)),
        Op::DeleteRange { .. } => panic!("no rule deletes a range"),
    };
    batch.ops().map(line).collect()
}

fn place(cf: Cf, stored_key: &[u8]) -> String {
    let name = cf.name();
    let user_key = |stored: &[u8]| {
        EncodedKey(Bytes::copy_from_slice(stored))
            .decode()
            .map_or_else(|error| error.to_string(), |decoded| key(&decoded))
    };
    match cf {
        Cf::Lock => format!("{name} {}", user_key(stored_key)),
        _ => match codec::split_timestamp_desc(stored_key) {
            Ok((stored, version)) => format!("{name} {} {}", user_key(stored), ts(version)),
            Err(error) => format!("{name} {error}"),
        },
    }
}

pub(crate) fn lock(lock: &Lock) -> String {
    let mut text = format!(
        "{:?} {} primary={} ttl={}",
        lock.kind,
        ts(lock.start_ts),
        key(&lock.primary),
        lock.ttl_ms
    );
    if lock.txn_size != 0 {
        text += &format!(" txn_size={}", lock.txn_size);
    }
    if let Some(short) = &lock.short_value {
        text += &format!(" {}", value(short));
    }
    if !lock.min_commit_ts.is_zero() {
        text += &format!(" min_commit_ts={}", format_timestamp(lock.min_commit_ts));
    }
    if let Some(secondaries) = &lock.async_commit {
        let keys: Vec<_> = secondaries.iter().map(key).collect();
        text += &format!(" async_commit=[{}]", keys.join(","));
    }
    if !lock.rollbacks.is_empty() {
        let list: Vec<_> = lock.rollbacks.iter().copied().map(ts).collect();
        text += &format!(" rollbacks=[{}]", list.join(","));
    }
    text
}

pub(crate) fn write(write: &Write) -> String {
    let mut text = format!("{:?} ← {}", write.kind, ts(write.start_ts));
    if let Some(short) = &write.short_value {
        text += &format!(" {}", value(short));
    }
    if write.is_rolled_back_too {
        text += " rolled back too";
    }
    if write.is_protected {
        text += " protected";
    }
    text
}

pub(crate) fn lock_info(info: &LockInfo) -> String {
    let mut text = format!(
        "{} {:?} {} primary={} ttl={}",
        key(&info.key),
        info.kind,
        ts(info.start_ts),
        key(&info.primary),
        info.ttl_ms
    );
    if !info.min_commit_ts.is_zero() {
        text += &format!(" min_commit_ts={}", format_timestamp(info.min_commit_ts));
    }
    if info.use_async_commit {
        text += " async_commit";
    }
    text
}

pub(crate) fn key_error(error: &KeyError) -> String {
    match error {
        KeyError::Locked(info) => format!("KeyIsLocked {}", lock_info(info)),
        KeyError::Conflict {
            start_ts,
            conflict_start_ts,
            conflict_commit_ts,
            key: met,
            primary,
            reason,
        } => format!(
            "Conflict({reason:?}) on {}: {} primary={} met {} ← {}",
            key(met),
            ts(*start_ts),
            key(primary),
            ts(*conflict_commit_ts),
            ts(*conflict_start_ts)
        ),
        KeyError::AlreadyExist { key: k } => format!("AlreadyExist {}", key(k)),
        KeyError::CommitTsExpired { start_ts, attempted_commit_ts, key: k, min_commit_ts } => {
            format!(
                "CommitTsExpired {} {} attempted={} min_commit_ts={}",
                key(k),
                ts(*start_ts),
                format_timestamp(*attempted_commit_ts),
                format_timestamp(*min_commit_ts)
            )
        }
        KeyError::TxnNotFound { start_ts, primary } => {
            format!("TxnNotFound {} primary={}", ts(*start_ts), key(primary))
        }
        KeyError::PrimaryMismatch(info) => format!("PrimaryMismatch {}", lock_info(info)),
        KeyError::TxnLockNotFound { key: k } => format!("TxnLockNotFound {}", key(k)),
        KeyError::AssertionFailed {
            start_ts,
            key: k,
            assertion,
            existing_start_ts,
            existing_commit_ts,
        } => format!(
            "AssertionFailed({assertion:?}) on {}: {} met {} ← {}",
            key(k),
            ts(*start_ts),
            ts(*existing_commit_ts),
            ts(*existing_start_ts)
        ),
        KeyError::Abort(reason) => format!("Abort: {reason}"),
    }
}
