//! The connect hooks: ask for the verdict, apply it, and record it in the socket.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::{
    AppId, ConnRecord, Destination, Protocol, Socket, Target, Ticks, UdpFlow, Verdict, decide,
    rebind,
};

use crate::{
    ctx::{self, Family},
    maps::{self, KernelMaps},
    sk_storage,
    verdict::{self, PROCEED},
};

#[inline(always)]
pub(crate) fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    let app = maps::app();
    if app == AppId::NONE {
        return PROCEED;
    }
    let protocol = ctx::protocol(ctx);
    let udp = matches!(protocol, Protocol::Udp);
    let socket = if udp { ctx::socket(ctx) } else { Socket::default() };
    // A real IPv6 address counts as an address that is no VIP.
    let ip = ctx::ip(ctx, family).unwrap_or_default();
    let to = Destination { app, ip, port: ctx::port(ctx), protocol, connect: true };
    if socket.connected
        && let Some(target) = reconnect(ctx, &to, &socket)
    {
        ctx::set(ctx, family, target.ip, target.port);
        return PROCEED;
    }
    if !to.may_be_vip() {
        if udp {
            sk_storage::suppress_reply_translation(ctx, &to);
        }
        // Also if the address is the backend to which the socket was connected.
        sk_storage::record_direct_peer(ctx, &to);
        return PROCEED;
    }
    // Check this before taking a turn or recording anything, since the call fails anyway.
    if verdict::has_failed() {
        return PROCEED;
    }
    // A socket has flows only for its own port, and only UDP records have an age.
    let now = if udp { ctx::now() } else { Ticks::default() };
    if socket.local_port != 0
        && let Some(record) = sk_storage::continue_flow(ctx, &to, &socket, now)
    {
        sk_storage::store_record(ctx, &record);
        ctx::set(ctx, family, record.backend, record.backend_port);
        return PROCEED;
    }

    let verdict = decide(&KernelMaps, &to);
    match &verdict {
        Verdict::Pass => sk_storage::record_direct_peer(ctx, &to),
        Verdict::Redirect(target) => {
            let record = ConnRecord::new(&to, target, now);
            // connect(AF_UNSPEC) may leave a UDP socket the port that it already has. So the hook stores the
            // flow for that case too. With port 0, no datagram can follow.
            if record.vip_port != 0 && socket.local_port != 0 {
                sk_storage::store_flow(ctx, &UdpFlow::new(&record, &socket, now), now);
            }
            sk_storage::store_record(ctx, &record);
        }
        // The connect fails, and the socket stays as it was.
        Verdict::Unreachable | Verdict::Retry => {}
    }
    verdict::apply(ctx, family, &verdict)
}

/// A connected UDP socket connects again. If it asks for the same VIP, it goes on to its backend, as long
/// as the table has that backend. If it asks for another address, its flow lives on: the socket keeps its
/// port, may come back to the VIP, and stays connected if this connect fails.
#[inline(always)]
fn reconnect(ctx: &SockAddrContext, to: &Destination, socket: &Socket) -> Option<Target> {
    let record = sk_storage::own_record(ctx)?;
    if !record.has_backend(socket.peer, socket.peer_port) {
        // Its last connect failed, or an app below has just recorded this one.
        let flow = sk_storage::peer_flow(ctx, socket.peer, socket.peer_port)?;
        if !flow.record.is_to(to) {
            store_peer_flow(ctx, &flow.record, socket);
            return None;
        }
        *record = flow.record;
    } else if !record.is_to(to) {
        if record.is_peer_of(socket) {
            store_peer_flow(ctx, record, socket);
        }
        return None;
    }
    let target = rebind(&KernelMaps, to, &record.target())?;
    record.set_slot(&target);
    Some(target)
}

#[inline(always)]
fn store_peer_flow(ctx: &SockAddrContext, record: &ConnRecord, socket: &Socket) {
    let now = ctx::now();
    sk_storage::store_flow(ctx, &UdpFlow::of_peer(record, socket, now), now);
}
