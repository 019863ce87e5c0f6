//! What a transaction may ask for at most, and how much one step of a long job takes on.

use kiva_base::fault::KeyError;
use kiva_base::{EncodedKey, Key, codec};

/// Largest key in bytes, as it is stored (memcomparable). What TiKV takes; eight times as much
/// would no longer fit an engine key with its timestamp.
pub const ENCODED_KEY_SIZE_MAX: usize = 8 * 1024;

/// Largest value in bytes that rides inside a lock or write record instead of lying in the default
/// family: its length fits one byte. Saves most transactions a third of their writes and one read.
pub const SHORT_VALUE_SIZE_MAX: usize = 255;

/// How many versions an iterator steps over before it is cheaper to open another one: a step costs
/// a tenth of opening.
pub const STEPS_BEFORE_SEEK: usize = 8;

/// Most locks that one step of resolving a region settles. Each costs up to three operations in a
/// log entry, and its latch keeps others waiting for as long as the step takes.
pub const RESOLVE_LOCKS_MAX: usize = 256;

/// Bytes of keys after which such a step is full, however few they are. A key comes up to three
/// times in the entry.
pub const RESOLVE_KEY_BYTES_MAX: usize = 256 * 1024;

/// Most locks that one such step looks at, those of other transactions included.
pub const RESOLVE_LOCKS_EXAMINED_MAX: usize = 16 * 1024;

const _: () =
    assert!(ENCODED_KEY_SIZE_MAX + codec::TIMESTAMP_SIZE < kiva_engine::limits::KEY_SIZE_MAX);
const _: () = assert!(SHORT_VALUE_SIZE_MAX <= u8::MAX as usize);
const _: () = assert!(RESOLVE_LOCKS_EXAMINED_MAX >= RESOLVE_LOCKS_MAX);

/// The stored form of `key`, or the refusal that names the limit.
pub(crate) fn encode_key(key: &Key) -> Result<EncodedKey, KeyError> {
    let size = codec::encoded_len(key.as_bytes().len());
    if size > ENCODED_KEY_SIZE_MAX {
        return Err(KeyError::Abort(format!(
            "a key has {size} bytes as it is stored, the limit is {ENCODED_KEY_SIZE_MAX}"
        )));
    }
    Ok(key.encode())
}
