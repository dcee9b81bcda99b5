//! Reads and writes the values that a socket keeps: its connection record, and its UDP flows.

use core::ptr::{addr_of_mut, null_mut};

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    btf_maps::SkStorage,
    cty::c_void,
    helpers::{bpf_sk_storage_get, bpf_skc_to_mptcp_sock},
    programs::SockAddrContext,
};
use vipnat_common::{
    ConnRecord, Destination, Outlined as _, Protocol, Socket, Ticks, UdpFlow, UdpFlows,
};

use crate::{
    ctx,
    maps::{self, CONNS, KernelMaps, UDP_FLOWS},
    subprograms, verdict,
};

/// Whether the kernel has MPTCP; without, the verifier refuses the helper that asks for its sockets. The
/// loader writes it before the verifier reads it.
#[unsafe(no_mangle)]
static MPTCP: u32 = 0;

// Every hook that reads or writes these runs under the socket's lock, and the hooks of an MPTCP socket's
// subflow run under both locks, so no other program has them meanwhile. References to them live only until
// the next call of a function that writes.

/// The record of the last connect of the very socket whose hook runs, if that was to a VIP.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "see above")]
pub(crate) fn own_record(ctx: &SockAddrContext) -> Option<&mut ConnRecord> {
    // SAFETY: null, or as large as a ConnRecord; see above.
    unsafe { storage(&CONNS, own_socket(ctx), 0).as_mut() }
}

/// Whether the record of a UDP socket is that of its peer, which has this address and port. A connect that
/// fails leaves the socket connected to where it was, but has replaced the record. It is put back then.
///
/// Not for hooks of connect: an app below may have written the record just now.
#[inline(always)]
pub(crate) fn ensure_record_of_peer(
    ctx: &SockAddrContext,
    record: &mut ConnRecord,
    ip: [u8; 4],
    port: u16,
) -> bool {
    if record.has_backend(ip, port) {
        return true;
    }
    let Some(flow) = peer_flow(ctx, ip, port) else {
        return false;
    };
    *record = flow.record;
    true
}

/// The flow through which a UDP socket whose last connect failed is connected to this address and port.
#[inline(always)]
pub(crate) fn peer_flow(ctx: &SockAddrContext, ip: [u8; 4], port: u16) -> Option<UdpFlow> {
    let flows = udp_flows(ctx)?;
    let place = subprograms::position_of_peer(flows, ip, port, ctx::socket(ctx).local_port);
    flows.flows.get(place).copied()
}

/// Stores the record of a connect in the socket.
#[inline(always)]
pub(crate) fn store_record(ctx: &SockAddrContext, record: &ConnRecord) {
    // SAFETY: null, or as large as a ConnRecord; see above.
    match unsafe { storage(&CONNS, app_socket(ctx), BPF_SK_STORAGE_GET_F_CREATE).as_mut() } {
        Some(place) => *place = *record,
        None => count_unrecorded(),
    }
}

/// Records that the socket connects to an address that is no VIP, if this app had recorded a connect.
///
/// Not for MPTCP, where more subflows connect to the peer later on, which this can't tell from the first.
/// An outdated record shows only if the socket then connects to the same backend itself.
#[inline(always)]
pub(crate) fn record_direct_peer(ctx: &SockAddrContext, to: &Destination) {
    // SAFETY: null, or as large as a ConnRecord; see above.
    if let Some(record) = unsafe { storage(&CONNS, own_socket(ctx), 0).as_mut() }
        && record.app == to.app.0
        && !verdict::has_failed()
    {
        record.vip = [0; 4];
        record.backend = to.ip;
        record.backend_port = to.port;
    }
}

/// The UDP flows of the socket, if it ever had any.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "see above")]
pub(crate) fn udp_flows(ctx: &SockAddrContext) -> Option<&mut UdpFlows> {
    // SAFETY: null, or as large as UdpFlows; see above.
    unsafe { storage(&UDP_FLOWS, own_socket(ctx), 0).as_mut() }
}

/// A datagram goes on as the flow that it belongs to: [`UdpFlows::continue_flow`].
#[inline(always)]
pub(crate) fn continue_flow(
    ctx: &SockAddrContext,
    to: &Destination,
    socket: &Socket,
    now: Ticks,
) -> Option<ConnRecord> {
    let flows = udp_flows(ctx)?;
    flows
        .continue_first_flow(&KernelMaps, to, socket, now)
        .or_else(|| flows.continue_flow(&KernelMaps, to, socket, now))
}

/// Stores a UDP flow in the socket.
#[inline(always)]
pub(crate) fn store_flow(ctx: &SockAddrContext, flow: &UdpFlow, now: Ticks) {
    // SAFETY: null, or as large as UdpFlows; see above.
    match unsafe { storage(&UDP_FLOWS, own_socket(ctx), BPF_SK_STORAGE_GET_F_CREATE).as_mut() } {
        Some(flows) => {
            if !KernelMaps.store_flow(flows, flow, now) {
                // SAFETY: field projection of the pointer that `count` passes.
                maps::count(|c| unsafe { addr_of_mut!((*c).evicted) });
            }
        }
        None => count_unrecorded(),
    }
}

/// The socket sends or connects to an address that is no VIP: [`UdpFlows::suppress_reply_translation`].
#[inline(always)]
pub(crate) fn suppress_reply_translation(ctx: &SockAddrContext, to: &Destination) {
    if let Some(flows) = udp_flows(ctx) {
        subprograms::suppress_reply_translation(flows, to);
    }
}

/// Fail open: the call proceeds, although getpeername and recvmsg will show the backend.
#[inline(always)]
pub(crate) fn count_unrecorded() {
    // SAFETY: field projection of the pointer that `count` passes.
    maps::count(|c| unsafe { addr_of_mut!((*c).unrecorded) });
}

/// The socket whose hook runs.
#[inline(always)]
fn own_socket(ctx: &SockAddrContext) -> *mut c_void {
    // SAFETY: the kernel passes a valid context.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk.cast() }
}

/// The socket that the application has: `connect` of an MPTCP socket runs the hook of its first
/// subflow, a TCP socket of the kernel's, but `getpeername` that of the MPTCP socket itself.
#[inline(always)]
fn app_socket(ctx: &SockAddrContext) -> *mut c_void {
    let own = own_socket(ctx);
    // SAFETY: a static that is never null; volatile, because only the loader knows its value.
    let known = unsafe { (&raw const MPTCP).read_volatile() } != 0;
    if known && matches!(ctx::protocol(ctx), Protocol::Tcp) {
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
