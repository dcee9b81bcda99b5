//! What rules beside vipnat need to tell their packets from those of translated sockets.
//!
//! A socket that vipnat translated sends to a backend. So a packet to a VIP is one that no hook reached,
//! and the rules track it. Its answer comes from a backend, like the answers to all translated sockets. So
//! the rules give what they translate a source port that sockets rarely have, and know the answer by it.

/// Where VIPs are. All of it is tracked, also what is no VIP, or none any more.
pub(super) const VIPS: &str = "169.254.0.0/16";

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports(pub(super) u16, pub(super) u16);

/// Above those that the kernel picks for sockets (`net.ipv4.ip_local_port_range`).
pub(super) const HIGH: Ports = Ports(61_000, 65_535);

/// In place of a port below 1024. Some servers, such as NFS, want such a port; none of these is assigned to
/// a service.
pub(super) const LOW: Ports = Ports(914, 952);

/// The ports that only root may have.
pub(super) const PRIVILEGED: Ports = Ports(0, 1023);

/// All ports but [`HIGH`] and [`LOW`]. Those that the kernel picks come first, since nearly every packet of a
/// translated socket comes to one.
pub(super) const OF_OTHERS: [Ports; 2] = [Ports(LOW.1 + 1, HIGH.0 - 1), Ports(0, LOW.0 - 1)];

impl Ports {
    /// As iptables has it, with `:`, or nft, with `-`.
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
