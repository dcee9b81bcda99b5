//! Plans carried out write by write, and step by step with readers in between.

pub(super) mod each_write;
mod interleavings;
