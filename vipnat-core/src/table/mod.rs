//! The relationship table: all services, apps and relationships of one machine.
//!
//! [`Table::parse`] turns text into a [`Table`] or says everything that is wrong with it. What it
//! returns is checked: nothing downstream can hold a bad VIP, an unknown service or a cgroup
//! outside the mount.

mod error;
mod key_path;
mod model;
mod parse;
mod platform;
mod validate;
mod write;

pub(crate) use self::model::{gcd, is_reserved, never_a_backend, never_a_vip, well_known};
pub use self::{
    error::{Problem, TableError},
    model::{
        App, Backend, ByName, CgroupIndex, Cgroups, Component, Names, OnBackendRemoved, Owner,
        Position, Relationship, Select, Service, Table, UdpPinning, check_name, vip_of,
    },
    platform::{Imported, Unsupported},
    write::NotToml,
};
