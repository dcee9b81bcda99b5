//! Real clients, as applications use them, against real servers.

mod client;
pub(super) mod databases;
pub(super) mod files;
pub(super) mod languages;
pub(super) mod names;
pub(super) mod web;
