//! A mapping: one VIP of one app in the terms of the data path, with turns instead of names and weights.

use std::{collections::HashMap, iter, net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};
use vipnat_common::{AppId, ConnRecord, Protocol, Slot, SlotFlags, VipKey, abi::ANY_PORT};

use crate::table::{self, Relationship, Select, Service, UdpPinning};

/// One VIP of one app, and the backends that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The app.
    pub app_id: AppId,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The only port that is translated, or 0 for all.
    pub port: u16,
    /// The only protocol that is translated, or [`Protocol::Any`].
    pub protocol: Protocol,
    /// The backends of one round, in the order of turns. [`Select::Random`] draws one of them. If there are
    /// none, `connect` fails. All VIPs of a service share the list.
    pub turns: Arc<[Backend]>,
    /// How the next backend is chosen; round robin if there are no turns.
    pub select: Select,
    /// The treatment of UDP flows whose backend is removed; the default if there are no turns.
    pub udp_pinning: UdpPinning,
}

/// The address of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backend {
    /// The address of the backend.
    pub ip: Ipv4Addr,
    /// Its port, or 0 for the port that the application asked for.
    pub port: u16,
}

impl From<&table::Backend> for Backend {
    fn from(backend: &table::Backend) -> Self {
        let table::Backend { ip, port, weight: _ } = *backend;
        Self { ip, port: port.map_or(0, u16::from) }
    }
}

impl Backend {
    /// Whether a socket with this record may be connected to this backend.
    pub fn leads(&self, record: &ConnRecord) -> bool {
        let port = if self.port == 0 { record.vip_port } else { self.port };
        record.backend == self.ip.octets() && record.backend_port == port
    }
}

impl Mapping {
    /// The mapping of a relationship to a service, without an app id.
    pub fn new(relationship: &Relationship, set: &BackendSet) -> Self {
        let BackendSet { turns, select, udp_pinning } = set;
        Self {
            app_id: AppId::NONE,
            vip: relationship.vip,
            port: relationship.port.map_or(ANY_PORT, u16::from),
            protocol: relationship.protocol.unwrap_or(Protocol::Any),
            turns: turns.clone(),
            select: *select,
            udp_pinning: *udp_pinning,
        }
    }

    /// The same mapping for an app.
    pub fn of_app(&self, app_id: AppId) -> Self {
        Self { app_id, ..self.clone() }
    }

    /// The flags of its slots.
    fn flags(&self) -> SlotFlags {
        let random = self.select == Select::Random;
        let strict = self.udp_pinning == UdpPinning::Strict;
        let mut flags = SlotFlags::empty();
        flags.set(SlotFlags::RANDOM, random);
        flags.set(SlotFlags::STRICT, strict);
        flags
    }

    /// `select` and `udp-pinning`, read back from the flags of a slot.
    pub fn choices(flags: SlotFlags) -> (Select, UdpPinning) {
        let random = flags.contains(SlotFlags::RANDOM);
        let strict = flags.contains(SlotFlags::STRICT);
        (
            if random { Select::Random } else { Select::RoundRobin },
            if strict { UdpPinning::Strict } else { UdpPinning::Table },
        )
    }

    /// Each backend once, in the order of first turns, with its number of turns in a round.
    pub fn backends(&self) -> Vec<(Backend, usize)> {
        // Most mappings have one backend, and there can be very many mappings.
        if let [turn] = *self.turns {
            return vec![(turn, 1)];
        }
        let mut backends: Vec<(Backend, usize)> = Vec::new();
        let mut places = HashMap::new();
        for turn in &*self.turns {
            let place = *places.entry(turn).or_insert(backends.len());
            match backends.get_mut(place) {
                Some((_, turns)) => *turns += 1,
                None => backends.push((*turn, 1)),
            }
        }
        backends
    }

    /// Whether it translates only one port or protocol.
    pub fn limited(&self) -> bool {
        self.port != ANY_PORT || self.protocol != Protocol::Any
    }

    /// The keys of its entries in the map `vips`, in the order of writing: the limited entry comes before the
    /// head, which sends readers to it.
    pub fn keys(&self) -> impl Iterator<Item = VipKey> + use<> {
        let vip = self.vip.octets();
        let own = VipKey::new(self.app_id, vip, self.port, self.protocol);
        let head = self.limited().then_some(VipKey::head(self.app_id, vip));
        iter::once(own).chain(head)
    }

    /// The slots of one of its entries.
    pub fn slots(&self, owner: VipKey, cursor: u32) -> impl Iterator<Item = Slot> {
        const NOWHERE: Backend = Backend { ip: Ipv4Addr::UNSPECIFIED, port: 0 };
        let is_head = self.limited() && owner == VipKey::head(self.app_id, owner.vip);
        let (turns, flags) = match &*self.turns {
            _ if is_head => (&[NOWHERE][..], SlotFlags::LIMITED),
            [] => (&[NOWHERE][..], SlotFlags::UNREACHABLE),
            turns => (turns, self.flags()),
        };
        let slot = move |turn: &Backend| {
            let Backend { ip, port } = *turn;
            Slot { owner, ip: ip.octets(), port, flags: flags.bits(), cursor }
        };
        turns.iter().map(slot)
    }
}

/// The turns and choices of a service, which all its VIPs share.
pub struct BackendSet {
    turns: Arc<[Backend]>,
    select: Select,
    udp_pinning: UdpPinning,
}

impl From<&Service> for BackendSet {
    fn from(service: &Service) -> Self {
        let turns: Arc<[_]> = service.turns().map(Backend::from).collect();
        // Without turns there is no slot to store the choices in, so they are the defaults.
        let (select, udp_pinning) = if turns.is_empty() {
            (Select::default(), UdpPinning::default())
        } else {
            (service.select, service.udp_pinning)
        };
        Self { turns, select, udp_pinning }
    }
}
