//! Whether this machine can run vipnat, asked before anything is touched.

use std::{fs, io, path::Path};

use nix::sys::utsname::uname;

use crate::kernel::error::{Error, Result};

/// The oldest kernel: `bpf_set_retval` in connect hooks, fetching atomics (5.12), batch lookups.
const FLOOR: (u32, u32) = (6, 1);

/// The kernel's own BTF, without which maps carry no types.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// A capability: its name, and its number (include/uapi/linux/capability.h).
type Capability = (&'static str, u32);

const CAP_NET_ADMIN: Capability = ("CAP_NET_ADMIN", 12);
const CAP_SYS_ADMIN: Capability = ("CAP_SYS_ADMIN", 21);
const CAP_PERFMON: Capability = ("CAP_PERFMON", 38);
const CAP_BPF: Capability = ("CAP_BPF", 39);

/// There if the kernel has MPTCP.
const MPTCP: &str = "/proc/sys/net/mptcp";

/// What a command asks of the kernel, beyond the files of the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To look, to attach what is loaded, to switch it off, to unlink it: the kernel asks for no
    /// capability, since whoever may open the pins may do that.
    Pins,
    /// To change what is loaded. Its grace periods make maps, and only this asks for something.
    Change,
    /// To load the programs. Without CAP_PERFMON the verifier allows no loop over what is in a socket,
    /// and slows down what it does allow with barriers against speculation (`bypass_spec_v1` and
    /// `bypass_spec_v4` in include/linux/bpf.h).
    Load,
}

impl Need {
    fn capabilities(self) -> (&'static str, &'static [Capability]) {
        match self {
            Self::Pins => ("use what is pinned", &[]),
            Self::Change => ("change what is loaded", &[CAP_BPF]),
            Self::Load => ("load its programs", &[CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN]),
        }
    }

    /// What is missing among the effective capabilities, as a sentence. CAP_SYS_ADMIN stands in for
    /// all of them (`bpf_token_capable` in kernel/bpf/token.c, `bpf_prog_load` before 6.9).
    fn missing(self, effective: u64) -> Option<String> {
        let has = |(_, number): &Capability| effective & (1 << number) != 0;
        let (purpose, all) = self.capabilities();
        let missing: Vec<_> = all.iter().filter(|cap| !has(cap)).map(|(name, _)| *name).collect();
        if has(&CAP_SYS_ADMIN) || missing.is_empty() {
            return None;
        }
        let missing = match missing.as_slice() {
            [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            one => one.concat(),
        };
        Some(format!("missing privileges: to {purpose}, vipnat needs {missing}; run it as root"))
    }
}

/// Checks kernel version, BTF and privileges, in this order.
pub(crate) fn check(need: Need) -> Result<()> {
    let unsupported = |message: String| Err(Error::Unsupported(message));

    let name = uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = name.unwrap_or_default();
    if version(&release).is_none_or(|version| version < FLOOR) {
        let (major, minor) = FLOOR;
        return unsupported(format!(
            "kernel {release:?} is too old; vipnat needs Linux {major}.{minor} or later"
        ));
    }
    if !Path::new(BTF).exists() {
        return unsupported(format!(
            "this kernel has no BTF ({BTF} is missing); vipnat needs one built with \
             CONFIG_DEBUG_INFO_BTF=y, as every distribution's is"
        ));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    need.missing(effective(&status)).map_or(Ok(()), unsupported)
}

/// Whether aya found what every kernel that [`check`] lets pass has. It finds out by trying, and any
/// error is a no to it, also that there was no memory; it would go on with programs that are
/// verified in another way, and that stay.
pub(crate) fn check_features() -> io::Result<()> {
    let features = aya::features();
    let functions = features
        .btf()
        .is_some_and(|btf| btf.btf_func() && btf.btf_func_global() && btf.btf_datasec());
    if functions && features.bpf_name() && features.bpf_global_data() {
        return Ok(());
    }
    Err(io::Error::other("the kernel refused what it was tried with; it may be out of memory"))
}

/// Whether the kernel has MPTCP, and so can tell a subflow's socket from the application's.
pub(crate) fn has_mptcp() -> bool {
    Path::new(MPTCP).exists()
}

/// Major and minor of a kernel release such as `6.1.0-18-cloud-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The effective capabilities in `/proc/PID/status`, as a bit mask.
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (release, expected) in [
            ("6.1.0-18-cloud-amd64", Some((6, 1))),
            ("6.18.44", Some((6, 18))),
            ("6.1", Some((6, 1))),
            ("7.2-rc1", Some((7, 2))),
            ("5.10.0", Some((5, 10))),
            ("6", None),
            ("", None),
            ("linux", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        for (version, refused) in
            [((5, 10), true), ((6, 0), true), ((6, 1), false), ((10, 0), false)]
        {
            assert_eq!(version < FLOOR, refused, "{version:?}");
        }
    }

    #[test]
    fn privileges() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        assert_eq!(effective("nothing"), 0);
        let mask = |caps: &[Capability]| caps.iter().fold(0, |mask, (_, bit)| mask | 1 << bit);
        for need in [Need::Pins, Need::Change, Need::Load] {
            let (_, enough) = need.capabilities();
            for sufficient in [mask(enough), mask(&[CAP_SYS_ADMIN]), u64::MAX] {
                assert_eq!(need.missing(sufficient), None, "{need:?}");
            }
            for missing in enough {
                let said = need.missing(!mask(&[*missing, CAP_SYS_ADMIN])).expect("something");
                assert!(said.contains(&format!("vipnat needs {};", missing.0)), "{said}");
            }
        }
        let said = Need::Load.missing(0).expect("something");
        assert!(said.contains("needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN;"), "{said}");
    }
}
