//! Functions that the verifier checks once, each on its own, and not again on each way that leads to
//! them: what makes them so is their global linkage in BTF (kernel 5.6, pointers to memory 5.13).
//! Inlined, one hook made it look at up to a hundred times as many instructions.
//!
//! Their arguments are scalars and pointers to memory without padding, which has to be written. A call
//! takes longer than most of what a hook does, so on the usual way there is at most one.

use core::mem::MaybeUninit;

use vipnat_common::{
    Datagrams, Destination, Flow, Look, Moment, Protocol, Socket, Target, Verdict, decide::NOWHERE,
};

use crate::{maps::Pinned, verdict};

/// What [`vipnat_look`] returns.
const REDIRECT: u32 = 0;
const UNREACHABLE: u32 = 1;
const MISS: u32 = 2;
const CHANGED: u32 = 3;

/// [`vipnat_common::decide::look()`] with the maps of the kernel.
#[inline(always)]
pub(crate) fn look(to: &Destination) -> Look {
    let mut target = MaybeUninit::<Target>::uninit();
    // SAFETY: all of the target, word by word: LLVM would call a function that zeroes byte by byte. The
    // pointer is valid for the call.
    let found = unsafe {
        let words: *mut u32 = target.as_mut_ptr().cast();
        for word in 0..size_of::<Target>() / size_of::<u32>() {
            words.add(word).write_volatile(0);
        }
        vipnat_look(address(to), rest(to, 0), target.as_mut_ptr())
    };
    match found {
        // SAFETY: any bits make a target.
        REDIRECT => Look::Verdict(Verdict::Redirect(unsafe { target.assume_init() })),
        UNREACHABLE => Look::Verdict(Verdict::Unreachable),
        MISS => Look::Miss,
        _ => Look::Changed,
    }
}

/// [`vipnat_common::decide::moved()`] with the maps of the kernel.
#[inline(always)]
pub(crate) fn moved(to: &Destination, had: &Target) -> u32 {
    // SAFETY: the pointer is valid for the call.
    unsafe { vipnat_moved(address(to), rest(to, 0), had) }
}

/// [`vipnat_common::decide::slot_names()`] with the maps of the kernel.
#[inline(always)]
pub(crate) fn names(index: u32, to: &Destination, had: &Target) -> bool {
    // SAFETY: the pointer is valid for the call.
    unsafe { vipnat_names(index, address(to), rest(to, 0), had) != 0 }
}

/// [`Datagrams::find`].
#[inline(always)]
pub(crate) fn find(datagrams: &Datagrams, to: &Destination, socket: &Socket, now: Moment) -> usize {
    // SAFETY: the pointer is valid for the call.
    let place = unsafe { vipnat_find(datagrams, address(to), rest(to, socket.local_port), now.0) };
    place as usize
}

/// [`Datagrams::keep`].
#[inline(always)]
pub(crate) fn keep(datagrams: &mut Datagrams, flow: &Flow, now: Moment) -> bool {
    // SAFETY: the pointers are valid for the call.
    unsafe { vipnat_keep(datagrams, flow, now.0) != 0 }
}

/// [`Datagrams::hide`], unless what is sent fails already.
#[inline(always)]
pub(crate) fn hide(datagrams: &mut Datagrams, to: &Destination) {
    // SAFETY: the pointer is valid for the call.
    unsafe { vipnat_hide(datagrams, address(to), rest(to, 0)) };
}

/// [`Datagrams::answered`].
#[inline(always)]
pub(crate) fn answered(
    datagrams: &mut Datagrams,
    ip: [u8; 4],
    port: u16,
    socket: &Socket,
    now: Moment,
) -> Option<([u8; 4], u16)> {
    let ip = u32::from_ne_bytes(ip);
    // SAFETY: the pointer is valid for the call.
    shown(unsafe { vipnat_answered(datagrams, ip, port, socket.local_port, now.0) })
}

/// [`Datagrams::peer`].
#[inline(always)]
pub(crate) fn peer(datagrams: &Datagrams, ip: [u8; 4], port: u16, local_port: u16) -> usize {
    // SAFETY: the pointer is valid for the call.
    let place = unsafe { vipnat_peer(datagrams, u32::from_ne_bytes(ip), port, local_port) };
    place as usize
}

/// App and address of a destination, in one register.
#[inline(always)]
fn address(to: &Destination) -> u64 {
    u64::from(to.scope) << 32 | u64::from(u32::from_ne_bytes(to.ip))
}

