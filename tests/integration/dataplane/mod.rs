//! The behaviour that sockets see: connects, datagrams, turns and isolation.

mod away;
mod churn;
mod connect;
mod datagrams;
mod isolation;
mod replacing;
mod round_robin;
mod sequences;
mod several_endpoints;
