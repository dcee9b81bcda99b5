//! The hooks of vipnat. Each is one eBPF program with the name of its hook.

/// The name of each hook, as bpftool shows it, and its `enum bpf_attach_type`. vipnat attaches them in
/// this order: first the hooks that show the VIP, then those that connect to a backend.
pub const HOOKS: [(&str, u32); 7] = [
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("connect4", 10),
    ("connect6", 11),
    ("sendmsg4", 14),
];

/// Whether a hook has this name.
pub fn is_hook(name: &str) -> bool {
    HOOKS.iter().any(|(hook, _)| *hook == name)
}
