//! The hooks of datagrams with an address: where they go, and whom they come from.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::{Destination, Flow, Note, Protocol, Verdict, decide, flow::shown_peer};

use crate::{
    context::{self, Family},
    functions::answered,
    maps::{self, Pinned},
    notes,
    verdict::{self, PROCEED, carry_out},
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
    // Not UDP-Lite, whose connects have no hook.
    if !matches!(protocol, Protocol::Udp) {
        return PROCEED;
    }
    let socket = context::socket(ctx);
    // And not what a connected socket sends to its peer, as an AF_INET6 one does each time: that goes on
    // to where it is connected to.
    if socket.is_connected_to(&to) {
        return PROCEED;
    }
    if !to.may_be_vip() {
        notes::hide(ctx, &to);
        return PROCEED;
    }
    // The socket is connected through this VIP. Only its peer's answers reach it, so it goes on there
    // also when the table no longer has that, as it does without an address.
    if socket.connected
        && let Some(note) = notes::own_note(ctx)
        && notes::is_of_peer(ctx, note, socket.peer, socket.peer_port)
        && note.leads_to(&to)
    {
        context::set(ctx, family, note.backend, note.backend_port);
        return PROCEED;
    }
    let now = context::now();
    if let Some(note) = notes::go_on(ctx, &to, &socket, now) {
        context::set(ctx, family, note.backend, note.backend_port);
        return PROCEED;
    }

    if verdict::has_failed() {
        return PROCEED;
    }
    let verdict = decide(&Pinned, &to);
    if let Verdict::Redirect(target) = &verdict {
        notes::keep(ctx, &Flow::new(&Note::new(&to, target, now), &socket, now), now);
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
    let socket = context::socket(ctx);
    let mut shown = None;
    if socket.connected && socket.peer == ip && socket.peer_port == port {
        // As getpeername shows it.
        if let Some(note) = notes::own_note(ctx)
            && notes::is_of_peer(ctx, note, ip, port)
        {
            shown = shown_peer(note, ip, port);
        }
    } else if let Some(datagrams) = notes::datagrams(ctx) {
        shown = answered(datagrams, ip, port, &socket, context::now());
    }
    if let Some((vip, port)) = shown {
        context::set(ctx, family, vip, port);
    }
    PROCEED
}
