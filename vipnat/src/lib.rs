//! The program `vipnat`: virtual IPs that lead to moving services, translated inside `connect`.
//!
//! The program makes pinned eBPF maps match a table. The hooks of `vipnat-ebpf` read these maps. The modules are
//! layers: each uses only those above it in this table, and `vipnat_core` and `vipnat_common`.
//!
//! | module | purpose | start with |
//! | --- | --- | --- |
//! | `kernel` | makes system calls: maps, programs, links, cgroups, sockets. All `unsafe` is here | `kernel/maps.rs` |
//! | `state` | keeps the pinned state and the files in `/run/vipnat` | `state/state_dir.rs` |
//! | [`reconcile`] | makes the kernel match a table, and lists what it does | [`reconcile::Session`] |
//! | `input` | reads the files that a user names | `input/table.rs` |
//! | [`follow`] | follows the file of a table, and cgroups that come and go, for `vipnat run` | `follow/follower.rs` |
//! | [`cli`] | reads arguments and prints results, one file for each verb | [`cli::main`] |
//!
//! `docs/life-of-a-change.md` follows one change of a table through these modules.

pub mod cli;
pub mod follow;
mod input;
mod kernel;
pub mod reconcile;
mod state;
