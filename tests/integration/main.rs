//! vipnat as its users meet it: the built program, real hooks, real sockets, on hosts of its own.

mod cli;
mod daemon;
mod dataplane;
mod hidden;
mod reconcile;
mod scene;
mod security;
mod sockets;
