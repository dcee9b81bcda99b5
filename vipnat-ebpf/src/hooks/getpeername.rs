//! The getpeername hooks: show the VIP where the socket was connected through one.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::AppId;

use crate::{
    ctx::{self, Family},
    maps, sk_storage,
    verdict::PROCEED,
};

/// Cannot fail the call: the verifier wants exactly 1.
#[inline(always)]
pub(crate) fn getpeername(ctx: &SockAddrContext, family: Family) -> i32 {
    // First, since most sockets have none, as those of servers: this runs inside accept too.
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
