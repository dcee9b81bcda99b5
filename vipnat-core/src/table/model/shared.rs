//! Relationships that share a VIP, such as two users of one service. In the kernel they are one mapping.
//!
//! A bit for each address finds shared VIPs. With a hash set instead, [`Desired`] of 60,000
//! relationships takes more than twice as long to make (11 ms, not 4 to 5; medians of 15 paired runs).
//!
//! [`Desired`]: crate::model::Desired

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{
    service::Service,
    table::{App, Relationship},
};

/// A relationship and its name.
type Named<'a> = (&'a str, &'a Relationship);

/// A bit for each address of 169.254.0.0/16.
struct Seen(Vec<u64>);

impl Seen {
    fn none() -> Self {
        Self(vec![0; 1 << 10])
    }

    /// Marks an address. Returns whether it was marked already.
    fn again(&mut self, vip: Ipv4Addr) -> bool {
        let (word, bit) = place(vip);
        let again = self.0[word] & bit != 0;
        self.0[word] |= bit;
        again
    }

    fn contains(&self, vip: Ipv4Addr) -> bool {
        let (word, bit) = place(vip);
        self.0[word] & bit != 0
    }
}

/// The word and the bit of an address.
fn place(vip: Ipv4Addr) -> (usize, u64) {
    let [_, _, high, low] = vip.octets();
    let number = usize::from(u16::from_be_bytes([high, low]));
    (number / 64, 1 << (number % 64))
}

/// Up to this number, relationships are compared with each other; above, the bits are faster.
const FEW: usize = 32;

impl App {
    /// One relationship for each VIP: the first that has it. The kernel has a mapping for each of these.
    pub fn mappings(&self) -> impl Iterator<Item = (&str, &Relationship)> {
        let mut shared = self.shared();
        for all in shared.values_mut() {
            all.remove(0);
        }
        self.relationships.iter().filter(move |(_, relationship)| {
            let mut others = shared.get(&relationship.vip).into_iter().flatten();
            !others.any(|(_, other)| std::ptr::eq(*other, *relationship))
        })
    }

    /// The VIPs that several relationships share, each with all of these, in the order of names.
    pub fn shared(&self) -> BTreeMap<Ipv4Addr, Vec<Named<'_>>> {
        let all = &self.relationships;
        let mut shared = BTreeMap::new();
        if all.len() <= FEW {
            for (number, relationship) in all.values().enumerate() {
                if all.values().take(number).any(|other| other.vip == relationship.vip) {
                    shared.insert(relationship.vip, Vec::new());
                }
            }
        } else {
            let mut seen = Seen::none();
            let again =
                all.values().map(|relationship| relationship.vip).filter(|v| seen.again(*v));
            shared.extend(again.map(|vip| (vip, Vec::new())));
        }
        if !shared.is_empty() {
            for (name, relationship) in all.iter() {
                if let Some(all) = shared.get_mut(&relationship.vip) {
                    all.push((name, relationship));
                }
            }
        }
        shared
    }

    /// The relationships that have these VIPs, by VIP, in the order of names. Takes one pass over all
    /// relationships of the app.
    pub fn at<'a>(&'a self, vips: &BTreeSet<Ipv4Addr>) -> BTreeMap<Ipv4Addr, Vec<Named<'a>>> {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut add = |(name, relationship): Named<'a>| {
            found.entry(relationship.vip).or_default().push((name, relationship));
        };
        if self.relationships.len() <= FEW {
            let has = |(_, of): &Named<'_>| vips.contains(&of.vip);
            self.relationships.iter().filter(has).for_each(&mut add);
        } else if !vips.is_empty() {
            let mut wanted = Seen::none();
            for vip in vips {
                wanted.again(*vip);
            }
            let has = |(_, of): &Named<'_>| wanted.contains(of.vip) && vips.contains(&of.vip);
            self.relationships.iter().filter(has).for_each(&mut add);
        }
        found
    }
}

/// The first key in which two relationships with the same VIP differ, so that no mapping serves both.
pub(crate) fn difference(
    (one, its_service): (&Relationship, &Service),
    (other, other_service): (&Relationship, &Service),
) -> Option<&'static str> {
    let Service { backends, select, udp_pinning, on_backend_removed } = its_service;
    let differ = [
        (one.port != other.port, "port"),
        (one.protocol != other.protocol, "protocol"),
        (*backends != other_service.backends, "backends"),
        (*select != other_service.select, "select"),
        (*udp_pinning != other_service.udp_pinning, "udp-pinning"),
        (*on_backend_removed != other_service.on_backend_removed, "on-backend-removed"),
    ];
    differ.into_iter().find_map(|(differs, what)| differs.then_some(what))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::table::ByName;

    /// An app with these VIPs, by their last number.
    fn app(vips: &[u16]) -> App {
        let mut relationships = ByName::default();
        for vip in vips {
            let [high, low] = vip.to_be_bytes();
            let relationship = Relationship {
                service: "s".into(),
                vip: Ipv4Addr::new(169, 254, high, low),
                port: None,
                protocol: None,
                instance_ips: true,
                endpoint: Arc::default(),
            };
            relationships.push("r", relationship);
        }
        App { cgroup: None, relationships }
    }

    proptest::proptest! {
        #[test]
        fn each_vip_is_mapped_once_and_none_is_missing(
            few in proptest::collection::vec(0..40_u16, 0..20),
            many in proptest::collection::vec(0..400_u16, 30..99),
        ) {
            for vips in [few, many] {
                let app = app(&vips);
                let mut once: Vec<_> = app.mappings().map(|(_, of)| of.vip).collect();
                let mut expected: Vec<_> = app.relationships.values().map(|of| of.vip).collect();
                expected.sort();
                let mut all = expected.clone();
                expected.dedup();
                once.sort();
                proptest::prop_assert_eq!(&once, &expected);
                for (vip, of) in app.shared() {
                    proptest::prop_assert!(of.len() > 1);
                    proptest::prop_assert_eq!(of.len(), all.extract_if(.., |v| *v == vip).count());
                }
                all.dedup();
                proptest::prop_assert_eq!(all.len() + app.shared().len(), once.len());
            }
        }
    }
}
