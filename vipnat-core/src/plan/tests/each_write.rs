//! Plans carried out write by write, with a reader looking after each.

use std::{cell::RefCell, collections::BTreeMap, net::Ipv4Addr};

use proptest::prelude::*;
use vipnat_common::{
    AppId, Count, Destination, Maps, Outlined, Protocol, Range, Slot, SlotFlags, Target, Verdict,
    VipKey, decide,
};

use crate::{
    model::{Backend, Capacity, Mapping, Snapshot},
    plan::{Plan, Reclaim, changes},
    table::{Select, UdpPinning},
};

/// A snapshot with cursors, as the hooks see it.
struct Kernel {
    maps: Snapshot,
    cursors: RefCell<BTreeMap<u32, u64>>,
}

/// Enough for all tables.
const CAPACITY: Capacity = Capacity { vips: 32, backends: 256, cursors: 32 };

impl Default for Kernel {
    fn default() -> Self {
        Self { maps: Snapshot::fresh(CAPACITY), cursors: RefCell::default() }
    }
}

impl Maps for Kernel {
    fn entry(&self, key: &VipKey) -> Option<Range> {
        self.maps.entries.get(key).copied()
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        (*self.maps.slots.get(index as usize)?).or(Slot::from_bytes(Slot::FREE))
    }

    fn take_turn(&self, cursor: u32, _: Count) -> Option<u64> {
        let mut cursors = self.cursors.borrow_mut();
        let turn = cursors.entry(cursor).or_default();
        *turn += 1;
        Some(*turn - 1)
    }

    fn peek_turn(&self, cursor: u32, _: Count) -> Option<u64> {
        Some(self.cursors.borrow().get(&cursor).copied().unwrap_or_default())
    }

    fn random(&self) -> u32 {
        0
    }
}

impl Outlined for Kernel {}

impl Kernel {
    /// Carries a plan out; `look` is called after every write.
    fn run(&mut self, plan: &Plan, mut look: impl FnMut(&Self)) {
        for (index, slot) in &plan.slots {
            let place = &mut self.maps.slots[*index as usize];
            assert_eq!(*place, None, "slot {index} is in use");
            *place = Some(*slot);
            look(self);
        }
        for (key, range) in &plan.switches {
            self.maps.entries.insert(*key, *range);
            look(self);
        }
        for key in &plan.removals {
            assert!(self.maps.entries.remove(key).is_some(), "{key:?} is there");
            look(self);
        }
        for (index, slot) in &plan.retired {
            let place = &mut self.maps.slots[*index as usize];
            let before = place.expect("a slot that was in use");
            assert_eq!(*slot, before.retired());
            *place = Some(*slot);
            look(self);
        }
    }

    /// After a grace period.
    fn reclaim(&mut self, mut look: impl FnMut(&Self)) {
        let Reclaim { cursors, emptied, freed } = Reclaim::new(&self.maps);
        for cursor in cursors {
            self.cursors.get_mut().remove(&cursor);
        }
        for index in emptied {
            let slot = self.maps.slots[index as usize].replace(Slot::EMPTIED).expect("a slot");
            assert!(slot.has(SlotFlags::RETIRED) && slot != Slot::EMPTIED);
            look(self);
        }
        for index in freed {
            assert_eq!(self.maps.slots[index as usize].take(), Some(Slot::EMPTIED));
            look(self);
        }
    }

    fn apply(&mut self, mappings: &[Mapping]) {
        let plan = Plan::new(&self.maps, mappings, |_| true).unwrap();
        self.run(&plan, |_| {});
    }

    /// Whether any slot is there that no entry leads to and that is not retired.
    fn is_tidy(&self) -> bool {
        Plan::tidy(&self.maps) == Plan::default()
    }
}

const APPS: [u32; 2] = [1, 2];
pub(super) const VIPS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::new(169, 254, 1, 2)];
const PORTS: [u16; 2] = [53, 80];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

pub(super) fn rule(
    app: u32,
    vip: Ipv4Addr,
    port: u16,
    protocol: Protocol,
    backends: &[u8],
) -> Mapping {
    let turn =
        |last: &u8| Backend { ip: Ipv4Addr::new(240, app as u8, vip.octets()[3], *last), port: 0 };
    Mapping {
        app_id: AppId(app),
        vip,
        port,
        protocol,
        turns: backends.iter().map(turn).collect(),
        select: Select::RoundRobin,
        udp_pinning: UdpPinning::Table,
    }
}

