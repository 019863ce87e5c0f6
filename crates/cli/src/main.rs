//! The `kiva` binary.
fn main() {}
