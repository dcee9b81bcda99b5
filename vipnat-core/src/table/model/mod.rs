//! The types of a checked table, and the rules for names and addresses.

mod address;
mod by_name;
mod cgroup_index;
mod cgroups;
mod name;
mod service;
mod shared;
mod table;
mod vip;
mod well_known;

pub(crate) use self::{
    address::{never_a_backend, never_a_vip, never_the_vip_of},
    by_name::label,
    name::MAX_NAME,
    service::gcd,
    shared::difference,
    vip::{in_range, is_reserved},
    well_known::well_known,
};
pub use self::{
    by_name::ByName,
    cgroup_index::{CgroupIndex, Owner, Position},
    cgroups::{Cgroups, Component, Names},
    name::check_name,
    service::{Backend, OnBackendRemoved, Select, Service, UdpPinning},
    table::{App, Relationship, Table},
    vip::vip_of,
};
