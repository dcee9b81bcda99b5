//! The getpeername hooks: show the VIP where the socket was connected through one.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::decide::shown_peer;

use crate::{
    context::{self, Family},
    maps::{self, FLOWS},
};

/// getpeername cannot be failed from here: the verifier wants exactly 1.
const PROCEED: i32 = 1;

#[inline(always)]
pub(crate) fn getpeername(ctx: &SockAddrContext, family: Family) -> i32 {
    if maps::scope() == 0 {
        return PROCEED;
    }
    // SAFETY: the context's socket is valid while the hook runs.
    let flow = unsafe { FLOWS.get_ptr_mut(ctx) };
    if flow.is_null() {
        return PROCEED;
    }
    let Some(peer) = context::ip(ctx, family) else {
        return PROCEED;
    };
    // SAFETY: checked for null, and as large as a Flow.
    let flow = unsafe { &*flow };
    if let Some((vip, port)) = shown_peer(flow, peer, context::port(ctx)) {
        context::set(ctx, family, vip, port);
    }
    PROCEED
}