/// Tables of two apps with up to two VIPs each, the same ones, limited or not.
fn tables() -> impl Strategy<Value = Vec<Mapping>> {
    let one = proptest::option::of((
        prop_oneof![Just(0), Just(PORTS[0])],
        prop_oneof![Just(Protocol::Any), Just(PROTOCOLS[0])],
        proptest::collection::vec(0..5u8, 0..4),
    ));
    proptest::array::uniform4(one).prop_map(|mappings| {
        let places = APPS.iter().flat_map(|app| VIPS.iter().map(move |vip| (*app, *vip)));
        let mappings = places.zip(mappings).filter_map(|((app, vip), choice)| {
            choice.map(|(port, protocol, backends)| rule(app, vip, port, protocol, &backends))
        });
        mappings.collect()
    })
}

fn destinations() -> Vec<Destination> {
    let mut all = Vec::new();
    for app in APPS {
        for vip in VIPS {
            for port in PORTS {
                for protocol in PROTOCOLS {
                    all.push(Destination {
                        app: AppId(app),
                        ip: vip.octets(),
                        port,
                        protocol,
                        connect: true,
                    });
                }
            }
        }
    }
    all
}

/// A verdict without the slot that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Pass,
    Unreachable,
    Unsettled,
    Redirect([u8; 4], u16),
}

impl From<Verdict> for Seen {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Unreachable => Self::Unreachable,
            Verdict::Retry => Self::Unsettled,
            Verdict::Redirect(Target { ip, port, .. }) => Self::Redirect(ip, port),
        }
    }
}

/// What a table allows for a destination.
pub(super) fn allowed(table: &[Mapping], to: &Destination) -> Vec<Seen> {
    let matches = |rule: &&Mapping| {
        rule.app_id == to.app
            && rule.vip.octets() == to.ip
            && [0, to.port].contains(&rule.port)
            && [Protocol::Any, to.protocol].contains(&rule.protocol)
    };
    match table.iter().find(matches) {
        None => vec![Seen::Pass],
        Some(rule) if rule.turns.is_empty() => vec![Seen::Unreachable],
        Some(rule) => {
            rule.turns.iter().map(|turn| Seen::Redirect(turn.ip.octets(), to.port)).collect()
        }
    }
}

fn check(kernel: &Kernel, old: &[Mapping], new: &[Mapping]) {
    for to in destinations() {
        let verdict = Seen::from(decide(kernel, &to));
        let both = [allowed(old, &to), allowed(new, &to)].concat();
        assert!(both.contains(&verdict), "{to:?} gives {verdict:?}, not one of {both:?}");
    }
}

proptest! {
    /// After every single write a connect goes where the old or the new table says, and at the end
    /// where the new one does.
    #[test]
    fn every_step_is_the_old_table_or_the_new(
        tables in proptest::collection::vec((tables(), any::<bool>()), 1..5),
    ) {
        let mut kernel = Kernel::default();
        let mut old = Vec::new();
        for (new, reclaims) in tables {
            if reclaims {
                kernel.reclaim(|kernel| check(kernel, &old, &old));
            }
            let plan = Plan::new(&kernel.maps, &new, |_| true).unwrap();
            kernel.run(&plan, |kernel| check(kernel, &old, &new));
            check(&kernel, &new, &new);
            prop_assert!(kernel.is_tidy());
            let Snapshot { slots, capacity, .. } = kernel.maps.clone();
            prop_assert_eq!(&Snapshot::of_slots(slots, capacity), &kernel.maps);
            let mappings = kernel.maps.mappings();
            prop_assert_eq!(mappings.len(), new.len());
            for rule in &new {
                prop_assert_eq!(&mappings[&(rule.app_id, rule.vip)], rule);
            }
            prop_assert_eq!(Plan::new(&kernel.maps, &new, |_| true).unwrap(), Plan::default());
            old = new;
        }
    }

    /// A crash after any number of writes leaves something that tidying and one more plan turn
    /// into the wanted table, with nothing left over.
    #[test]
    fn a_crash_anywhere_is_repaired(first in tables(), second in tables(), crash in 0..60usize) {
        let mut kernel = Kernel::default();
        kernel.apply(&first);
        let plan = Plan::new(&kernel.maps, &second, |_| true).unwrap();
        let (mut done, mut at_crash) = (0, kernel.maps.clone());
        kernel.run(&plan, |kernel| {
            if done < crash {
                at_crash = kernel.maps.clone();
            }
            done += 1;
        });
        let mut kernel = Kernel { maps: at_crash, cursors: RefCell::default() };
        check(&kernel, &first, &second);
        let tidy = Plan::tidy(&kernel.maps);
        kernel.run(&tidy, |kernel| check(kernel, &first, &second));
        kernel.apply(&second);
        check(&kernel, &second, &second);
        prop_assert!(kernel.is_tidy());
        kernel.reclaim(|kernel| check(kernel, &second, &second));
        kernel.reclaim(|kernel| check(kernel, &second, &second));
        prop_assert_eq!(kernel.maps.leftover().count(), 0);
    }
}

