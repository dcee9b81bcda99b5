//! The recvmsg hooks: show the source of a datagram.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::AppId;

use crate::{
    ctx::{self, Family},
    maps, sk_storage, subprograms,
    verdict::PROCEED,
};

/// Runs in `recvfrom` and `recvmsg` if the caller asks for the source.
#[inline(always)]
pub(crate) fn recvmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    if maps::app() == AppId::NONE {
        return PROCEED;
    }
    let Some(ip) = ctx::ip(ctx, family) else {
        return PROCEED;
    };
    let port = ctx::port(ctx);
    let socket = ctx::socket(ctx);
    let mut shown = None;
    if socket.connected && socket.peer == ip && socket.peer_port == port {
        // The same source that getpeername shows.
        if let Some(record) = sk_storage::own_record(ctx)
            && sk_storage::ensure_record_of_peer(ctx, record, ip, port)
        {
            shown = record.shown_peer(ip, port);
        }
    } else if let Some(flows) = sk_storage::udp_flows(ctx) {
        shown = subprograms::reply_source(flows, ip, port, &socket, ctx::now());
    }
    if let Some((vip, port)) = shown {
        ctx::set(ctx, family, vip, port);
    }
    PROCEED
}
