//! The hooks of datagrams with an address: where they go, and whom they come from.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::{Destination, Flow, Protocol, Verdict, flow::shown_peer};

use crate::{
    context::{self, Family},
    functions::{decide, follow, keep},
    maps, notes,
    verdict::{PROCEED, carry_out},
};

/// `sendto` and `sendmsg`. Also runs when a connected socket sends without an address but with a
/// control message, and then sees 0.0.0.0; and, with the peer, for each datagram of a connected
/// AF_INET6 socket (`udpv6_sendmsg`).
#[inline(always)]
pub(crate) fn send(ctx: &SockAddrContext, family: Family) -> i32 {
    let scope = maps::scope();
    if scope == 0 {
        return PROCEED;
    }
    let Some(ip) = context::ip(ctx, family) else {
        return PROCEED;
    };
    let protocol = context::protocol(ctx);
    let to = Destination { scope, ip, port: context::port(ctx), protocol, connect: false };
    // Not UDP-Lite, whose connects have no hook. And not what a connected socket sends to its peer, as
    // an AF_INET6 one does each time: that goes on to where it is connected to.
    if !matches!(protocol, Protocol::Udp) || context::is_connected_to(ctx, &to) {
        return PROCEED;
    }
    if !to.may_be_vip() {
        notes::hide(ctx, &to);
        return PROCEED;
    }
    let socket = context::socket(ctx);
    // The socket is connected through this VIP. Only its peer's answers reach it, so it goes on there
    // also when the table no longer has that, as it does without an address.
    if let Some(note) = notes::own_note(ctx)
        && note.connects(&to, &socket)
    {
        context::set(ctx, family, note.backend, note.backend_port);
        return PROCEED;
    }
    if let Some(datagrams) = notes::datagrams(ctx)
        && let Some(mut flow) = datagrams.find(&to, &socket)
        && let Some(target) = follow(&to, &flow)
    {
        flow.sent(&target, &socket);
        keep(ctx, &flow, socket.now);
        context::set(ctx, family, target.ip, target.port);
        return PROCEED;
    }

    let verdict = decide(&to);
    if let Verdict::Redirect(target) = &verdict {
        keep(ctx, &Flow::new(&to, target, &socket), socket.now);
    }
    carry_out(ctx, family, &verdict)
}

/// `recvfrom` and `recvmsg` of callers that ask for the source.
#[inline(always)]
pub(crate) fn receive(ctx: &SockAddrContext, family: Family) -> i32 {
    if maps::scope() == 0 {
        return PROCEED;
    }
    let Some(ip) = context::ip(ctx, family) else {
        return PROCEED;
    };
    let port = context::port(ctx);
    let mut shown = None;
    if let Some(note) = notes::own_note(ctx)
        && note.is_peer_of(&context::socket(ctx))
    {
        shown = shown_peer(note, ip, port);
    }
    if shown.is_none() {
        shown = notes::answered(ctx, ip, port);
    }
    if let Some((vip, port)) = shown {
        context::set(ctx, family, vip, port);
    }
    PROCEED
}