/// What else there is of it, and the port of the socket.
#[inline(always)]
fn rest(to: &Destination, local_port: u16) -> u64 {
    let Destination { scope: _, ip: _, port, protocol, connect } = *to;
    u64::from(local_port) << 32
        | u64::from(connect) << 24
        | u64::from(port) << 8
        | u64::from(protocol as u8)
}

/// The reverse of [`address`] and [`rest`].
#[inline(always)]
fn destination(address: u64, rest: u64) -> Destination {
    Destination {
        scope: (address >> 32) as u32,
        ip: (address as u32).to_ne_bytes(),
        port: (rest >> 8) as u16,
        protocol: match rest as u8 {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => Protocol::Reserved,
        },
        connect: rest >> 24 & 1 != 0,
    }
}

/// The reverse of [`rest`], for its socket.
#[inline(always)]
fn socket(rest: u64) -> Socket {
    of_port((rest >> 32) as u16)
}

#[inline(always)]
fn of_port(local_port: u16) -> Socket {
    Socket { local_port, ..Socket::default() }
}

/// A VIP and port that are to be shown, in one register; 0 for none.
#[inline(always)]
fn packed(shown: Option<([u8; 4], u16)>) -> u64 {
    shown.map_or(0, |(vip, port)| u64::from(u32::from_ne_bytes(vip)) << 16 | u64::from(port))
}

/// The reverse of [`packed`].
#[inline(always)]
fn shown(packed: u64) -> Option<([u8; 4], u16)> {
    (packed != 0).then_some((((packed >> 16) as u32).to_ne_bytes(), packed as u16))
}

// The verifier takes each pointer for null or as large as what it points to.

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_look(address: u64, rest: u64, target: *mut Target) -> u32 {
    // SAFETY: see above.
    let Some(target) = (unsafe { target.as_mut() }) else {
        return CHANGED;
    };
    match vipnat_common::decide::look(&Pinned, &destination(address, rest)) {
        Look::Verdict(Verdict::Redirect(found)) => {
            *target = found;
            REDIRECT
        }
        Look::Verdict(Verdict::Unreachable) => UNREACHABLE,
        Look::Miss => MISS,
        Look::Changed | Look::Verdict(Verdict::Pass | Verdict::Unsettled) => CHANGED,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_moved(address: u64, rest: u64, had: *const Target) -> u32 {
    // SAFETY: see above.
    let Some(had) = (unsafe { had.as_ref() }) else {
        return NOWHERE;
    };
    vipnat_common::decide::moved(&Pinned, &destination(address, rest), had)
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_names(index: u32, address: u64, rest: u64, had: *const Target) -> u32 {
    // SAFETY: see above.
    let Some(had) = (unsafe { had.as_ref() }) else {
        return 0;
    };
    u32::from(vipnat_common::decide::slot_names(&Pinned, index, &destination(address, rest), had))
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_find(
    datagrams: *const Datagrams,
    address: u64,
    rest: u64,
    now: u32,
) -> u32 {
    // SAFETY: see above.
    let Some(datagrams) = (unsafe { datagrams.as_ref() }) else {
        return Datagrams::CAPACITY as u32;
    };
    datagrams.find(&destination(address, rest), &socket(rest), Moment(now)) as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_keep(datagrams: *mut Datagrams, flow: *const Flow, now: u32) -> u32 {
    // SAFETY: see above.
    let (Some(datagrams), Some(flow)) = (unsafe { datagrams.as_mut() }, unsafe { flow.as_ref() })
    else {
        return 0;
    };
    u32::from(datagrams.keep(flow, Moment(now)))
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_hide(datagrams: *mut Datagrams, address: u64, rest: u64) -> u32 {
    // SAFETY: see above.
    if let Some(datagrams) = unsafe { datagrams.as_mut() } {
        let to = destination(address, rest);
        // Asked only where it matters: it is a call.
        if datagrams.is_hidden_by(&to) && !verdict::has_failed() {
            datagrams.hide(&to);
        }
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_answered(
    datagrams: *mut Datagrams,
    ip: u32,
    port: u16,
    local_port: u16,
    now: u32,
) -> u64 {
    // SAFETY: see above.
    let Some(datagrams) = (unsafe { datagrams.as_mut() }) else {
        return 0;
    };
    packed(datagrams.answered(ip.to_ne_bytes(), port, &of_port(local_port), Moment(now)))
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_peer(
    datagrams: *const Datagrams,
    ip: u32,
    port: u16,
    local_port: u16,
) -> u32 {
    // SAFETY: see above.
    let Some(datagrams) = (unsafe { datagrams.as_ref() }) else {
        return Datagrams::CAPACITY as u32;
    };
    datagrams.peer(ip.to_ne_bytes(), port, local_port) as u32
}
