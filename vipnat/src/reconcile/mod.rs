//! Makes the kernel do what a table says, and reads back what it does.

mod apply;
mod attach;
mod disconnect;
mod execute;
mod keep_up;
mod migrate;
mod observe;
mod outcome;
mod prepare;
mod recover;
mod repair_pins;
mod resolve;
mod session;
mod status;
mod swap_programs;

pub use self::{
    disconnect::{Connections, Drained},
    keep_up::{Arrival, Holdings, KeptUp},
    outcome::{Applied, Attached, Flushed, Living},
    resolve::MissingCgroup,
    session::Session,
    status::{ListedApp, ListedCgroup, ListedVip, Listing},
};
