//! Addresses of 169.254.0.0/16 at which other services answer, such as cloud metadata.

use std::net::Ipv4Addr;

/// An address that can be no VIP, and the service that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WellKnown {
    /// The address.
    pub(crate) ip: Ipv4Addr,
    /// The service that answers there.
    pub(crate) service: &'static str,
    /// The document that says so. docs/table.md has it; messages leave it out.
    source: &'static str,
}

/// The well-known service at an address, if there is one.
pub(crate) fn well_known(ip: Ipv4Addr) -> Option<&'static WellKnown> {
    WELL_KNOWN.iter().find(|known| known.ip == ip)
}

const fn known(octets: [u8; 2], service: &'static str, source: &'static str) -> WellKnown {
    let [a, b] = octets;
    WellKnown { ip: Ipv4Addr::new(169, 254, a, b), service, source }
}

/// In the order of the addresses. docs/table.md has the same table; a test compares them.
static WELL_KNOWN: [WellKnown; 20] = [
    known([0, 0], "the network itself (its address)", "RFC 3927"),
    known([0, 2], "boot volumes of Oracle Cloud (iSCSI)", "OCI: Compute, Essential Firewall Rules"),
    known([0, 3], "kernel updates of Oracle Cloud", "OCI: Compute, Essential Firewall Rules"),
    known(
        [0, 4],
        "a service of Oracle Cloud for its instances",
        "OCI: the rules of InstanceServices in its images",
    ),
    known(
        [0, 23],
        "instance metadata of Tencent Cloud",
        "Tencent Cloud: Querying Instance Metadata",
    ),
    known([10, 10], "LocalDNS of Azure Kubernetes Service", "AKS: Configure LocalDNS"),
    known([10, 11], "LocalDNS of Azure Kubernetes Service", "AKS: Configure LocalDNS"),
    known([20, 10], "node-local DNS of Kubernetes", "Kubernetes: Using NodeLocal DNSCache"),
    known([25, 10], "node-local DNS of Kubespray", "Kubespray: `nodelocaldns_ip`"),
    known([42, 42], "instance metadata of Scaleway", "cloud-init: Scaleway"),
    known([169, 123], "Amazon Time Sync", "EC2: Set the time reference"),
    known([169, 249], "NVIDIA licences at Amazon", "EC2: managed service addresses"),
    known(
        [169, 250],
        "Windows activation at Amazon, metadata of Rancher 1",
        "EC2: managed service addresses",
    ),
    known([169, 251], "Windows activation at Amazon", "EC2: managed service addresses"),
    known([169, 252], "metadata of Google Kubernetes Engine", "GKE: Workload Identity"),
    known([169, 253], "DNS of Amazon VPC", "Amazon VPC: DNS attributes"),
    known(
        [169, 254],
        "instance metadata of most clouds",
        "EC2, Google, Azure, OpenStack, OCI: instance metadata",
    ),
    known(
        [170, 2],
        "credentials and metadata of Amazon ECS",
        "ECS: Task IAM role, Task metadata endpoint",
    ),
    known([170, 23], "credentials of Amazon EKS", "EKS: Pod Identity"),
    known([255, 255], "the network itself (broadcast)", "RFC 3927"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_same_addresses() {
        let documentation = include_str!("../../../../docs/table.md");
        let rows = documentation
            .lines()
            .skip_while(|line| !line.starts_with("| address | service | source |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let row = |WellKnown { ip, service, source }: &WellKnown| {
            format!("| {ip} | {service} | {source} |")
        };
        assert!(rows.eq(WELL_KNOWN.iter().map(row)));
    }

    #[test]
    fn what_oracles_images_let_through_to_is_known_but_for_volumes_that_are_attached() {
        let of = |[c, d]: [u8; 2]| well_known(Ipv4Addr::new(169, 254, c, d)).is_some();
        assert!([[0, 2], [0, 3], [0, 4], [169, 254]].into_iter().all(of));
        // Few machines use these three addresses, and tables do use them; docs/table.md explains it.
        assert!(![[1, 1], [1, 2], [2, 2]].into_iter().any(of));
    }

    #[test]
    fn they_are_in_order_and_in_the_range() {
        assert!(WELL_KNOWN.is_sorted_by_key(|known| known.ip));
        assert!(WELL_KNOWN.iter().all(|known| known.ip.octets()[..2] == [169, 254]));
        assert_eq!(well_known(Ipv4Addr::new(169, 254, 169, 143)), None);
    }
}
