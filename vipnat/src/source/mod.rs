//! Where tables come from, and how their changes are noticed.

mod file;
mod watch;

pub use self::{
    file::FileSource,
    watch::{Notice, Watch},
};