#[test]
fn cursors_stay_with_their_vip_and_are_not_shared() {
    let mut kernel = Kernel::default();
    let any = Protocol::Any;
    let [a, b] = VIPS;
    kernel.apply(&[
        rule(1, a, 0, any, &[1, 2, 3]),
        rule(1, b, 0, any, &[1]),
        rule(2, a, 0, any, &[1]),
    ]);
    let cursor = |kernel: &Kernel, app, vip| kernel.maps.cursor_of(AppId(app), vip).unwrap();
    let (first, second, third) =
        (cursor(&kernel, 1, a), cursor(&kernel, 1, b), cursor(&kernel, 2, a));
    assert!(first != second && second != third && first != third);
    let to = Destination {
        app: AppId(1),
        ip: a.octets(),
        port: 80,
        protocol: Protocol::Tcp,
        connect: true,
    };
    for _ in 0..4 {
        decide(&kernel, &to);
    }
    // Other backends, a limit, none at all: the count goes on.
    for table in [rule(1, a, 0, any, &[4, 5]), rule(1, a, 80, any, &[4]), rule(1, a, 0, any, &[])] {
        kernel.apply(&[table, rule(2, a, 0, any, &[1])]);
        assert_eq!(cursor(&kernel, 1, a), first);
        assert_eq!(cursor(&kernel, 2, a), third);
    }
    assert_eq!(kernel.cursors.borrow()[&first], 4);
    // A VIP that goes and comes back starts anew.
    kernel.apply(&[rule(2, a, 0, any, &[1])]);
    kernel.apply(&[rule(1, a, 0, any, &[1]), rule(2, a, 0, any, &[1])]);
    assert_ne!(cursor(&kernel, 1, a), first, "its slots may still be in use");
    kernel.reclaim(|_| {});
    assert!(!kernel.cursors.borrow().contains_key(&first));
}

/// Emptied slots name the first cursor, which nothing means.
#[test]
fn the_first_cursor_is_reset_beside_emptied_slots() {
    let mut kernel = Kernel::default();
    let any = Protocol::Any;
    let [a, b] = VIPS;
    kernel.apply(&[rule(1, a, 0, any, &[1]), rule(1, b, 0, any, &[1])]);
    assert_eq!(kernel.maps.cursor_of(AppId(1), a), Some(0));
    kernel.apply(&[rule(1, a, 0, any, &[1]), rule(1, b, 0, any, &[2])]);
    kernel.reclaim(|_| {});
    kernel.apply(&[rule(1, b, 0, any, &[2])]);
    assert_eq!(Reclaim::new(&kernel.maps).cursors, [0]);
}

#[test]
fn an_unchanged_vip_is_not_written() {
    let mut kernel = Kernel::default();
    let any = Protocol::Any;
    let [a, b] = VIPS;
    kernel.apply(&[rule(1, a, 0, any, &[1]), rule(1, b, 53, any, &[1])]);
    let table = [rule(1, a, 0, any, &[2]), rule(1, b, 53, any, &[1])];
    let plan = Plan::new(&kernel.maps, &table, |_| true).unwrap();
    assert_eq!(plan.switches.len(), 1);
    assert_eq!((plan.slots.len(), plan.removals.len(), plan.retired.len()), (1, 0, 1));
    assert_eq!(changes(&kernel.maps, &table, &plan).len(), 1);
}

#[test]
fn other_apps_are_left_alone() {
    let mut kernel = Kernel::default();
    let any = Protocol::Any;
    kernel.apply(&[rule(1, VIPS[0], 0, any, &[1]), rule(2, VIPS[0], 0, any, &[1])]);
    let plan = Plan::new(&kernel.maps, &[], |app_id| app_id == AppId(2)).unwrap();
    assert_eq!(plan.removals, [VipKey::head(AppId(2), VIPS[0].octets())]);
    assert_eq!(plan.retired.len(), 1);
}

#[test]
fn a_table_too_large_says_which_map() {
    let huge: Vec<u8> = vec![0; CAPACITY.backends as usize + 1];
    let table = [rule(1, VIPS[0], 0, Protocol::Any, &huge)];
    let error = Plan::new(&Snapshot::fresh(CAPACITY), &table, |_| true).unwrap_err().to_string();
    assert!(error.contains("map `backends`") && error.contains("256"), "{error}");
    let mut larger = Snapshot::fresh(CAPACITY);
    larger.grow(Capacity { backends: 257, ..CAPACITY });
    assert_eq!(Plan::new(&larger, &table, |_| true).unwrap().slots.len(), 257);
}
