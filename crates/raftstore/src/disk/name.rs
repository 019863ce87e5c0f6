//! [`FileName`]: what a file of a [`Disk`](super::Disk) may be called.

use std::fmt;
use std::sync::Arc;

use crate::limits::FILE_NAME_SIZE_MAX;

/// The name of a file in a [`Disk`](super::Disk), which has no folders. A clone is a pointer.
///
/// Invariant: 1 to [`FILE_NAME_SIZE_MAX`] bytes of `a-z`, `0-9`, `.`, `_` and `-`, and the first
/// is not a dot. So a name means one file on every file system, leads out of no folder, and numbers
/// written with leading zeros sort like numbers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Arc<str>);

impl FileName {
    /// The name; `None` when it may not be one.
    pub fn new(name: &str) -> Option<Self> {
        let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let is_name = (1..=FILE_NAME_SIZE_MAX).contains(&name.len())
            && name.bytes().all(is_allowed)
            && !name.starts_with('.');
        is_name.then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileName({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["a", "00000000000000000001.log", "7-3-17.snapshot", "x_y", "a..b", "-"] {
            assert_eq!(FileName::new(name).expect(name).to_string(), name);
        }
        for name in ["", ".", "..", ".hidden", "a/b", "A", "a b", "ä", "a\0", "a\\b"] {
            assert_eq!(FileName::new(name), None, "{name:?}");
        }
        assert!(FileName::new(&"x".repeat(FILE_NAME_SIZE_MAX)).is_some());
        assert_eq!(FileName::new(&"x".repeat(FILE_NAME_SIZE_MAX + 1)), None);
    }

    #[test]
    fn padded_numbers_sort_like_numbers() {
        let name = |number: u64| FileName::new(&format!("{number:020}.log")).expect("digits");
        assert!(name(9) < name(10));
        assert!(name(u64::MAX - 1) < name(u64::MAX));
    }
}
