//! vipnat: connect-time redirection of virtual IPs to services that move between machines.
//!
//! Layers, each of which uses only those before it: `kernel` makes system calls; `state` keeps what is
//! pinned, and the files beside it; [`reconcile`] makes the kernel do what a table says; [`follow`]
//! notices changes; [`cli`] is the program. What is pure is in the crate `vipnat_core`.

pub mod cli;
pub mod follow;
mod kernel;
pub mod reconcile;
mod state;
