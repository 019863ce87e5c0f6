//! Kiva's `txn` room.
