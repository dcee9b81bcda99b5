//! Which addresses can be VIPs and backends.

use std::net::Ipv4Addr;

use super::{
    vip::{in_range, vip_of},
    well_known::well_known,
};

/// The reason why an address can't be the VIP of this relationship, if there is one.
///
/// The VIP that [`vip_of`] derives from the name is always allowed, even if the address has become
/// well known since.
pub(crate) fn never_the_vip_of(name: &str, ip: Ipv4Addr) -> Option<String> {
    never_a_vip(ip).filter(|_| ip != vip_of(name))
}

/// The reason why an address can't be a VIP, if there is one.
pub(crate) fn never_a_vip(ip: Ipv4Addr) -> Option<String> {
    if in_range(ip) {
        well_known(ip).map(|known| format!("belongs to {}", known.service))
    } else {
        Some("is outside 169.254.0.0/16".to_owned())
    }
}

/// The reason why an address can't be a backend, if there is one.
pub(crate) fn never_a_backend(ip: Ipv4Addr) -> Option<&'static str> {
    if in_range(ip) {
        Some("is in the range of VIPs, 169.254.0.0/16")
    } else if ip.octets()[0] == 0 {
        Some("is in 0.0.0.0/8, \"this network\"")
    } else if ip.is_multicast() {
        Some("is a multicast address")
    } else if ip.is_broadcast() {
        Some("is the broadcast address")
    } else {
        None
    }
}
