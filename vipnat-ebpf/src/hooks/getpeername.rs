//! The getpeername hooks: show the VIP if the socket was connected through one.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::AppId;

use crate::{
    ctx::{self, Family},
    maps, sk_storage,
    verdict::PROCEED,
};

/// Cannot fail the call: the verifier requires the result 1.
#[inline(always)]
pub(crate) fn getpeername(ctx: &SockAddrContext, family: Family) -> i32 {
    // Check this first: accept runs this hook too, and most sockets, as those of servers, have no record.
    let Some(record) = sk_storage::own_record(ctx) else {
        return PROCEED;
    };
    if maps::app() == AppId::NONE {
        return PROCEED;
    }
    let Some(ip) = ctx::ip(ctx, family) else {
        return PROCEED;
    };
    let port = ctx::port(ctx);
    if sk_storage::ensure_record_of_peer(ctx, record, ip, port)
        && let Some((vip, port)) = record.shown_peer(ip, port)
    {
        ctx::set(ctx, family, vip, port);
    }
    PROCEED
}
