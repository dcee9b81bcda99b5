//! The connect hooks: ask for the verdict, apply it, and note it in the socket.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::{
    Destination, Flow, Moment, Note, Protocol, Socket, Target, Verdict, decide, follow,
};

use crate::{
    context::{self, Family},
    maps::{self, Pinned},
    notes,
    verdict::{self, PROCEED, carry_out},
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
    if socket.connected
        && let Some(target) = again(ctx, &to, &socket)
    {
        context::set(ctx, family, target.ip, target.port);
        return PROCEED;
    }
    if !to.may_be_vip() {
        if udp {
            notes::hide(ctx, &to);
        }
        // Even if it happens to be the backend that the socket was connected to.
        notes::forget(ctx, &to);
        return PROCEED;
    }
    // Before a turn is taken, or anything noted, for nothing.
    if verdict::has_failed() {
        return PROCEED;
    }
    // Only a socket's own port has flows, and only of UDP it matters since when.
    let now = if udp { context::now() } else { Moment::default() };
    if socket.local_port != 0
        && let Some(note) = notes::go_on(ctx, &to, &socket, now)
    {
        notes::remember(ctx, &note);
        context::set(ctx, family, note.backend, note.backend_port);
        return PROCEED;
    }

    let verdict = decide(&Pinned, &to);
    match &verdict {
        Verdict::Pass => notes::forget(ctx, &to),
        Verdict::Redirect(target) => {
            let note = Note::new(&to, target, now);
            // If a UDP socket has its port already, which connect(AF_UNSPEC) may not take from it, the
            // flow is kept for that case too; with port 0 nothing can follow.
            if note.vip_port != 0 && socket.local_port != 0 {
                notes::keep(ctx, &Flow::new(&note, &socket, now), now);
            }
            notes::remember(ctx, &note);
        }
        // The connect fails, and the socket stays what it was.
        Verdict::Unreachable | Verdict::Unsettled => {}
    }
    carry_out(ctx, family, &verdict)
}

/// A UDP socket that is connected connects again. If that is through the same VIP, it goes on to its
/// backend, as long as the table has it. If not, its flow lives on: it keeps its port, may come back to
/// the VIP, and stays connected if this connect fails.
#[inline(always)]
fn again(ctx: &SockAddrContext, to: &Destination, socket: &Socket) -> Option<Target> {
    let note = notes::own_note(ctx)?;
    if !note.is_about(socket.peer, socket.peer_port) {
        // Its last connect failed, or an app below has just noted this one.
        let flow = notes::flow_of_peer(ctx, socket.peer, socket.peer_port)?;
        if !flow.note.leads_to(to) {
            keep_peer(ctx, &flow.note, socket);
            return None;
        }
        *note = flow.note;
    } else if !note.leads_to(to) {
        if note.is_peer_of(socket) {
            keep_peer(ctx, note, socket);
        }
        return None;
    }
    let target = follow(&Pinned, to, &note.target())?;
    note.goes_on(&target);
    Some(target)
}

#[inline(always)]
fn keep_peer(ctx: &SockAddrContext, note: &Note, socket: &Socket) {
    let now = context::now();
    notes::keep(ctx, &Flow::of_peer(note, socket, now), now);
}
