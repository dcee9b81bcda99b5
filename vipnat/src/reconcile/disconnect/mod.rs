//! Ends connections to backends that are no longer in the table.
//!
//! `schedule` notes the disconnects in a file before the change, while the state is locked. After the
//! change, `finish` finds out which of them are due. `end_due` ends these in several `passes` over all
//! sockets. It does not hold the lock, and so keeps no other command waiting. In each pass it takes the lock
//! for a moment, to check that they are still due. At last it takes the lock to remove the completed ones
//! from the file.

mod due;
mod end_due;
mod finish;
mod passes;
mod pending_file;
mod progress;
mod schedule;

pub(crate) use self::{
    end_due::{end_drained, end_trial},
    finish::{DueDisconnects, disconnect, finish},
    schedule::{forget, forget_restored, schedule},
};
