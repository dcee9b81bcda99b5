//! The relationship table: all services, apps and relationships of one machine.
//!
//! - [`Table::parse`] turns TOML or JSON into a checked [`Table`], or returns a [`TableError`] with every
//!   mistake, its place and its remedy. No [`Table`] holds a bad VIP, an unknown service or a cgroup
//!   outside the mount.
//! - [`Table::to_toml`] and [`Table::to_json`] write a table back.
//! - [`Table::platform_relationships`] writes the variable that applications read, and
//!   [`Table::from_platform_relationships`] imports one.
//! - [`Difference`] has the objects in which two tables differ, and [`ServiceUsers`] the VIPs that lead to each
//!   service.
//! - [`TableChanges`] replaces single services and apps of a table: [`Table::change`] checks and makes it.
//!   [`Service::parse`] and [`App::parse`] read one of them.
//! - [`CgroupIndex`] finds the app of a cgroup; [`vip_of`] derives the VIP of a name.
//!
//! The module `model` has the types, `parse` reads text, `validate` checks the result, and `platform`
//! handles the variable of applications.

mod change;
mod difference;
mod error;
mod key_path;
mod model;
mod parse;
mod platform;
#[cfg(test)]
pub(crate) mod random;
mod service_users;
mod table_changes;
mod table_index;
mod validate;
mod write;

pub(crate) use self::model::{gcd, is_reserved, never_a_backend, never_a_vip, well_known};
pub use self::{
    difference::{AppDifference, Difference, DifferenceKind},
    error::{Problem, TableError},
    model::{
        App, Backend, ByName, CgroupIndex, Cgroups, Component, Names, OnBackendRemoved, Owner,
        Position, Relationship, Select, Service, Table, UdpPinning, check_name, vip_of,
    },
    platform::{Imported, Unsupported},
    service_users::ServiceUsers,
    table_changes::TableChanges,
    table_index::TableIndex,
    write::NotToml,
};
