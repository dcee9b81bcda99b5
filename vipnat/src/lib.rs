//! vipnat: connect-time redirection of virtual IPs to services that move between machines.
//!
//! [`table`] reads the relationship table and checks it; [`datapath`] makes the kernel match it;
//! [`source`] notices when it changes, and [`running`] who follows it; [`record`] keeps the names that
//! the kernel does not need, and [`drains`] what is still to be ended; [`rules`] says the same in the
//! languages of iptables and nft; [`cli`] is the program, in which `waits` is for what may hang.

pub mod cli;
pub mod datapath;
pub mod drains;
pub mod record;
pub mod rules;
pub mod running;
pub mod source;
mod state_path;
pub mod table;
mod text;
mod waits;
