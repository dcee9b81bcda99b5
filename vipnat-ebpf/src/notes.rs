//! What is kept in a socket: what it is connected through, and its UDP flows.

use core::ptr::{addr_of_mut, null_mut};

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    btf_maps::SkStorage,
    cty::c_void,
    helpers::{bpf_sk_storage_get, bpf_skc_to_mptcp_sock},
    programs::SockAddrContext,
};
use vipnat_common::{Datagrams, Destination, Flow, Maps as _, Moment, Note, Protocol, Socket};

use crate::{
    context, functions,
    maps::{self, DATAGRAMS, FLOWS, Pinned},
    verdict,
};

/// Whether the kernel has MPTCP; without, the verifier refuses the helper that asks for its sockets. The
/// loader writes it before the verifier reads it.
#[unsafe(no_mangle)]
static MPTCP: u32 = 0;

// Every hook that reads or writes these runs under the socket's lock, those of an MPTCP socket's subflow
// under that of both, so nobody else has them meanwhile. References to them live only until the next call of
// a function that writes.

/// What the very socket whose hook runs last connected to, if that was a VIP.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "see above")]
pub(crate) fn own_note(ctx: &SockAddrContext) -> Option<&mut Note> {
    // SAFETY: null, or as large as a Note; see above.
    unsafe { storage(&FLOWS, own(ctx), 0).as_mut() }
}

/// Whether the note of a UDP socket is about its peer, which has this address and port. A connect that
/// fails leaves the socket connected to where it was, but has taken the note. It is put back then.
///
/// Not for hooks of connect: the note may be the very one that an app below has just written.
#[inline(always)]
pub(crate) fn is_of_peer(ctx: &SockAddrContext, note: &mut Note, ip: [u8; 4], port: u16) -> bool {
    if note.is_about(ip, port) {
        return true;
    }
    let Some(flow) = flow_of_peer(ctx, ip, port) else {
        return false;
    };
    *note = flow.note;
    true
}

/// The flow through which a UDP socket whose last connect failed is connected to this address and port.
#[inline(always)]
pub(crate) fn flow_of_peer(ctx: &SockAddrContext, ip: [u8; 4], port: u16) -> Option<Flow> {
    let datagrams = datagrams(ctx)?;
    let place = functions::peer(datagrams, ip, port, context::socket(ctx).local_port);
    datagrams.flows.get(place).copied()
}

/// Notes in the socket what it is connected through.
#[inline(always)]
pub(crate) fn remember(ctx: &SockAddrContext, note: &Note) {
    // SAFETY: null, or as large as a Note; see above.
    match unsafe { storage(&FLOWS, holder(ctx), BPF_SK_STORAGE_GET_F_CREATE).as_mut() } {
        Some(place) => *place = *note,
        None => unrecorded(),
    }
}

/// Forgets what this app noted of an earlier connect, since the socket connects to what is no VIP.
///
/// Not for MPTCP, where more subflows connect to the peer later on, which this can't tell from the first.
/// A note that is not true any more shows only if the socket then connects to the same backend itself.
#[inline(always)]
pub(crate) fn forget(ctx: &SockAddrContext, to: &Destination) {
    // SAFETY: null, or as large as a Note; see above.
    if let Some(note) = unsafe { storage(&FLOWS, own(ctx), 0).as_mut() }
        && note.scope == to.scope
        && !verdict::has_failed()
    {
        note.vip = [0; 4];
        note.backend = to.ip;
        note.backend_port = to.port;
    }
}

/// The UDP flows of the socket, if it ever had any.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "see above")]
pub(crate) fn datagrams(ctx: &SockAddrContext) -> Option<&mut Datagrams> {
    // SAFETY: null, or as large as Datagrams; see above.
    unsafe { storage(&DATAGRAMS, own(ctx), 0).as_mut() }
}

/// What a socket sends goes on as the flow that it belongs to: [`Datagrams::go_on`].
#[inline(always)]
pub(crate) fn go_on(
    ctx: &SockAddrContext,
    to: &Destination,
    socket: &Socket,
    now: Moment,
) -> Option<Note> {
    let datagrams = datagrams(ctx)?;
    datagrams
        .go_on_first(&Pinned, to, socket, now)
        .or_else(|| datagrams.go_on(&Pinned, to, socket, now))
}

/// Keeps a UDP flow in the socket.
#[inline(always)]
pub(crate) fn keep(ctx: &SockAddrContext, flow: &Flow, now: Moment) {
    // SAFETY: null, or as large as Datagrams; see above.
    match unsafe { storage(&DATAGRAMS, own(ctx), BPF_SK_STORAGE_GET_F_CREATE).as_mut() } {
        Some(datagrams) => {
            if !Pinned.keep(datagrams, flow, now) {
                // SAFETY: field projection of the pointer that `count` passes.
                maps::count(|c| unsafe { addr_of_mut!((*c).evicted) });
            }
        }
        None => unrecorded(),
    }
}

/// The socket sends or connects to an address that is no VIP: [`Datagrams::hide`].
#[inline(always)]
pub(crate) fn hide(ctx: &SockAddrContext, to: &Destination) {
    if let Some(datagrams) = datagrams(ctx) {
        functions::hide(datagrams, to);
    }
}

/// Open: the connection matters more than what is seen of it.
#[inline(always)]
pub(crate) fn unrecorded() {
    // SAFETY: field projection of the pointer that `count` passes.
    maps::count(|c| unsafe { addr_of_mut!((*c).unrecorded) });
}

/// The socket whose hook runs.
#[inline(always)]
fn own(ctx: &SockAddrContext) -> *mut c_void {
    // SAFETY: the kernel passes a valid context.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk.cast() }
}

/// The socket that the application has: `connect` of an MPTCP socket runs the hook of its first
/// subflow, a TCP socket of the kernel's, but `getpeername` that of the MPTCP socket itself.
#[inline(always)]
fn holder(ctx: &SockAddrContext) -> *mut c_void {
    let own = own(ctx);
    // SAFETY: a static that is never null; volatile, because only the loader knows its value.
    let known = unsafe { (&raw const MPTCP).read_volatile() } != 0;
    if known && matches!(context::protocol(ctx), Protocol::Tcp) {
        // SAFETY: the context's socket is valid while the hook runs.
        let mptcp: *mut c_void = unsafe { bpf_skc_to_mptcp_sock(own) }.cast();
        if !mptcp.is_null() {
            return mptcp;
        }
    }
    own
}

/// A socket's storage in a map; null if there is none, or with CREATE no memory for it.
#[inline(always)]
unsafe fn storage<T>(map: &SkStorage<T>, socket: *mut c_void, flags: u32) -> *mut T {
    let map = core::ptr::from_ref(map).cast_mut().cast();
    // SAFETY: the caller's socket is valid while the hook runs.
    unsafe { bpf_sk_storage_get(map, socket, null_mut(), u64::from(flags)) }.cast()
}
