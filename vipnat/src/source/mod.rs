//! Where tables come from, and how their changes are noticed.

mod cgroups;
mod file;
mod pace;
mod watch;

pub use self::{
    cgroups::{CgroupNews, CgroupWatch},
    file::FileSource,
    watch::{Notice, Watch},
};
