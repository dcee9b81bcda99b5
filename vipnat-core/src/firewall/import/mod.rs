//! From the output of `iptables-save` to the relationships of an app.
//!
//! `save` reads the lines. `walk` follows a packet through the chains and collects `conditions`. `shares`
//! recognises how rules share connections. `assemble` makes relationships and services.

mod assemble;
mod conditions;
mod remark;
mod save;
mod shares;
#[cfg(test)]
mod tests;
mod walk;

pub use self::{
    assemble::{Import, import},
    remark::Remark,
};
