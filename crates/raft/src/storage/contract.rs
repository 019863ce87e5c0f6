//! The suite that every [`LogStore`] has to pass.
