//! Functions that the verifier checks once, each on its own, instead of on each path that leads to them.
//! Their global linkage in BTF causes this (kernel 5.6, pointers to memory 5.13). When they were inlined, it
//! checked up to a hundred times as many instructions in one hook.
//!
//! Their arguments are scalars and pointers to memory without padding, which the caller must write first. A
//! call takes longer than most of a hook's work, so the usual path has at most one.

use core::mem::MaybeUninit;

use vipnat_common::{
    AppId, Destination, Lookup, Outlined, Protocol, Socket, Target, Ticks, UdpFlow, UdpFlows,
    Verdict,
    flow::relocate::{self, NO_SLOT},
    lookup,
};

use crate::{maps::KernelMaps, verdict};

/// The results of [`vipnat_lookup_once`].
const REDIRECT: u32 = 0;
const UNREACHABLE: u32 = 1;
const MISS: u32 = 2;
const CHANGED: u32 = 3;

impl Outlined for KernelMaps {
    #[inline(always)]
    fn lookup_once(&self, to: &Destination) -> Lookup {
        let mut target = MaybeUninit::<Target>::uninit();
        // SAFETY: this writes all of the target, word by word. Otherwise LLVM would call a function that
        // zeroes byte by byte. The pointer is valid for the call.
        let found = unsafe {
            let words: *mut u32 = target.as_mut_ptr().cast();
            for word in 0..size_of::<Target>() / size_of::<u32>() {
                words.add(word).write_volatile(0);
            }
            vipnat_lookup_once(address(to), rest(to, 0), target.as_mut_ptr())
        };
        match found {
            // SAFETY: any bits are a valid target.
            REDIRECT => Lookup::Verdict(Verdict::Redirect(unsafe { target.assume_init() })),
            UNREACHABLE => Lookup::Verdict(Verdict::Unreachable),
            MISS => Lookup::Miss,
            _ => Lookup::Changed,
        }
    }

    #[inline(always)]
    fn slot_matches(&self, index: u32, to: &Destination, had: &Target) -> bool {
        // SAFETY: the pointer is valid for the call.
        unsafe { vipnat_slot_matches(index, address(to), rest(to, 0), had) != 0 }
    }

    #[inline(always)]
    fn find_relocated_slot(&self, to: &Destination, had: &Target) -> u32 {
        // SAFETY: the pointer is valid for the call.
        unsafe { vipnat_find_relocated_slot(address(to), rest(to, 0), had) }
    }

    #[inline(always)]
    fn find_flow(&self, flows: &UdpFlows, to: &Destination, socket: &Socket, now: Ticks) -> usize {
        let rest = rest(to, socket.local_port);
        // SAFETY: the pointer is valid for the call.
        let position = unsafe { vipnat_find_flow(flows, address(to), rest, now.0) };
        position as usize
    }

    #[inline(always)]
    fn store_flow(&self, flows: &mut UdpFlows, flow: &UdpFlow, now: Ticks) -> bool {
        // SAFETY: the pointers are valid for the call.
        unsafe { vipnat_store_flow(flows, flow, now.0) != 0 }
    }
}

/// [`UdpFlows::suppress_reply_translation`], unless the call already fails.
#[inline(always)]
pub(crate) fn suppress_reply_translation(flows: &mut UdpFlows, to: &Destination) {
    // SAFETY: the pointer is valid for the call.
    unsafe { vipnat_suppress_reply_translation(flows, address(to), rest(to, 0)) };
}

/// [`UdpFlows::reply_source`].
#[inline(always)]
pub(crate) fn reply_source(
    flows: &mut UdpFlows,
    ip: [u8; 4],
    port: u16,
    socket: &Socket,
    now: Ticks,
) -> Option<([u8; 4], u16)> {
    let ip = u32::from_ne_bytes(ip);
    // SAFETY: the pointer is valid for the call.
    shown(unsafe { vipnat_reply_source(flows, ip, port, socket.local_port, now.0) })
}

/// [`UdpFlows::position_of_peer`].
#[inline(always)]
pub(crate) fn position_of_peer(flows: &UdpFlows, ip: [u8; 4], port: u16, local_port: u16) -> usize {
    // SAFETY: the pointer is valid for the call.
    let position =
        unsafe { vipnat_position_of_peer(flows, u32::from_ne_bytes(ip), port, local_port) };
    position as usize
}

/// App and address of a destination, in one register.
#[inline(always)]
fn address(to: &Destination) -> u64 {
    u64::from(to.app.0) << 32 | u64::from(u32::from_ne_bytes(to.ip))
}

/// Port and protocol of a destination, and the port of the socket.
#[inline(always)]
fn rest(to: &Destination, local_port: u16) -> u64 {
    let Destination { app: _, ip: _, port, protocol, connect } = *to;
    u64::from(local_port) << 32
        | u64::from(connect) << 24
        | u64::from(port) << 8
        | u64::from(protocol as u8)
}

