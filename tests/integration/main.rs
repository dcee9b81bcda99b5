//! Tests of the built program with real hooks and real sockets, on hosts of network namespaces.

mod choice;
mod cli;
mod daemon;
mod dataplane;
mod foreign;
mod hidden;
mod reconcile;
mod scene;
mod security;
mod settle;
mod sockets;
