//! Commands are killed, or fail, at each system call that changes something. The next command must leave
//! the same state as a fresh apply.

mod apply;
mod around;
mod flush;
mod points;
mod run;
mod stage;
