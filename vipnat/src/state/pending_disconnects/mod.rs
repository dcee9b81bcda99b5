//! Connections to removed backends that vipnat still has to end, and when.

mod clock;
mod file;
mod list;
mod paths;

pub(crate) use self::{
    clock::Clock,
    file::FILE,
    list::{Id, PendingDisconnect, PendingDisconnects},
};
