//! Ports by which rules beside vipnat tell their packets from those of sockets that vipnat translated.
//!
//! A socket that vipnat translated sends to a backend. So no hook translated a packet to a VIP, and the rules
//! track it. Its reply comes from a backend, like the replies to translated sockets. So the rules change the
//! source port to one that sockets rarely have, and recognise the reply by that port.

/// The range of VIPs. The rules track all of it, even addresses that are no VIP, or no longer one.
pub(super) const VIPS: &str = "169.254.0.0/16";

/// The first and the last port of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports(pub(super) u16, pub(super) u16);

/// Ports above those that the kernel picks for sockets (`net.ipv4.ip_local_port_range`).
pub(super) const HIGH: Ports = Ports(61_000, 65_535);

/// Ports that replace one below 1024, which servers such as NFS require. None of them is assigned to a
/// service.
pub(super) const LOW: Ports = Ports(914, 952);

/// The ports that only root may bind.
pub(super) const PRIVILEGED: Ports = Ports(0, 1023);

/// All ports except [`HIGH`] and [`LOW`]. Ports that the kernel picks come first, since nearly every packet
/// of a translated socket goes to one.
pub(super) const OF_OTHERS: [Ports; 2] = [Ports(LOW.1 + 1, HIGH.0 - 1), Ports(0, LOW.0 - 1)];

impl Ports {
    /// The range with `:` for iptables or `-` for nft.
    pub(super) fn with(self, separator: char) -> String {
        let Self(first, last) = self;
        format!("{first}{separator}{last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_either_one_of_ours_or_one_of_others() {
        let all = [OF_OTHERS[1], LOW, OF_OTHERS[0], HIGH];
        let mut next = 0;
        for Ports(first, last) in all {
            assert_eq!(u32::from(first), next);
            next = u32::from(last) + 1;
        }
        assert_eq!(next, 1 << 16);
    }
}