/// Unpacks the results of [`address`] and [`rest`].
#[inline(always)]
fn destination(address: u64, rest: u64) -> Destination {
    Destination {
        app: AppId((address >> 32) as u32),
        ip: (address as u32).to_ne_bytes(),
        port: (rest >> 8) as u16,
        protocol: Protocol::of_socket(rest as u8 as u32),
        connect: rest >> 24 & 1 != 0,
    }
}

/// Unpacks the socket from the result of [`rest`].
#[inline(always)]
fn socket(rest: u64) -> Socket {
    of_port((rest >> 32) as u16)
}

#[inline(always)]
fn of_port(local_port: u16) -> Socket {
    Socket { local_port, ..Socket::default() }
}

/// A VIP and port to show, in one register; 0 for none.
#[inline(always)]
fn packed(shown: Option<([u8; 4], u16)>) -> u64 {
    shown.map_or(0, |(vip, port)| u64::from(u32::from_ne_bytes(vip)) << 16 | u64::from(port))
}

/// Unpacks the result of [`packed`].
#[inline(always)]
fn shown(packed: u64) -> Option<([u8; 4], u16)> {
    (packed != 0).then_some((((packed >> 16) as u32).to_ne_bytes(), packed as u16))
}

// The verifier takes each pointer for null or for one to a whole value of its type.

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_lookup_once(address: u64, rest: u64, target: *mut Target) -> u32 {
    // SAFETY: see above.
    let Some(target) = (unsafe { target.as_mut() }) else {
        return CHANGED;
    };
    match lookup::lookup_once(&KernelMaps, &destination(address, rest)) {
        Lookup::Verdict(Verdict::Redirect(found)) => {
            *target = found;
            REDIRECT
        }
        Lookup::Verdict(Verdict::Unreachable) => UNREACHABLE,
        Lookup::Miss => MISS,
        Lookup::Changed | Lookup::Verdict(Verdict::Pass | Verdict::Retry) => CHANGED,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_find_relocated_slot(
    address: u64,
    rest: u64,
    had: *const Target,
) -> u32 {
    // SAFETY: see above.
    let Some(had) = (unsafe { had.as_ref() }) else {
        return NO_SLOT;
    };
    let to = destination(address, rest);
    let matches = |index| KernelMaps.slot_matches(index, &to, had);
    relocate::find_relocated_slot(&KernelMaps, &to, matches)
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_slot_matches(
    index: u32,
    address: u64,
    rest: u64,
    had: *const Target,
) -> u32 {
    // SAFETY: see above.
    let Some(had) = (unsafe { had.as_ref() }) else {
        return 0;
    };
    u32::from(relocate::slot_matches(&KernelMaps, index, &destination(address, rest), had))
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_find_flow(
    flows: *const UdpFlows,
    address: u64,
    rest: u64,
    now: u32,
) -> u32 {
    // SAFETY: see above.
    let Some(flows) = (unsafe { flows.as_ref() }) else {
        return UdpFlows::CAPACITY as u32;
    };
    flows.position(&destination(address, rest), &socket(rest), Ticks(now)) as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_store_flow(
    flows: *mut UdpFlows,
    flow: *const UdpFlow,
    now: u32,
) -> u32 {
    // SAFETY: see above.
    let (Some(flows), Some(flow)) = (unsafe { flows.as_mut() }, unsafe { flow.as_ref() }) else {
        return 0;
    };
    u32::from(flows.store(flow, Ticks(now)))
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_suppress_reply_translation(
    flows: *mut UdpFlows,
    address: u64,
    rest: u64,
) -> u32 {
    // SAFETY: see above.
    if let Some(flows) = unsafe { flows.as_mut() } {
        let to = destination(address, rest);
        // Ask only where it matters: this is a helper call.
        if flows.has_backend(&to) && !verdict::has_failed() {
            flows.suppress_reply_translation(&to);
        }
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_reply_source(
    flows: *mut UdpFlows,
    ip: u32,
    port: u16,
    local_port: u16,
    now: u32,
) -> u64 {
    // SAFETY: see above.
    let Some(flows) = (unsafe { flows.as_mut() }) else {
        return 0;
    };
    packed(flows.reply_source(ip.to_ne_bytes(), port, &of_port(local_port), Ticks(now)))
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_position_of_peer(
    flows: *const UdpFlows,
    ip: u32,
    port: u16,
    local_port: u16,
) -> u32 {
    // SAFETY: see above.
    let Some(flows) = (unsafe { flows.as_ref() }) else {
        return UdpFlows::CAPACITY as u32;
    };
    flows.position_of_peer(ip.to_ne_bytes(), port, local_port) as u32
}
