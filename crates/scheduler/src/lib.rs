//! Kiva's `scheduler` room.
