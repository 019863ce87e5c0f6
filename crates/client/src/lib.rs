//! Kiva's `client` room.
