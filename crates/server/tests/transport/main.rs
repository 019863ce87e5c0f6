//! Two stores and the way between them, over real sockets of loopback. Behind each end is a mailbox
//! instead of a store loop.
//!
//! Tests with clients of their own run on two threads: a clean stop says goodbye to every
//! connection, and somebody has to answer for the clients while the test waits for it.
#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

mod frames;
mod node;
mod parts;
mod snapshots;
