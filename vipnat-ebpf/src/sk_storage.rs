//! Reads and writes the values that a socket keeps: its connection record and its UDP flows.

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

/// Whether the kernel has MPTCP. Without it, the verifier refuses the helper that finds MPTCP sockets. The
/// loader writes this value before it loads the programs.
#[unsafe(no_mangle)]
static MPTCP: u32 = 0;

// Every hook that reads or writes these runs under the socket's lock. The hooks of an MPTCP socket's
// subflow run under both locks. So no other program uses the values meanwhile. References to them live only
// until the next call of a function that writes.

/// The record of the last connect of the socket whose hook runs, if the socket has one.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "see above")]
pub(crate) fn own_record(ctx: &SockAddrContext) -> Option<&mut ConnRecord> {
    // SAFETY: null, or as large as a ConnRecord; see above.
    unsafe { storage(&CONNS, own_socket(ctx), 0).as_mut() }
}

/// Whether the record of a UDP socket is that of its peer, which has this address and port. A failed connect
/// has replaced the record, but leaves the socket connected as before. This function then restores the
/// record.
///
/// Not for connect hooks: an app below may have written the record just now.
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

/// The flow through which a UDP socket is connected to this address and port, after its last connect failed.
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

/// Records that the socket connects to an address that is no VIP, if this app has recorded a connect before.
///
/// Not for MPTCP: more subflows connect to the peer later, and the hook can't tell them from the first. An
/// outdated record shows only if the socket then connects to the same backend itself.
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

/// Sends a datagram on as the flow to which it belongs: [`UdpFlows::continue_flow`].
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

/// The socket for which the hook runs.
#[inline(always)]
fn own_socket(ctx: &SockAddrContext) -> *mut c_void {
    // SAFETY: the kernel passes a valid context.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk.cast() }
}

/// The socket of the application. `connect` of an MPTCP socket runs the hook of its first subflow, a TCP
/// socket inside the kernel. `getpeername` runs the hook of the MPTCP socket itself.
#[inline(always)]
fn app_socket(ctx: &SockAddrContext) -> *mut c_void {
    let own = own_socket(ctx);
    // SAFETY: a static that is never null. Volatile, because only the loader knows its value.
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

/// A socket's storage in a map. Null if there is none or, with CREATE, if there is no memory for it.
#[inline(always)]
unsafe fn storage<T>(map: &SkStorage<T>, socket: *mut c_void, flags: u32) -> *mut T {
    let map = core::ptr::from_ref(map).cast_mut().cast();
    // SAFETY: the caller's socket is valid while the hook runs.
    unsafe { bpf_sk_storage_get(map, socket, null_mut(), u64::from(flags)) }.cast()
}
