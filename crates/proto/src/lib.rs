//! Kiva's `proto` room.
