//! Applies a verdict to the call: redirects it, fails it, or leaves it alone.

use core::ptr::addr_of_mut;

use aya_ebpf::{
    helpers::{bpf_get_retval, bpf_set_retval},
    programs::SockAddrContext,
};
use vipnat_common::Verdict;

use crate::{
    ctx::{self, Family},
    maps,
};

/// The call goes on.
pub(crate) const PROCEED: i32 = 1;
/// The call fails with the error that was set.
const FAIL: i32 = 0;

/// errno numbers from include/uapi/asm-generic.
const EAGAIN: i32 = 11;
const EHOSTUNREACH: i32 = 113;
const ENETUNREACH: i32 = 101;

/// The error for a VIP without backends. The build that tests upgrades returns another error.
const NO_BACKEND: i32 = if cfg!(feature = "other-build") { ENETUNREACH } else { EHOSTUNREACH };

/// Carries the verdict out. Returns the hook's result.
#[inline(always)]
pub(crate) fn apply(ctx: &SockAddrContext, family: Family, verdict: &Verdict) -> i32 {
    match verdict {
        Verdict::Pass => PROCEED,
        Verdict::Redirect(target) => {
            ctx::set(ctx, family, target.ip, target.port);
            PROCEED
        }
        // Fail closed: the address is a VIP without a backend. The call must neither hang on an address that
        // does not exist, nor look like a permission problem (EPERM).
        Verdict::Unreachable => {
            // SAFETY: field projection of the pointer that `count` passes.
            maps::count(|c| unsafe { addr_of_mut!((*c).unreachable) });
            fail(NO_BACKEND)
        }
        // Fail closed: any backend picked now might be another VIP's. The application may try again.
        Verdict::Retry => {
            // SAFETY: as above.
            maps::count(|c| unsafe { addr_of_mut!((*c).unsettled) });
            fail(EAGAIN)
        }
    }
}

/// Whether an earlier program has refused this call: one of another project, or the hook of an app below.
/// The kernel runs the later programs all the same (`bpf_prog_run_array_cg` in kernel/bpf/cgroup.c).
#[inline(always)]
pub(crate) fn has_failed() -> bool {
    // SAFETY: no arguments; available to connect and sendmsg hooks since kernel 6.1.
    unsafe { bpf_get_retval() != 0 }
}

#[inline(always)]
fn fail(errno: i32) -> i32 {
    // SAFETY: no pointers; available to connect and sendmsg hooks since kernel 6.1.
    unsafe { bpf_set_retval(-errno) };
    FAIL
}
