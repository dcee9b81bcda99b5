//! The getpeername hooks: show the VIP where the socket was connected through one.

use aya_ebpf::programs::SockAddrContext;
use vipnat_common::{Protocol, flow::shown_peer};

use crate::{
    context::{self, Family},
    functions::peer,
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
    let mut shown = shown_peer(note, ip, port);
    // A UDP socket stays connected when its next connect fails, which then has taken the note. What was
    // connected to without a VIP is noted too.
    let noted = note.backend == ip && note.backend_port == port;
    if !noted && matches!(context::protocol(ctx), Protocol::Udp) {
        let local_port = context::socket(ctx).local_port;
        shown = notes::datagrams(ctx).and_then(|datagrams| peer(datagrams, ip, port, local_port));
    }
    if let Some((vip, port)) = shown {
        context::set(ctx, family, vip, port);
    }
    PROCEED
}
