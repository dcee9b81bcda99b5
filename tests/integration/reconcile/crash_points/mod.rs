//! Commands are killed, or fail, at each system call that changes something. The next command must leave
//! what a fresh apply leaves.

mod apply;
mod around;
mod flush;
mod points;
mod stage;
