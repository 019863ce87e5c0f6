//! What tests of several rooms share. Nothing here is in a shipped binary.
//!
//! | module | for |
//! |---|---|
//! | [`script`] | behaviour tests as text files: readable keys, values and timestamps |
//! | [`sim`] | a world in one thread, from one seed: network, clocks, futures, faults |
//! | [`check`] | judges of what was observed: is there an order that explains it? |
//! | [`workload`] | what clients do, with an invariant that shows from outside |

pub mod check;
pub mod script;
pub mod sim;
pub mod workload;
