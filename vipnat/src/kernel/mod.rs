//! System calls and kernel objects: maps, programs, links, cgroups, sockets, mounts.

#[cfg(test)]
mod abi_matches_btf;
pub(crate) mod bpf_syscall;
pub(crate) mod byte_map;
pub(crate) mod cgroup;
pub(crate) mod compat;
pub(crate) mod dir_names;
pub(crate) mod error;
pub(crate) mod foreign_programs;
pub(crate) mod grace_period;
pub(crate) mod hook_query;
pub(crate) mod loader;
pub(crate) mod maps;
pub(crate) mod mountinfo;
pub(crate) mod pinned_ids;
pub(crate) mod pinned_programs;
pub(crate) mod pins;
pub(crate) mod preflight;
pub(crate) mod process;
pub(crate) mod sockets;
pub(crate) mod worker;
