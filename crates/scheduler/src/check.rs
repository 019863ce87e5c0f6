//! What is wrong with a region.
//!
//! A check looks at one region and at the stores, and answers with a plan or with nothing. It is
//! asked again and again: after every report, and by a patrol that goes round all regions. So it
//! needs no memory, and a plan that came to nothing is simply made again.

mod replicas;

pub use replicas::replicas;
