//! Kiva's `testkit` room.
