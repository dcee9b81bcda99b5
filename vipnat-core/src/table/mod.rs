//! The relationship table: all services, apps and relationships of one machine.
//!
//! [`Table::parse`] turns text into a [`Table`] or says everything that is wrong with it. What it
//! returns is checked: nothing downstream can hold a bad VIP, an unknown service or a cgroup
//! outside the mount.

mod by_name;
mod cgroup;
mod cgroup_index;
mod check;
mod endpoint;
mod error;
mod holders;
mod locate;
mod model;
mod name;
mod named;
mod parse;
mod path;
mod platform;
mod raw;
mod service;
mod shared;
mod vip;
mod well_known;
mod write;

pub use self::{
    by_name::ByName,
    cgroup::{Cgroups, Component, Names},
    cgroup_index::{CgroupIndex, Owner, Position},
    error::{Problem, TableError},
    model::{App, Relationship, Table},
    name::check_name,
    platform::{Imported, Unsupported},
    service::{Backend, OnBackendRemoved, Select, Service, UdpPinning},
    vip::vip_of,
    write::NotToml,
};
pub(crate) use self::{
    check::{never_a_backend, never_a_vip},
    service::gcd,
    vip::is_reserved,
    well_known::well_known,
};
