//! Functions that the verifier checks once, each on its own, and not again on each way that leads to
//! them: what makes them so is their global linkage in BTF (kernel 5.6, pointers to memory 5.13).
//! Inlined, one hook made it look at up to ten times as many instructions.
//!
//! Their arguments are scalars and pointers to memory without padding, which has to be written.

use core::{mem::zeroed, ptr::addr_of_mut};

use aya_ebpf::{bindings::bpf_sock_addr, programs::SockAddrContext};
use vipnat_common::{Destination, Flow, Moment, Protocol, Target, Verdict, decide::NOWHERE};

use crate::{
    maps::{self, Pinned},
    notes,
};

/// What [`vipnat_decide`] returns.
const PASS: u32 = 0;
const REDIRECT: u32 = 1;
const UNREACHABLE: u32 = 2;
const UNSETTLED: u32 = 3;

/// [`vipnat_common::decide()`] with the maps of the kernel.
#[inline(always)]
pub(crate) fn decide(to: &Destination) -> Verdict {
    let Destination { scope, ip, .. } = *to;
    // SAFETY: plain numbers, for which zeroes are valid.
    let mut target: Target = unsafe { zeroed() };
    // SAFETY: the pointer is valid for the call.
    match unsafe { vipnat_decide(scope, u32::from_ne_bytes(ip), packed(to), &raw mut target) } {
        PASS => Verdict::Pass,
        REDIRECT => Verdict::Redirect(target),
        UNREACHABLE => Verdict::Unreachable,
        _ => Verdict::Unsettled,
    }
}

/// [`vipnat_common::follow()`] with the maps of the kernel.
#[inline(always)]
pub(crate) fn follow(to: &Destination, flow: &Flow) -> Option<Target> {
    let Destination { scope, ip, .. } = *to;
    // SAFETY: plain numbers, for which zeroes are valid.
    let mut target: Target = unsafe { zeroed() };
    // SAFETY: the pointers are valid for the call.
    let found =
        unsafe { vipnat_follow(scope, u32::from_ne_bytes(ip), packed(to), flow, &raw mut target) };
    (found != 0).then_some(target)
}

/// [`vipnat_common::decide::moved()`] with the maps of the kernel.
#[inline(always)]
pub(crate) fn moved(to: &Destination, flow: &Flow) -> u32 {
    let Destination { scope, ip, .. } = *to;
    // SAFETY: the pointer is valid for the call.
    unsafe { vipnat_moved(scope, u32::from_ne_bytes(ip), packed(to), flow) }
}

/// Keeps a UDP flow in the socket.
#[inline(always)]
pub(crate) fn keep(ctx: &SockAddrContext, flow: &Flow, now: Moment) {
    // SAFETY: the pointers are valid for the call.
    unsafe { vipnat_keep(ctx.sock_addr, flow, now.0) };
}

/// All but scope and address, in one register.
#[inline(always)]
fn packed(to: &Destination) -> u32 {
    let Destination { scope: _, ip: _, port, protocol, connect } = *to;
    u32::from(connect) << 24 | u32::from(port) << 8 | protocol as u32
}

/// The reverse of [`packed`].
#[inline(always)]
fn destination(scope: u32, ip: u32, rest: u32) -> Destination {
    Destination {
        scope,
        ip: ip.to_ne_bytes(),
        port: (rest >> 8) as u16,
        protocol: match rest & 0xff {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => Protocol::Reserved,
        },
        connect: rest >> 24 != 0,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_decide(scope: u32, ip: u32, rest: u32, target: *mut Target) -> u32 {
    // SAFETY: null, which the verifier takes for possible, or as large as a Target.
    let Some(target) = (unsafe { target.as_mut() }) else {
        return UNSETTLED;
    };
    match vipnat_common::decide(&Pinned, &destination(scope, ip, rest)) {
        Verdict::Pass => PASS,
        Verdict::Redirect(found) => {
            *target = found;
            REDIRECT
        }
        Verdict::Unreachable => UNREACHABLE,
        Verdict::Unsettled => UNSETTLED,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_follow(
    scope: u32,
    ip: u32,
    rest: u32,
    flow: *const Flow,
    target: *mut Target,
) -> u32 {
    // SAFETY: null, which the verifier takes for possible, or as large as what they point to.
    let (Some(flow), Some(target)) = (unsafe { flow.as_ref() }, unsafe { target.as_mut() }) else {
        return 0;
    };
    let to = destination(scope, ip, rest);
    match vipnat_common::follow(&Pinned, &to, flow) {
        Some(found) => {
            *target = found;
            1
        }
        None => 0,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_moved(scope: u32, ip: u32, rest: u32, flow: *const Flow) -> u32 {
    // SAFETY: null, which the verifier takes for possible, or as large as a Flow.
    let Some(flow) = (unsafe { flow.as_ref() }) else {
        return NOWHERE;
    };
    vipnat_common::decide::moved(&Pinned, &destination(scope, ip, rest), flow)
}

#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn vipnat_keep(ctx: *mut bpf_sock_addr, flow: *const Flow, now: u32) -> u32 {
    // SAFETY: null, which the verifier takes for possible, or as large as a Flow.
    let Some(flow) = (unsafe { flow.as_ref() }) else {
        return 0;
    };
    match notes::flows_or_new(&SockAddrContext::new(ctx)) {
        Some(datagrams) => {
            if !datagrams.keep(flow, Moment(now)) {
                // SAFETY: field projection of the pointer that `count` passes.
                maps::count(|c| unsafe { addr_of_mut!((*c).evicted) });
            }
        }
        None => notes::unrecorded(),
    }
    0
}
