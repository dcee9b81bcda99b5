//! From `iptables-save` output to the relationships of an app.

mod assemble;
mod conditions;
mod remark;
mod save;
mod shares;
mod walk;

pub use self::{
    assemble::{Import, import},
    remark::Remark,
};
