//! Kiva's `kv` room.
