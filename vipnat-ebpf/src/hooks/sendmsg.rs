//! The sendmsg hooks: decide where a datagram with an address goes.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::{AppId, ConnRecord, Destination, Protocol, UdpFlow, Verdict, decide};

use crate::{
    ctx::{self, Family},
    maps::{self, KernelMaps},
    sk_storage,
    verdict::{self, PROCEED},
};

/// Runs in `sendto` and `sendmsg`. It also runs when a connected socket sends without an address but with a
/// control message, and then sees 0.0.0.0. For a connected AF_INET6 socket it runs for each datagram, and
/// sees the peer (`udpv6_sendmsg`).
#[inline(always)]
pub(crate) fn sendmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    let app = maps::app();
    if app == AppId::NONE {
        return PROCEED;
    }
    let Some(ip) = ctx::ip(ctx, family) else {
        return PROCEED;
    };
    let protocol = ctx::protocol(ctx);
    let to = Destination { app, ip, port: ctx::port(ctx), protocol, connect: false };
    // Leave UDP-Lite alone: its connects have no hook.
    if !matches!(protocol, Protocol::Udp) {
        return PROCEED;
    }
    let socket = ctx::socket(ctx);
    // Leave a datagram of a connected socket to its peer alone: it goes where the socket is connected to. An
    // AF_INET6 socket gets here each time.
    if socket.is_connected_to(&to) {
        return PROCEED;
    }
    if !to.may_be_vip() {
        sk_storage::suppress_reply_translation(ctx, &to);
        return PROCEED;
    }
    // The socket is connected through this VIP, and only answers of its peer reach it. So the datagram goes
    // to the peer even if the table no longer has it, as it would without an address.
    if socket.connected
        && let Some(record) = sk_storage::own_record(ctx)
        && sk_storage::ensure_record_of_peer(ctx, record, socket.peer, socket.peer_port)
        && record.is_to(&to)
    {
        ctx::set(ctx, family, record.backend, record.backend_port);
        return PROCEED;
    }
    let now = ctx::now();
    if let Some(record) = sk_storage::continue_flow(ctx, &to, &socket, now) {
        ctx::set(ctx, family, record.backend, record.backend_port);
        return PROCEED;
    }

    if verdict::has_failed() {
        return PROCEED;
    }
    let verdict = decide(&KernelMaps, &to);
    if let Verdict::Redirect(target) = &verdict {
        let record = ConnRecord::new(&to, target, now);
        sk_storage::store_flow(ctx, &UdpFlow::new(&record, &socket, now), now);
    }
    verdict::apply(ctx, family, &verdict)
}
