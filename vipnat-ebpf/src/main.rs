//! The hooks: thin entries over the decision in `vipnat-common`.
//!
//! Each returns 1 to let the call go on, with whatever address the context then holds, or 0 to
//! fail it with the error set by `bpf_set_retval` (kernel 6.1).

#![no_std]
#![no_main]
#![expect(internal_features, reason = "core::intrinsics::atomic_xadd, see maps.rs")]
#![feature(core_intrinsics)]

mod connect;
mod context;
mod datagram;
mod functions;
mod getpeername;
mod maps;
mod notes;
mod verdict;

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

/// `connect` of an AF_INET address, TCP, UDP and ping sockets.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    connect::connect(&ctx, context::Family::V4)
}

/// `connect` of an AF_INET6 address; only `::ffff:a.b.c.d` concerns us.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    connect::connect(&ctx, context::Family::V6)
}

/// A datagram with an IPv4 address, also `::ffff:a.b.c.d` on an AF_INET6 socket.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    datagram::send(&ctx, context::Family::V4)
}

/// The source of a datagram on an AF_INET socket, for a caller that asks for it.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(ctx: SockAddrContext) -> i32 {
    datagram::receive(&ctx, context::Family::V4)
}

/// The source of a datagram on an AF_INET6 socket; only `::ffff:a.b.c.d` concerns us.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    datagram::receive(&ctx, context::Family::V6)
}

/// `getpeername` of an AF_INET socket. Also runs inside `accept`.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    getpeername::getpeername(&ctx, context::Family::V4)
}

/// `getpeername` of an AF_INET6 socket. Also runs inside `accept`.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    getpeername::getpeername(&ctx, context::Family::V6)
}

/// Never reached: the verifier refuses any program that could get here.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers used are open to GPL-compatible programs; "Dual MIT/GPL" is the licence string of
/// the kernel's list that covers MIT (include/linux/license.h).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
