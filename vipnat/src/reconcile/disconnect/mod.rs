//! Ends connections to backends that are no longer in the table.
//!
//! `schedule` notes them in a file before the change is made, while the state is locked. `finish` tells after
//! the change which of them are due. `end` ends these without the lock, in several `passes` over all
//! sockets, and so keeps no other command waiting. It takes the lock for a moment in each pass, to see
//! whether they are still to be ended, and at last to remove from the file those that were ended.

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
