//! What the engine takes at most.

/// Largest key in bytes, the family byte not counted: the library below counts in 16 bits.
pub const KEY_SIZE_MAX: usize = 64 * 1024 - 2;

/// Largest value in bytes. Bounds the memory that one record can ask for while it is decoded.
pub const VALUE_SIZE_MAX: usize = 64 * 1024 * 1024;
