//! A fixed amount of work, to count instructions with.
//!
//! ```sh
//! cargo build --release -p kiva-raft --example burst
//! valgrind --tool=callgrind target/release/examples/burst 3 64 20000
//! ```
//!
//! Arguments are voters, burst and proposals; run it with N and with 2N proposals, and the
//! difference is what N proposals cost without the start.

#![expect(clippy::print_stdout, reason = "its answer is what it prints")]

#[path = "../benches/group/mod.rs"]
mod group;

use bytes::Bytes;
use group::Group;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut number = |or| match numbers.next() {
        Some(number) => number.expect("arguments are numbers"),
        None => or,
    };
    let (voters, burst, proposals) = (number(3), number(64), number(20_000));
    let mut group = Group::new(voters);
    let command = Bytes::from(vec![7; 256]);
    for _ in 0..proposals / burst {
        group.burst(burst, &command);
    }
    let applied = group.applied().0 - 1;
    assert_eq!(applied, proposals / burst * burst, "every proposal is applied");
    let messages = group.delivered as f64 / applied as f64;
    println!("{applied} proposals, {messages:.2} messages each");
}
