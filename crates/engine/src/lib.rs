//! Kiva's `engine` room.
