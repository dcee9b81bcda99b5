//! The hooks of vipnat. Each entry here calls a module of `hooks`, which asks `vipnat_common` for the decision.
//!
//! A hook returns 1 to let the call go on with the address that the context then holds. It returns 0 to
//! fail the call with the error set by `bpf_set_retval` (kernel 6.1). Modules import downwards only:
//!
//! ```text
//! hooks          one module for each kind of hook: connect, sendmsg, recvmsg, getpeername
//! sk_storage     records and flows in sockets
//! subprograms    functions that the verifier checks once
//! verdict        applies a verdict to the call
//! maps   ctx     raw reads of the maps; address and port of the call
//! ```
//!
//! `docs/life-of-a-connect.md` follows one call through these modules.

#![no_std]
#![no_main]
#![expect(internal_features, reason = "core::intrinsics::atomic_xadd, see maps.rs")]
#![feature(core_intrinsics)]

mod ctx;
mod hooks;
mod maps;
mod sk_storage;
mod subprograms;
mod verdict;

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

/// `connect` to an AF_INET address, of TCP, UDP and ping sockets.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    hooks::connect::connect(&ctx, ctx::Family::V4)
}

/// `connect` to an AF_INET6 address. vipnat translates only `::ffff:a.b.c.d`.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    hooks::connect::connect(&ctx, ctx::Family::V6)
}

/// A datagram with an IPv4 address, also `::ffff:a.b.c.d` on an AF_INET6 socket.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    hooks::sendmsg::sendmsg(&ctx, ctx::Family::V4)
}

/// The source of a datagram on an AF_INET socket, for a caller that asks for the source.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(ctx: SockAddrContext) -> i32 {
    hooks::recvmsg::recvmsg(&ctx, ctx::Family::V4)
}

/// The source of a datagram on an AF_INET6 socket. vipnat translates only `::ffff:a.b.c.d`.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    hooks::recvmsg::recvmsg(&ctx, ctx::Family::V6)
}

/// `getpeername` of an AF_INET socket. `accept` runs it too.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    hooks::getpeername::getpeername(&ctx, ctx::Family::V4)
}

/// `getpeername` of an AF_INET6 socket. `accept` runs it too.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    hooks::getpeername::getpeername(&ctx, ctx::Family::V6)
}

/// Never reached: the verifier refuses any program that could get here.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers used here are open to GPL-compatible programs. "Dual MIT/GPL" is the licence string in the
/// kernel's list that covers MIT (include/linux/license.h).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
