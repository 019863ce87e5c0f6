//! Parts of a world in one thread, every choice of which comes from one seed.
//!
//! The product's loops, and the futures of the rooms above them, decide nothing by a real clock, a
//! thread or the system's randomness. So a program that calls them in an order it draws from a seed
//! is a whole cluster, and the seed is a whole run: the same seed twice is the same run to the
//! byte, which [`Trace::hash`] shows.
//!
//! | part | is |
//! |---|---|
//! | [`rng`] | streams of numbers, by name: a draw more in one place moves nothing elsewhere |
//! | [`host`] | the names of those who take part: stores, schedulers, clients |
//! | [`clock`] | the true time, and what each host's clock says: drift, jumps, timers |
//! | [`executor`] | the futures; polls one that is ready, drops one whose caller hung up |
//! | [`network`] | messages under way: late, lost, repeated, overtaken, cut off |
//! | [`calls`] | what futures ask across the network |
//! | [`faults`] | what goes wrong and when, drawn before the run begins |
//! | [`trace`] | one line per event: a hash of all, and the last ones to read |
//! | [`play`] | the loop: a cluster, a workload and faults, from a seed to a verdict |
//! | `world` | the cluster itself: stores, scheduler and clients of the product, on these parts |
//!
//! One step is one of: deliver a message, run a round of a loop, finish a write to a disk, poll a
//! task, commit a fault. When nothing can happen now, the true time moves on to the first moment at
//! which something can. A world is a [`Cluster`]; [`play::play`] steps it.

pub mod calls;
pub mod clock;
pub mod executor;
pub mod faults;
pub mod host;
pub mod network;
pub mod play;
pub mod rng;
pub mod trace;
#[cfg(feature = "world")]
pub mod world;

pub use clock::{LocalClock, Time};
pub use executor::{Executor, Spawner, TaskId};
pub use faults::{DiskTrouble, Fault, Profile, Schedule, Stop};
pub use host::Host;
pub use network::{Delivery, Link, Network};
pub use play::{Cluster, Failure, Kit, Summary};
pub use rng::{Chance, Rng};
pub use trace::{Trace, TraceHash};
#[cfg(feature = "world")]
pub use world::World;
