//! Runs steps write by write, and with readers in between.

mod each_write;
mod fake;
mod interleavings;
mod live;
mod plans;
mod tables;
