//! The names of those who take part.

use std::fmt;

use kiva_base::StoreId;

/// A process of the simulated cluster, or somebody who uses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// A store.
    Store(StoreId),
    /// A member of the scheduler.
    Scheduler(u64),
    /// A user of the cluster.
    Client(u64),
    /// What happens to all of them.
    World,
}

impl Host {
    /// The store with this number.
    ///
    /// # Panics
    ///
    /// When it is zero, which names no store.
    pub fn store(number: u64) -> Self {
        Self::Store(StoreId::new(number).expect("stores are counted from one"))
    }

    /// Whether it is a user of the cluster.
    pub const fn is_client(self) -> bool {
        matches!(self, Self::Client(_))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(id) => f.pad(&format!("s{id}")),
            Self::Scheduler(number) => f.pad(&format!("p{number}")),
            Self::Client(number) => f.pad(&format!("c{number}")),
            Self::World => f.pad("*"),
        }
    }
}
