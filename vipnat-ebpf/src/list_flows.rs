//! An iterator over the sockets that have a note in the map `flows`, in all network namespaces: writes
//! a [`SocketNote`] for each. An object of its own, since it is loaded only when somebody asks.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::seq_file,
    cty::c_void,
    helpers::generated::{bpf_get_socket_cookie, bpf_seq_write},
};
use vipnat_common::{Note, layout::SocketNote};

/// `struct bpf_iter__bpf_sk_storage_map` of net/core/bpf_sk_storage.c, whose fields are 8 bytes each.
#[repr(C)]
struct Context {
    meta: *const Meta,
    map: *const c_void,
    /// Null after the last one.
    socket: *mut c_void,
    /// Null after the last one; what the socket has in the map.
    value: *const Note,
}

/// The beginning of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// Called for each socket, and once after the last. Goes on in any case: if there is no room for what
/// it writes, the kernel calls it again for the same socket (`bpf_seq_read` in kernel/bpf/bpf_iter.c).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn list_flows(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a valid context, in which what is not null is valid.
    unsafe {
        let (socket, value) = ((*ctx).socket, (*ctx).value);
        if socket.is_null() || value.is_null() {
            return 0;
        }
        let found = SocketNote { cookie: bpf_get_socket_cookie(socket), note: *value };
        bpf_seq_write(
            (*(*ctx).meta).seq,
            (&raw const found).cast(),
            size_of::<SocketNote>() as u32,
        );
    }
    0
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
