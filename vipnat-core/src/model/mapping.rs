//! What a VIP does, in the terms of the data path: no names, turns instead of weights.

use std::{collections::HashMap, iter, net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};
use vipnat_common::{AppId, ConnRecord, Protocol, Slot, SlotFlags, VipKey, abi::ANY_PORT};

use crate::table::{self, Relationship, Select, Service, UdpPinning};

/// One VIP of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The app.
    pub app_id: AppId,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The only port translated, or 0 for all.
    pub port: u16,
    /// The only protocol translated, or [`Protocol::Any`].
    pub protocol: Protocol,
    /// The round of the round robin; with [`Select::Random`], the lots. Empty: connects are refused.
    /// Shared by all VIPs of a service.
    pub turns: Arc<[Backend]>,
    /// Who is next; round robin if there are no turns.
    pub select: Select,
    /// What becomes of UDP flows whose turn is gone; what the table says if there are no turns.
    pub udp_pinning: UdpPinning,
}

/// Where one turn goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backend {
    /// The backend.
    pub ip: Ipv4Addr,
    /// Its port, or 0 for the one the application asked for.
    pub port: u16,
}

impl From<&table::Backend> for Backend {
    fn from(backend: &table::Backend) -> Self {
        let table::Backend { ip, port, weight: _ } = *backend;
        Self { ip, port: port.map_or(0, u16::from) }
    }
}

impl Backend {
    /// Whether this turn may have led a socket to where it is.
    pub fn leads(&self, note: &ConnRecord) -> bool {
        let port = if self.port == 0 { note.vip_port } else { self.port };
        note.backend == self.ip.octets() && note.backend_port == port
    }
}

impl Mapping {
    /// The rule of a relationship with a service.
    pub fn new(relationship: &Relationship, role: &BackendSet) -> Self {
        let BackendSet { turns, select, udp_pinning } = role;
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

    /// The same for another app.
    pub fn of_app(&self, app_id: AppId) -> Self {
        Self { app_id, ..self.clone() }
    }

    /// The flags of all its slots.
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

    /// The backends in the order of their first turns, with their turns in a round.
    pub fn backends(&self) -> Vec<(Backend, usize)> {
        // Most have one, and there can be very many of them.
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

    /// Whether there is a port or protocol that is not translated.
    pub fn limited(&self) -> bool {
        self.port != ANY_PORT || self.protocol != Protocol::Any
    }

    /// The keys of the entries of the map `vips` that make the rule, in the order in which they have to
    /// be written: a limited entry before the head that sends readers to it.
    pub fn keys(&self) -> impl Iterator<Item = VipKey> + use<> {
        let vip = self.vip.octets();
        let own = VipKey::new(self.app_id, vip, self.port, self.protocol);
        let head = self.limited().then_some(VipKey::head(self.app_id, vip));
        iter::once(own).chain(head)
    }

    /// The slots of one of these entries.
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

/// What a service is to all VIPs that lead to it.
pub struct BackendSet {
    turns: Arc<[Backend]>,
    select: Select,
    udp_pinning: UdpPinning,
}

impl From<&Service> for BackendSet {
    fn from(service: &Service) -> Self {
        let turns: Arc<[_]> = service.turns().map(Backend::from).collect();
        // Without turns there is no slot to keep the choice in.
        let (select, udp_pinning) = if turns.is_empty() {
            (Select::default(), UdpPinning::default())
        } else {
            (service.select, service.udp_pinning)
        };
        Self { turns, select, udp_pinning }
    }
}
