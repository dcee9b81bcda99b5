//! Checks kernel version, BTF and privileges before a command changes anything.

use std::{fs, io, path::Path};

use nix::sys::utsname::uname;

use super::error::MachineError;

/// The oldest supported kernel. It has `bpf_set_retval` in connect hooks, fetching atomics (5.12) and
/// batch lookups.
const FLOOR: (u32, u32) = (6, 1);

/// The kernel's own BTF. Without it, maps have no types.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// A capability: its name, and its number (include/uapi/linux/capability.h).
type Capability = (&'static str, u32);

const CAP_NET_ADMIN: Capability = ("CAP_NET_ADMIN", 12);
const CAP_SYS_ADMIN: Capability = ("CAP_SYS_ADMIN", 21);
const CAP_PERFMON: Capability = ("CAP_PERFMON", 38);
const CAP_BPF: Capability = ("CAP_BPF", 39);

/// Exists if the kernel has MPTCP.
const MPTCP: &str = "/proc/sys/net/mptcp";

/// The privileges that a command needs, beyond access to the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// To read the pins, attach loaded programs, switch an app off, or unlink. The kernel wants no
    /// capability for this: opening the pins is permission enough.
    UsePins,
    /// To change the maps. Waiting for running programs creates a map, and only this needs a capability.
    Change,
    /// To load the programs. Without CAP_PERFMON the verifier refuses loops over the contents of a
    /// socket, and inserts barriers against speculation, which cost time (`bypass_spec_v1` and
    /// `bypass_spec_v4` in include/linux/bpf.h).
    Load,
}

impl Privilege {
    fn capabilities(self) -> (&'static str, &'static [Capability]) {
        match self {
            Self::UsePins => ("use the pinned state", &[]),
            Self::Change => ("change the loaded state", &[CAP_BPF]),
            Self::Load => ("load its programs", &[CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN]),
        }
    }

    /// Names the missing ones of the effective capabilities. CAP_SYS_ADMIN replaces all of them
    /// (`bpf_token_capable` in kernel/bpf/token.c, `bpf_prog_load` before 6.9).
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
        Some(format!("to {purpose}, vipnat needs {missing}; run it as root"))
    }
}

/// Checks kernel version, BTF and privileges, in this order.
pub(crate) fn check(needed: Privilege) -> Result<(), MachineError> {
    let name = uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = name.unwrap_or_default();
    if version(&release).is_none_or(|version| version < FLOOR) {
        return Err(MachineError::KernelTooOld { release, oldest: FLOOR });
    }
    if !Path::new(BTF).exists() {
        return Err(MachineError::NoBtf { path: BTF });
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match needed.missing(effective(&status)) {
        Some(missing) => Err(MachineError::MissingPrivileges(missing)),
        None => Ok(()),
    }
}

/// Refuses to load if one of aya's probes failed for a feature that every supported kernel has.
///
/// aya takes any error of a probe for a missing feature, also ENOMEM. It would then load programs that
/// the verifier checks differently, and they would stay.
pub(crate) fn check_features() -> io::Result<()> {
    let features = aya::features();
    let has_functions = features
        .btf()
        .is_some_and(|btf| btf.btf_func() && btf.btf_func_global() && btf.btf_datasec());
    if has_functions && features.bpf_name() && features.bpf_global_data() {
        return Ok(());
    }
    Err(io::Error::other(
        "the kernel refused a BPF feature probe; the machine may be out of memory",
    ))
}

/// Whether the kernel has MPTCP. Only then can hooks tell a subflow's socket from the application's.
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
        for needed in [Privilege::UsePins, Privilege::Change, Privilege::Load] {
            let (_, enough) = needed.capabilities();
            for sufficient in [mask(enough), mask(&[CAP_SYS_ADMIN]), u64::MAX] {
                assert_eq!(needed.missing(sufficient), None, "{needed:?}");
            }
            for missing in enough {
                let said = needed.missing(!mask(&[*missing, CAP_SYS_ADMIN])).expect("something");
                assert!(said.contains(&format!("vipnat needs {};", missing.0)), "{said}");
            }
        }
        let said = Privilege::Load.missing(0).expect("something");
        assert!(said.contains("needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN;"), "{said}");
    }
}
