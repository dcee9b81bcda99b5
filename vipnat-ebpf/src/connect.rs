//! The connect hooks: ask for the verdict, apply it.

use core::ptr::addr_of_mut;

use aya_ebpf::{helpers::bpf_set_retval, programs::SockAddrContext};
use vipnat_common::{Destination, Flow, Verdict, decide};

use crate::{
    context::{self, Family},
    maps::{self, FLOWS, Pinned},
};

/// The call goes on.
const PROCEED: i32 = 1;
/// The call fails with the error that was set.
const FAIL: i32 = 0;

/// errno numbers of include/uapi/asm-generic.
const EAGAIN: i32 = 11;
const EHOSTUNREACH: i32 = 113;

#[inline(always)]
pub(crate) fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    let scope = maps::scope();
    if scope == 0 {
        return PROCEED;
    }
    let Some(ip) = context::ip(ctx, family) else {
        forget(ctx, scope);
        return PROCEED;
    };
    let to = Destination { scope, ip, port: context::port(ctx), protocol: context::protocol(ctx) };

    match decide(&Pinned, &to) {
        Verdict::Pass => {
            forget(ctx, scope);
            PROCEED
        }
        Verdict::Redirect { ip: backend, port: backend_port } => {
            remember(ctx, &Flow { scope, vip: ip, backend, vip_port: to.port, backend_port });
            context::set(ctx, family, backend, backend_port);
            // SAFETY: field projection of the pointer that `count` passes.
            maps::count(|c| unsafe { addr_of_mut!((*c).redirected) });
            PROCEED
        }
        // Closed: the VIP is ours and nothing answers for it, so the connect must neither hang on
        // an address that does not exist nor look like a permission problem (EPERM).
        Verdict::Unreachable => {
            // SAFETY: as above.
            maps::count(|c| unsafe { addr_of_mut!((*c).unreachable) });
            fail(EHOSTUNREACH)
        }
        // Closed: any backend picked now might be another VIP's. The application may try again.
        Verdict::Unsettled => {
            // SAFETY: as above.
            maps::count(|c| unsafe { addr_of_mut!((*c).unsettled) });
            fail(EAGAIN)
        }
    }
}

#[inline(always)]
fn fail(errno: i32) -> i32 {
    // SAFETY: no pointers; available to connect hooks since kernel 6.1.
    unsafe { bpf_set_retval(-errno) };
    FAIL
}

/// Records in the socket what it was translated from, for getpeername.
#[inline(always)]
fn remember(ctx: &SockAddrContext, flow: &Flow) {
    // SAFETY: the context's socket is valid while the hook runs.
    let stored = unsafe { FLOWS.get_or_insert_ptr_mut(ctx, None) };
    if stored.is_null() {
        // Open: the connection matters more than what getpeername says of it.
        // SAFETY: field projection of the pointer that `count` passes.
        maps::count(|c| unsafe { addr_of_mut!((*c).unrecorded) });
    } else {
        // SAFETY: not null, and as large as a Flow.
        unsafe { *stored = *flow };
    }
}

/// The socket goes somewhere that is no VIP: what this app recorded of an earlier connect no
/// longer holds, even if the new peer happens to be the old backend.
#[inline(always)]
fn forget(ctx: &SockAddrContext, scope: u32) {
    // SAFETY: the context's socket is valid while the hook runs.
    let stored = unsafe { FLOWS.get_ptr_mut(ctx) };
    // SAFETY: checked for null, and as large as a Flow.
    unsafe {
        if !stored.is_null() && (*stored).scope == scope {
            (*stored).vip = [0; 4];
        }
    }
}
