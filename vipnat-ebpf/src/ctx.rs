//! The destination in a `bpf_sock_addr`. The verifier dictates how it is read and written.

use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::bpf_ktime_get_coarse_ns, programs::SockAddrContext,
};
use vipnat_common::{Protocol, Socket, Ticks};

/// The address field of the context that a hook reads and writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// `user_ip4`.
    V4,
    /// `user_ip6`.
    V6,
}

/// Third word of an IPv4-mapped IPv6 address, `::ffff:0:0/96`, network byte order.
const MAPPED: u32 = 0xffffu32.to_be();

/// The IPv4 address in the context, network byte order; `None` for an IPv6 address that is not
/// IPv4-mapped.
#[inline(always)]
pub(crate) fn ip(ctx: &SockAddrContext, family: Family) -> Option<[u8; 4]> {
    let addr: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the kernel passes a valid context, and each load is a whole u32 field of it.
    unsafe {
        let word = match family {
            Family::V4 => (*addr).user_ip4,
            Family::V6 => {
                let [a, b, c, d] = [
                    (&raw const (*addr).user_ip6[0]).read_volatile(),
                    (&raw const (*addr).user_ip6[1]).read_volatile(),
                    (&raw const (*addr).user_ip6[2]).read_volatile(),
                    (&raw const (*addr).user_ip6[3]).read_volatile(),
                ];
                if a != 0 || b != 0 || c != MAPPED {
                    return None;
                }
                d
            }
        };
        Some(word.to_ne_bytes())
    }
}

/// The port in the context, host byte order.
#[inline(always)]
pub(crate) fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the kernel passes a valid context. The field is a u32 that holds a __be16.
    u16::from_be(unsafe { (*ctx.sock_addr).user_port } as u16)
}

/// Replaces address (network byte order) and port (host byte order). An IPv6 address must be an
/// IPv4-mapped one already.
#[inline(always)]
pub(crate) fn set(ctx: &SockAddrContext, family: Family, ip: [u8; 4], port: u16) {
    // Volatile: otherwise LLVM keeps a pointer to the field from an earlier load, which the verifier refuses:
    // "dereference of modified ctx ptr R1 off=4 disallowed".
    // SAFETY: a field of a reference.
    let addr = unsafe { (&raw const ctx.sock_addr).read_volatile() };
    let word = u32::from_ne_bytes(ip);
    // SAFETY: the kernel passes a valid context; these fields are writable in these hooks.
    // Volatile, because a store combined with its neighbour is wider than the verifier allows:
    // "invalid bpf_context access off=24 size=8".
    unsafe {
        match family {
            Family::V4 => (&raw mut (*addr).user_ip4).write_volatile(word),
            Family::V6 => (&raw mut (*addr).user_ip6[3]).write_volatile(word),
        }
        (&raw mut (*addr).user_port).write_volatile(u32::from(port.to_be()));
    }
}

/// The protocol of the socket. Only sockets with connect-time hooks get here.
#[inline(always)]
pub(crate) fn protocol(ctx: &SockAddrContext) -> Protocol {
    // SAFETY: the kernel passes a valid context.
    Protocol::of_socket(unsafe { (*ctx.sock_addr).protocol })
}

/// `TCP_ESTABLISHED` of include/net/tcp_states.h, which UDP uses for "connected".
const ESTABLISHED: u32 = 1;

/// The socket.
#[inline(always)]
pub(crate) fn socket(ctx: &SockAddrContext) -> Socket {
    // SAFETY: the kernel passes a valid context and socket; each load is a whole field. The address
    // is there for AF_INET6 sockets with an IPv4-mapped peer too (`__ip4_datagram_connect`).
    unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        Socket {
            local_port: (&raw const (*sk).src_port).read_volatile() as u16,
            connected: (&raw const (*sk).state).read_volatile() == ESTABLISHED,
            peer: (&raw const (*sk).dst_ip4).read_volatile().to_ne_bytes(),
            peer_port: u16::from_be((&raw const (*sk).dst_port).read_volatile()),
        }
    }
}

/// The current time. This is a helper call, so use it only where it matters.
#[inline(always)]
pub(crate) fn now() -> Ticks {
    // SAFETY: no arguments.
    Ticks::from_nanos(unsafe { bpf_ktime_get_coarse_ns() })
}
