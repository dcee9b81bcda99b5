//! The house: its layers from left to right, and the exceptions to its rules.

/// A part of the tree. It may use itself and the layers before it.
pub(super) struct Layer {
    pub(super) name: &'static str,
    pub(super) folder: &'static str,
}

/// Imports point up in this list, never down.
pub(super) const LAYERS: [Layer; 8] = [
    Layer { name: "vipnat-common", folder: "vipnat-common/src/" },
    Layer { name: "vipnat-core", folder: "vipnat-core/src/" },
    Layer { name: "kernel", folder: "vipnat/src/kernel/" },
    Layer { name: "state", folder: "vipnat/src/state/" },
    Layer { name: "reconcile", folder: "vipnat/src/reconcile/" },
    Layer { name: "input", folder: "vipnat/src/input/" },
    Layer { name: "follow", folder: "vipnat/src/follow/" },
    Layer { name: "cli", folder: "vipnat/src/cli/" },
];

/// Files beside the layers, which only connect them.
pub(super) const CONNECTORS: [&str; 2] = ["vipnat/src/lib.rs", "vipnat/src/main.rs"];

/// The crate whose folders are layers.
pub(super) const LAYERED: &str = "vipnat/src/";

/// The layer that no other layer imports.
pub(super) const LAST: &str = "cli";

/// The one file that may import the last layer.
pub(super) const MAIN: &str = "vipnat/src/main.rs";

/// The crate that builds and tests on any machine.
pub(super) const CORE: &str = "vipnat-core/src/";

/// Paths that need a kernel, a file system or a network, so the core may not name them.
pub(super) const IMPURE: [&str; 20] = [
    "aya",
    "aya_obj",
    "inotify",
    "libc",
    "nix",
    "signal_hook",
    "socket2",
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os::fd",
    "std::os::linux",
    "std::os::unix::fs",
    "std::os::unix::net",
    "std::os::unix::process",
    "std::process",
    "std::thread",
];

/// Where modules may not form a circle.
pub(super) const WITHOUT_CIRCLES: [&str; 5] =
    ["vipnat-common/src/", "vipnat-core/src/", "vipnat-ebpf/src/", "vipnat/src/", "xtask/src/"];

/// The places where `unsafe` is allowed, and why.
pub(super) const UNSAFE: [(&str, &str); 6] = [
    ("vipnat/src/kernel/", "system calls that no crate wraps"),
    ("vipnat-ebpf/src/", "BPF helpers and the memory of the kernel"),
    ("vipnat/build.rs", "set_var, in a program of one thread"),
    ("tests/", "system calls that applications make, and namespaces between fork and exec"),
    ("bench/", "system calls that are measured"),
    ("xtask/src/command.rs", "a child that ends with its parent"),
];

/// Documents whose paths must exist.
pub(super) fn is_document(path: &str) -> bool {
    ["README.md", "CONTRIBUTING.md"].contains(&path)
        || path.starts_with("docs/") && path.ends_with(".md")
}

/// The layer of a file.
pub(super) fn layer_of(path: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| path.starts_with(layer.folder))
}
