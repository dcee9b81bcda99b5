//! Reads the inputs that a user names: files, standard input, tables. Wrong input has its own kind of error.

mod error_text;
mod exposed_passwords;
mod file;
mod table;

pub(crate) use self::{
    error_text::{InvalidInput, with_reasons},
    exposed_passwords::exposed_passwords,
    file::{display_name, read_input},
    table::{cgroup_mount, parse_table},
};
