//! An iterator over the sockets that have a record in the map `conns`, in all network namespaces. It writes
//! a [`SocketRecord`] for each. It is an object of its own, which vipnat loads only to list or end
//! connections.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::seq_file,
    cty::c_void,
    helpers::generated::{bpf_get_socket_cookie, bpf_seq_write},
};
use core::ptr::read_volatile;

use vipnat_common::{
    ConnRecord,
    abi::{SocketFields, SocketOffsets, SocketRecord},
};

/// The loader writes these before it loads the program. So the verifier takes each for a constant, and
/// compares each read with the kernel's own types.
#[unsafe(no_mangle)]
static OFFSETS: SocketOffsets = SocketOffsets {
    family: 0,
    protocol: 0,
    state: 0,
    local_port: 0,
    remote_port: 0,
    device: 0,
    namespace: 0,
    namespace_number: 0,
    local_v4: 0,
    remote_v4: 0,
    local_v6: 0,
    remote_v6: 0,
};

/// `struct bpf_iter__bpf_sk_storage_map` of net/core/bpf_sk_storage.c, whose fields are 8 bytes each.
#[repr(C)]
struct Context {
    meta: *const Meta,
    map: *const c_void,
    /// Null in the call after the last socket.
    socket: *const u8,
    /// The record that the socket has in the map; null in the call after the last socket.
    value: *const ConnRecord,
}

/// The beginning of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// The kernel calls this for each socket, and once after the last. It returns 0 in any case. If there is no
/// room for the output, the kernel calls it again for the same socket (`bpf_seq_read` in
/// kernel/bpf/bpf_iter.c).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn list_conns(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a valid context. Its pointers are null or valid.
    unsafe {
        let (socket, value) = ((*ctx).socket, (*ctx).value);
        if socket.is_null() || value.is_null() {
            return 0;
        }
        let found = SocketRecord {
            cookie: bpf_get_socket_cookie(socket.cast_mut().cast()),
            record: *value,
            socket: fields(socket),
            reserved: 0,
        };
        bpf_seq_write(
            (*(*ctx).meta).seq,
            (&raw const found).cast(),
            size_of::<SocketRecord>() as u32,
        );
    }
    0
}

/// Reads the fields of a socket.
///
/// # Safety
///
/// `socket` must be a `struct sock`, as the kernel passes it to an iterator.
#[inline(always)]
unsafe fn fields(socket: *const u8) -> SocketFields {
    // SAFETY: the offsets are those of the kernel's types. The verifier checks the reads at them when the
    // program is loaded.
    unsafe {
        let namespace: *const u8 = read(socket, &raw const OFFSETS.namespace);
        SocketFields {
            family: read(socket, &raw const OFFSETS.family),
            protocol: read(socket, &raw const OFFSETS.protocol),
            state: u16::from(read::<u8>(socket, &raw const OFFSETS.state)),
            local_port: read(socket, &raw const OFFSETS.local_port),
            remote_port: read::<u16>(socket, &raw const OFFSETS.remote_port).to_ne_bytes(),
            reserved: 0,
            device: read(socket, &raw const OFFSETS.device),
            namespace: read(namespace, &raw const OFFSETS.namespace_number),
            local_v4: read::<u32>(socket, &raw const OFFSETS.local_v4).to_ne_bytes(),
            remote_v4: read::<u32>(socket, &raw const OFFSETS.remote_v4).to_ne_bytes(),
            local_v6: address(socket, &raw const OFFSETS.local_v6),
            remote_v6: address(socket, &raw const OFFSETS.remote_v6),
        }
    }
}

/// Reads a field in one piece. The verifier would refuse reads of neighbours that the compiler joins.
#[inline(always)]
unsafe fn read<T>(of: *const u8, offset: *const u32) -> T {
    // SAFETY: see `fields`. The kernel aligns these fields.
    unsafe { read_volatile(of.add(read_volatile(offset) as usize).cast()) }
}

/// Reads an IPv6 address. The kernel's types allow only reads of its four words.
#[inline(always)]
unsafe fn address(socket: *const u8, offset: *const u32) -> [u8; 16] {
    let mut words = [0u32; 4];
    // SAFETY: see `fields`.
    unsafe {
        let start = socket.add(read_volatile(offset) as usize).cast::<u32>();
        words[0] = read_volatile(start);
        words[1] = read_volatile(start.add(1));
        words[2] = read_volatile(start.add(2));
        words[3] = read_volatile(start.add(3));
    }
    zerocopy::transmute!(words)
}

/// Never reached: the verifier refuses any program that could get here.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// As in main.rs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
