//! The VIPs of the measurements, in order.

use std::net::Ipv4Addr;

/// An address in the range of VIPs that no run uses as a VIP.
pub(crate) const NO_VIP: Ipv4Addr = Ipv4Addr::new(169, 254, 254, 250);

/// The VIP at `index`, of 63,488. They are in the blocks of 169.254.0.0/16 in which vipnat reserves no
/// address.
pub(crate) fn vip(index: u32) -> Ipv4Addr {
    // Third bytes of address blocks that are partly or wholly reserved.
    const KEPT: [u8; 8] = [0, 10, 20, 25, 42, 169, 170, 255];
    let third = (0..=255)
        .filter(|byte| !KEPT.contains(byte))
        .nth(index as usize / 256)
        .expect("fewer than 64,000 VIPs");
    Ipv4Addr::new(169, 254, third, (index % 256) as u8)
}

/// The first `count` VIPs.
pub(crate) fn vips(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..count).map(vip)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_vip_is_another() {
        let all: BTreeSet<_> = vips(60_000).collect();
        assert_eq!(all.len(), 60_000);
        assert!(!all.contains(&NO_VIP));
        assert!(
            !all.iter().any(|vip| [0, 10, 20, 25, 42, 169, 170, 255].contains(&vip.octets()[2]))
        );
    }
}
