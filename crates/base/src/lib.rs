//! The words everybody uses: ids, keys, timestamps, regions, refusals, encodings, clocks.
//!
//! Nothing here does I/O, waits, or knows of another room. A type lives here when at least two
//! rooms that may not import each other have to speak of it.
//!
//! | module | answers |
//! |---|---|
//! | [`id`] | who: stores, regions, peers, clusters; and in which term |
//! | [`key`] | where: user keys, encoded keys, half-open ranges of encoded keys |
//! | [`timestamp`] | when, as transactions count it |
//! | [`api`] | which of three modes a cluster has, and how it stores keys |
//! | [`region`] | what is replicated where, and in which epoch |
//! | [`fault`] | why not: refusals that a client acts on |
//! | [`codec`] | how numbers and byte strings become bytes that sort like them |
//! | [`clock`] | the only source of "now" and of waiting |
//! | [`map`] | hash maps whose order does not depend on the process |

pub mod api;
pub mod clock;
pub mod codec;
pub mod fault;
pub mod id;
pub mod key;
pub mod map;
pub mod region;
pub mod timestamp;

pub use clock::{Clock, Moment};
pub use fault::{KeyError, LockInfo, RegionError};
pub use id::{ClusterId, PeerId, RegionId, StoreId, Term};
pub use key::{EncodedKey, Key, KeyRange};
pub use region::{Epoch, Peer, PeerRole, Region};
pub use timestamp::Timestamp;
