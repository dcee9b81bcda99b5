//! From `iptables-save` output to the relationships of an app.

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
