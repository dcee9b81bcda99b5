//! An entry: one VIP of an app with its service, as rules need it, and its name in comments.

use std::{collections::HashMap, fmt, net::Ipv4Addr, ptr};

use vipnat_common::Protocol;

use crate::table::{App, Relationship, Service, Table};

/// The packets that exported rules handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// TCP and UDP: the rules replace vipnat.
    TcpAndUdp,
    /// Packets to VIPs that no hook of vipnat translated, of any protocol: the rules run beside vipnat. They
    /// leave other packets alone, and exempt TCP and UDP that leave the container from tracking.
    Unreached,
}

/// The longest comment that nft accepts, in bytes.
pub(super) const MAX_COMMENT: usize = 128;

/// A relationship with its service: the input for the rules of one VIP.
pub(super) struct Entry<'a> {
    pub(super) name: Name,
    /// The other relationships with the same VIP.
    pub(super) also: Vec<Name>,
    pub(super) relationship: &'a Relationship,
    pub(super) service: &'a Service,
}

impl<'a> Entry<'a> {
    /// The entries of an app, one for each VIP.
    pub(super) fn all(table: &'a Table, app: &'a App) -> Vec<Self> {
        // The places of all endpoints but the first of each name.
        let mut places: HashMap<*const Relationship, usize> = HashMap::new();
        for (_, endpoints) in app.relationships.groups() {
            places
                .extend((0..).zip(endpoints).skip(1).map(|(place, of)| (ptr::from_ref(of), place)));
        }
        let named = |name: &str, relationship: &Relationship| {
            let place = places.get(&ptr::from_ref(relationship)).copied().unwrap_or_default();
            Name::new(name, place, &relationship.service)
        };
        let shared = app.shared();
        app.mappings()
            .map(|(name, relationship)| {
                let all = shared.get(&relationship.vip).into_iter().flatten();
                let others = all.filter(|(_, other)| !ptr::eq(*other, relationship));
                let also = others.map(|(name, other)| named(name, other)).collect();
                let service = &table.services[&*relationship.service];
                Self { name: named(name, relationship), also, relationship, service }
            })
            .collect()
    }

    pub(super) fn vip(&self) -> Ipv4Addr {
        self.relationship.vip
    }

    /// Whether rules for `packets` translate every protocol of IP.
    pub(super) fn is_for_all_protocols(&self, packets: Packets) -> bool {
        let Relationship { port, protocol, .. } = self.relationship;
        packets == Packets::Unreached && port.is_none() && protocol.is_none()
    }

    /// The names of its protocols among TCP and UDP.
    pub(super) fn protocols(&self) -> &'static [&'static str] {
        match self.relationship.protocol {
            Some(Protocol::Tcp) => &["tcp"],
            Some(Protocol::Udp) => &["udp"],
            _ => &["tcp", "udp"],
        }
    }

    /// The text of its comment: the names of its relationship and service, and of others with the same VIP,
    /// as far as there is room. The longest possible first name alone exceeds the limit by a few bytes.
    pub(super) fn names(&self) -> String {
        let mut names = self.name.to_string();
        for name in &self.also {
            let more = format!(" {name}");
            if names.len() + more.len() <= MAX_COMMENT {
                names += &more;
            }
        }
        names
    }
}

/// The name of an endpoint in comments: `db: postgres`, or `db[1]: postgres` for the second of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The relationship.
    pub(super) name: String,
    /// Its place among the endpoints of the relationship.
    pub(super) place: usize,
    /// Its service.
    pub(super) service: String,
}

impl Name {
    pub(super) fn new(name: &str, place: usize, service: &str) -> Self {
        Self { name: name.to_owned(), place, service: service.to_owned() }
    }

    /// Reads a name from its two words.
    pub(super) fn parse(label: &str, service: &str) -> Option<Self> {
        let label = label.strip_suffix(':')?;
        let (name, place) = placed(label).unwrap_or((label, 0));
        Some(Self::new(name, place, service))
    }
}

/// Splits `db[1]` into name and place.
fn placed(label: &str) -> Option<(&str, usize)> {
    let (name, place) = label.strip_suffix(']')?.rsplit_once('[')?;
    let place: usize = place.parse().ok()?;
    (!name.is_empty() && label == format!("{name}[{place}]")).then_some((name, place))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, place, service } = self;
        f.write_str(name)?;
        // A name that itself ends like a place needs one, to be read back.
        if *place > 0 || placed(name).is_some() {
            write!(f, "[{place}]")?;
        }
        write!(f, ": {service}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_comment_is_read_as_it_was_written() {
        for name in ["db", "db[1]", "a:", "[1]", "x[01]", "x[]", "x[-1]", "[", "]", "x[1][0]"] {
            for place in [0, 1, 12] {
                let written = Name::new(name, place, "s");
                let text = written.to_string();
                let (label, service) = text.split_once(' ').unwrap();
                assert_eq!(Name::parse(label, service), Some(written), "{text}");
            }
        }
        assert_eq!(Name::new("db", 1, "s").to_string(), "db[1]: s");
    }
}
