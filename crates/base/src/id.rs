//! Names of things: one type per kind of thing, so that two of them cannot be swapped.
//!
//! Ids are handed out by the scheduler, never reused, and never zero: on the wire a zero means
//! "not set", and [`StoreId::new`] and its siblings are where that is checked.

use std::fmt;
use std::num::NonZeroU64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// The id with this number; `None` for zero, which names nothing.
            pub const fn new(id: u64) -> Option<Self> {
                match NonZeroU64::new(id) {
                    Some(id) => Some(Self(id)),
                    None => None,
                }
            }

            /// The number, never zero.
            pub const fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id! {
    /// One cluster, for its whole life. A request that names another cluster is refused.
    ClusterId
}
id! {
    /// One storage process and its directory.
    StoreId
}
id! {
    /// One half-open range of keys, replicated as one group.
    RegionId
}
id! {
    /// One replica of a region, on one store. A replica that is removed and added again has a
    /// new id.
    PeerId
}

/// A leader's period of office. Zero is before the first election.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_names_nothing() {
        assert_eq!(StoreId::new(0), None);
        assert_eq!(StoreId::new(7).map(StoreId::get), Some(7));
    }
}
