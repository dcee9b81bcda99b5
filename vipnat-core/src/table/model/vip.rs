//! Virtual IPs: derived from names, inside 169.254.0.0/16, outside the ranges that others use.

use std::net::Ipv4Addr;

use sha2::{Digest as _, Sha256};
use vipnat_common::abi::VIP_RANGE;

/// The VIP of a relationship, derived from its name. It never changes.
///
/// For n = 0, 1, 2, …: SHA-256 of the UTF-8 name, followed by the single byte n when n > 0; its
/// first four bytes as a big-endian number modulo 65,536, added to 169.254.0.0. The first address
/// that is not reserved is the VIP.
///
/// # Panics
///
/// If 256 hashes in a row fall into the reserved 1.6 % of the range, which has odds of 10⁻⁴⁶¹.
///
/// ```
/// assert_eq!(vipnat_core::table::vip_of("db").to_string(), "169.254.37.209");
/// ```
pub fn vip_of(name: &str) -> Ipv4Addr {
    (0..=u8::MAX)
        .map(|n| {
            let mut hash = Sha256::new_with_prefix(name);
            if n > 0 {
                hash.update([n]);
            }
            // The number is big-endian, so modulo 65,536 leaves the third and fourth byte.
            let hash = hash.finalize();
            Ipv4Addr::new(VIP_RANGE[0], VIP_RANGE[1], hash[2], hash[3])
        })
        .find(|vip| !is_reserved(*vip))
        .expect("a hash outside the reserved ranges")
}

/// Whether an address is in the range of VIPs, reserved or not.
pub(crate) fn in_range(ip: Ipv4Addr) -> bool {
    ip.octets()[..2] == VIP_RANGE
}

/// Whether [`vip_of`] never returns this address, because others use its neighbours.
///
/// RFC 3927 reserves 169.254.0.0/24 and 169.254.255.0/24. Clouds have metadata, DNS and time in
/// 169.254.169.0/24, and credentials in 169.254.170.0/24. Node-local DNS is at 169.254.20.10. A
/// relationship may still set such a `vip`, unless it is [`well_known`](super::well_known::well_known).
pub(crate) fn is_reserved(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [169, 254, 0 | 169 | 170 | 255, _] | [169, 254, 20, 10])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        for (name, vip) in [
            ("db", [37, 209]),
            ("database", [176, 2]),
            ("cache", [206, 224]),
            ("redis", [70, 200]),
            ("postgres", [179, 124]),
            ("search", [50, 144]),
        ] {
            assert_eq!(vip_of(name), Ipv4Addr::new(169, 254, vip[0], vip[1]), "{name}");
        }
    }

    #[test]
    fn a_reserved_hash_is_hashed_again() {
        let plain = |name: &str| {
            let hash = Sha256::digest(name);
            Ipv4Addr::new(169, 254, hash[2], hash[3])
        };
        let name = (0..).map(|i| format!("app{i}")).find(|n| is_reserved(plain(n)));
        let name = name.unwrap();
        let again = Sha256::digest([name.as_bytes(), &[1]].concat());
        assert_eq!(vip_of(&name), Ipv4Addr::new(169, 254, again[2], again[3]));
    }

    proptest::proptest! {
        #[test]
        fn a_vip_is_stable_in_range_and_not_reserved(name in ".*") {
            let vip = vip_of(&name);
            proptest::prop_assert!(in_range(vip) && !is_reserved(vip));
            proptest::prop_assert_eq!(vip, vip_of(&name));
        }
    }
}
