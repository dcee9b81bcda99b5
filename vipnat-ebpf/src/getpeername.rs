//! The getpeername hooks: show the VIP where the socket was connected through one.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::flow::shown_peer;

use crate::{
    context::{self, Family},
    maps, notes,
    verdict::PROCEED,
};

/// Cannot fail the call: the verifier wants exactly 1.
#[inline(always)]
pub(crate) fn getpeername(ctx: &SockAddrContext, family: Family) -> i32 {
    // First, since most sockets have none, as those of servers: this runs inside accept too.
    let Some(note) = notes::own_note(ctx) else {
        return PROCEED;
    };
    if maps::scope() == 0 {
        return PROCEED;
    }
    let Some(ip) = context::ip(ctx, family) else {
        return PROCEED;
    };
    let port = context::port(ctx);
    if notes::is_of_peer(ctx, note, ip, port)
        && let Some((vip, port)) = shown_peer(note, ip, port)
    {
        context::set(ctx, family, vip, port);
    }
    PROCEED
}
