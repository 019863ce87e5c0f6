//! Kiva's `server` room.
