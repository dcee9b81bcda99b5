//! Whether this machine can run vipnat, asked before anything is touched.

use std::{fs, io, path::Path};

use nix::sys::utsname::uname;

use super::error::{Error, Result};

/// The oldest kernel: `bpf_set_retval` in connect hooks, fetching atomics (5.12), batch lookups.
const FLOOR: (u32, u32) = (6, 1);

/// The kernel's own BTF, without which maps carry no types.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Capabilities by number (include/uapi/linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// There if the kernel has MPTCP.
const MPTCP: &str = "/proc/sys/net/mptcp";

/// Checks kernel version, BTF and privileges, in this order.
pub(super) fn check() -> Result<()> {
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
    if !may_load(effective(&status)) {
        return unsupported(
            "missing privileges: vipnat needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; run it as root"
                .to_owned(),
        );
    }
    Ok(())
}

/// Whether aya found what every kernel that [`check`] lets pass has. It finds out by trying, and any
/// error is a no to it, also that there was no memory; it would go on with programs that are
/// verified in another way, and that stay.
pub(super) fn check_features() -> io::Result<()> {
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
pub(super) fn has_mptcp() -> bool {
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

/// CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON, but not for CAP_NET_ADMIN. Without CAP_PERFMON
/// the verifier allows no loop over what is in a socket, and slows down what it does allow with
/// barriers against speculation (`bypass_spec_v1` and `bypass_spec_v4` in include/linux/bpf.h).
fn may_load(effective: u64) -> bool {
    let has = |cap: u32| effective & (1 << cap) != 0;
    (has(CAP_BPF) && has(CAP_PERFMON) || has(CAP_SYS_ADMIN)) && has(CAP_NET_ADMIN)
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
        let enough = [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN];
        assert!(may_load(u64::MAX) && may_load(enough.iter().map(|cap| 1 << cap).sum()));
        for missing in enough {
            let rest = enough.iter().filter(|cap| **cap != missing).map(|cap| 1 << cap).sum();
            assert!(!may_load(rest), "{missing}");
        }
        assert!(may_load(1 << CAP_SYS_ADMIN | 1 << CAP_NET_ADMIN) && !may_load(0));
    }
}
