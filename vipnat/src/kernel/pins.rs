//! Names of pins and of the directories that hold them.

use std::path::{Path, PathBuf};

/// The maps of the object. vipnat pins nothing else in their directory; [`CHANGING`] and [`CHANGED`] are empty.
pub(crate) const MAP_NAMES: [&str; 8] =
    ["backends", "conns", "counters", "cursors", LAYOUT_MAP, "scope", "udp_flows", "vips"];

/// Holds the layout version.
pub(crate) const LAYOUT_MAP: &str = "layout";

/// The usual mount point of bpffs (`Documentation/filesystems`, libbpf, systemd).
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// The directories in a state directory. Only an interrupted command leaves a `new`.
pub(crate) const MAPS: &str = "maps";
pub(crate) const PROGRAMS: &str = "progs";
pub(crate) const APPS: &str = "apps";
pub(crate) const NEW: &str = "new";

/// Directories beside the maps: the first exists while they change, the second since the last change.
pub(crate) const CHANGING: &str = "changing";
pub(crate) const CHANGED: &str = "changed";

/// The path of a map's pin.
pub(crate) fn map_pin(path: &Path, name: &str) -> PathBuf {
    path.join(MAPS).join(name)
}

/// Maps that layout 3 had under other names, with the same values.
const RENAMED: [(&str, &str); 2] = [("conns", "flows"), ("udp_flows", "datagrams")];

/// Whether a map has this name, now or in layout 3.
pub(crate) fn is_map(name: &str) -> bool {
    MAP_NAMES.contains(&name) || RENAMED.iter().any(|(_, before)| *before == name)
}

/// The path of the pin of a map that a new layout carries over: under its name, or its name of layout 3.
/// The kernel keeps the name and the types with which a map was made. So bpftool shows such a map as `flows`
/// or `datagrams`, and its fields by their former names, until `vipnat flush` and a new apply.
pub(crate) fn carried_pin(path: &Path, name: &str) -> PathBuf {
    let pin = map_pin(path, name);
    let renamed = RENAMED.iter().find(|(now, _)| *now == name);
    let former = renamed.map(|(_, before)| map_pin(path, before));
    former.filter(|former| !pin.exists() && former.exists()).unwrap_or(pin)
}
