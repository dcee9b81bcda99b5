//! Crashes at every step: killed at each operation, or failed there, and what the next command makes
//! of it. What comes out has to be what a fresh apply leaves.

mod apply;
mod around;
mod flush;
mod points;
mod stage;
