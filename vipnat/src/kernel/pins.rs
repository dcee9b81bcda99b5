//! The names of what is pinned, and of the hooks.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::CgroupSockAddrAttachType as Hook;

use super::error::{Attempt as _, Result};

/// The programs, each under the name of its hook. Listed in the order in which they are attached:
/// what undoes a translation comes before what does it.
pub(crate) const HOOKS: [(&str, Hook); 7] = [
    ("getpeername4", Hook::GetPeerName4),
    ("getpeername6", Hook::GetPeerName6),
    ("recvmsg4", Hook::UDPRecvMsg4),
    ("recvmsg6", Hook::UDPRecvMsg6),
    ("connect4", Hook::Connect4),
    ("connect6", Hook::Connect6),
    ("sendmsg4", Hook::UDPSendMsg4),
];

/// The maps of the object; nothing else in their directory is ours.
pub(crate) const MAP_NAMES: [&str; 8] =
    ["backends", "conns", "counters", "cursors", LAYOUT_MAP, "scope", "udp_flows", "vips"];

/// Holds the layout version.
pub(crate) const LAYOUT_MAP: &str = "layout";

/// Where bpffs is mounted by convention (`Documentation/filesystems`, libbpf, systemd).
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// The directories in a state directory. A `new` is what an interrupted command left.
pub(crate) const MAPS: &str = "maps";
pub(crate) const PROGRAMS: &str = "progs";
pub(crate) const APPS: &str = "apps";
pub(crate) const NEW: &str = "new";

/// Where a map is pinned.
pub(crate) fn map_pin(path: &Path, name: &str) -> PathBuf {
    path.join(MAPS).join(name)
}

/// Maps that layout 3 had under other names, with the same values.
const RENAMED: [(&str, &str); 2] = [("conns", "flows"), ("udp_flows", "datagrams")];

/// Where a map is pinned that is carried over from another layout: under its name, or under the one it
/// had in layout 3. The kernel keeps the name that a map was made with, so bpftool shows such a map as
/// `flows` or `datagrams` until the state is made anew.
pub(crate) fn carried_pin(path: &Path, name: &str) -> PathBuf {
    let pin = map_pin(path, name);
    let renamed = RENAMED.iter().find(|(now, _)| *now == name);
    let former = renamed.map(|(_, before)| map_pin(path, before));
    former.filter(|former| !pin.exists() && former.exists()).unwrap_or(pin)
}

/// The names in a directory; none if it does not exist.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).attempt(|| format!("read {}", path.display())),
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
        .attempt(|| format!("read {}", path.display()))?;
    names.sort_unstable();
    Ok(names)
}
