//! The connect hooks: ask for the verdict, apply it, and note it in the socket.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::{Destination, Flow, Protocol, Socket, Verdict, flow};

use crate::{
    context::{self, Family},
    functions::{decide, follow, keep},
    maps, notes,
    verdict::{PROCEED, carry_out},
};

#[inline(always)]
pub(crate) fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    let scope = maps::scope();
    if scope == 0 {
        return PROCEED;
    }
    let protocol = context::protocol(ctx);
    let udp = matches!(protocol, Protocol::Udp);
    let socket = if udp { context::socket(ctx) } else { Socket::default() };
    // An address that is IPv6 alone is as good as any that is no VIP.
    let ip = context::ip(ctx, family).unwrap_or_default();
    let to = Destination { scope, ip, port: context::port(ctx), protocol, connect: true };
    if udp {
        part(ctx, &to, &socket);
    }
    if !to.may_be_vip() {
        if udp {
            notes::hide(ctx, &to);
        }
        // Even if it happens to be the backend that the socket was connected to.
        notes::forget(ctx, &to);
        return PROCEED;
    }
    if udp {
        let known = flow::known(&to, &socket, notes::note(ctx), notes::datagrams(ctx));
        if let Some(mut flow) = known
            && let Some(target) = follow(&to, &flow)
        {
            flow.sent(&target, &socket);
            note(ctx, &flow, &socket, true);
            context::set(ctx, family, target.ip, target.port);
            return PROCEED;
        }
    }

    let verdict = decide(&to);
    match &verdict {
        Verdict::Pass => notes::forget(ctx, &to),
        Verdict::Redirect(target) => note(ctx, &Flow::new(&to, target, &socket), &socket, udp),
        // The connect fails, and the socket stays what it was.
        Verdict::Unreachable | Verdict::Unsettled => {}
    }
    carry_out(ctx, family, &verdict)
}

/// If a UDP socket that is connected through a VIP connects elsewhere, its flow lives on: the socket
/// keeps its port, may come back to the VIP, and stays connected if this connect fails.
#[inline(always)]
fn part(ctx: &SockAddrContext, to: &Destination, socket: &Socket) {
    if let Some(note) = notes::note(ctx)
        && note.scope == to.scope
        && note.is_peer_of(socket)
        && !note.leads_to(to)
    {
        let mut flow = *note;
        flow.left(socket);
        keep(ctx, &flow, socket.now);
    }
}

/// The socket is to be connected through this flow. If a UDP socket has its port already, which
/// connect(AF_UNSPEC) may not take from it, the flow is kept for that case too; with port 0 nothing can
/// follow.
#[inline(always)]
fn note(ctx: &SockAddrContext, flow: &Flow, socket: &Socket, udp: bool) {
    if udp && flow.vip_port != 0 && socket.local_port != 0 && !flow.is_peer_of(socket) {
        keep(ctx, flow, socket.now);
    }
    notes::remember(ctx, flow);
}
