//! Socket addresses, as scripts write them and as results show them.

use std::{io, net::SocketAddr};

use socket2::{SockAddr, SockAddrStorage};

/// The first port that the kernel picks by itself.
const FIRST_EPHEMERAL: u16 = 32768;

/// Parses `1.2.3.4:5` or `[::ffff:1.2.3.4]:5`.
///
/// After `unspec:`, the address has the family `AF_UNSPEC` instead of its own. `unspec` alone is an address
/// of all zeroes.
pub(crate) fn parse(text: &str) -> SockAddr {
    if text == "unspec" {
        return with_family(&"0.0.0.0:0".parse::<SocketAddr>().unwrap().into(), libc::AF_UNSPEC);
    }
    let (text, unspec) = match text.strip_prefix("unspec:") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let address: SocketAddr =
        text.parse().unwrap_or_else(|error| panic!("the address {text}: {error}"));
    if unspec { with_family(&address.into(), libc::AF_UNSPEC) } else { address.into() }
}

fn with_family(address: &SockAddr, family: libc::c_int) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_storage is plain data, and at least as large as any address. The family is at its
    // start.
    unsafe {
        let raw: &mut libc::sockaddr_storage = storage.view_as();
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut *raw).cast(),
            address.len() as usize,
        );
        raw.ss_family = family as libc::sa_family_t;
    }
    // SAFETY: the storage holds `address.len()` bytes of the address.
    unsafe { SockAddr::new(storage, address.len()) }
}

/// Formats an address as scripts write it. A port that the kernel picked is shown as `*`.
pub(crate) fn show(address: &SockAddr) -> String {
    let Some(address) = address.as_socket() else {
        return if address.len() == 0 { "nobody" } else { "another family" }.to_owned();
    };
    let text = address.to_string();
    match address.port() {
        FIRST_EPHEMERAL.. => format!("{}:*", text.rsplit_once(':').expect("a port").0),
        _ => text,
    }
}

/// Makes a call that fills in an address, and returns that address too.
pub(crate) fn filled<T>(
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> io::Result<T>,
) -> io::Result<(T, SockAddr)> {
    let mut storage = SockAddrStorage::zeroed();
    let mut length = storage.size_of();
    // SAFETY: sockaddr_storage is plain data.
    let raw: &mut libc::sockaddr_storage = unsafe { storage.view_as() };
    let result = call((&raw mut *raw).cast(), &raw mut length)?;
    // SAFETY: the kernel wrote `length` bytes.
    Ok((result, unsafe { SockAddr::new(storage, length) }))
}
