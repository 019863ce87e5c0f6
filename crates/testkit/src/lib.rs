//! What tests of several rooms share. Nothing here is in a shipped binary.
//!
//! | module | for |
//! |---|---|
//! | [`script`] | behaviour tests as text files: readable keys, values and timestamps |

pub mod script;
