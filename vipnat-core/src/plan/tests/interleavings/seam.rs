//! The model runs vipnat's own list of steps. If two neighbours in it change places, the model finds a
//! connect that goes wrong.

use vipnat_common::{Range, Slot, VipKey};

use super::{
    crashes::crashes,
    protocol::{Kind, Protocol},
    questions::{connect, datagram, flows},
    reader::Question,
    run::{run, wrong},
    scenario::Scenario,
    tables::{any, scenarios},
};
use crate::plan::{Plan, Reclaim};

/// Each pair of neighbours, and whether the model must find their exchange.
const NEIGHBOURS: [(Kind, Kind, Exchange); 6] = [
    (Kind::WriteSlots, Kind::SwitchEntries, Exchange::IsFound),
    // If a limit changes, its VIP would be without an entry for a moment.
    (Kind::SwitchEntries, Kind::RemoveEntries, Exchange::IsFound),
    // The entry that is about to be removed points to retired slots, which connects may still use. vipnat
    // keeps the order, since "retired" means that no entry points to the slot.
    (Kind::RemoveEntries, Kind::RetireSlots, Exchange::IsHarmless),
    // The round would begin again for a reader that still has the VIP.
    (Kind::Wait, Kind::ResetCursors, Exchange::IsFound),
    // After a crash in between, a new VIP would go on with the turns of an old one.
    (Kind::ResetCursors, Kind::EmptySlots, Exchange::IsFound),
    // The two steps write different slots.
    (Kind::EmptySlots, Kind::FreeSlots, Exchange::IsHarmless),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    IsFound,
    IsHarmless,
}

/// A plan with writes of each kind.
fn plan() -> Plan {
    let (slot, key) = ((0, Slot::EMPTIED), VipKey::head(Slot::EMPTIED.owner.app_id(), [0; 4]));
    let range = Range::default();
    Plan {
        slots: vec![slot],
        switches: vec![(key, range)],
        removals: vec![key],
        retired: vec![slot],
    }
}

/// The neighbours in vipnat's own lists of steps.
fn neighbours() -> Vec<(Kind, Kind)> {
    let (plan, reclaim) = (plan(), Reclaim { cursors: vec![0], emptied: vec![1], freed: vec![2] });
    let mut all = Vec::new();
    for steps in [plan.steps(), reclaim.steps()] {
        let kinds: Vec<_> = steps.iter().map(Kind::of).collect();
        all.extend(kinds.windows(2).map(|pair| (pair[0], pair[1])));
    }
    all
}

/// Connects during plans, and during crashes while slots are used again. Returns the first wrong answer.
fn finds(protocol: Protocol) -> Option<String> {
    let mut broken = scenarios().into_iter().map(|scenario| Scenario { protocol, ..scenario });
    broken.find_map(|scenario| {
        wrong(&scenario).or_else(|| crashes(&scenario, 2).iter().find_map(wrong))
    })
}

#[test]
fn neighbours_are_those_of_the_product() {
    let known: Vec<_> = NEIGHBOURS.iter().map(|(one, other, _)| (*one, *other)).collect();
    assert_eq!(neighbours(), known);
}

#[test]
fn each_exchange_of_neighbours_that_matters_is_found() {
    for (one, other) in neighbours() {
        let harmless = NEIGHBOURS.contains(&(one, other, Exchange::IsHarmless));
        let found = finds(Protocol::Exchanged(one, other));
        assert_eq!(found.is_none(), harmless, "{one:?} and {other:?}: {found:?}");
    }
}

/// Flows do not notice either whether vipnat removes an entry before it retires the slots.
#[test]
fn removed_entries_and_retired_slots_may_change_places() {
    let protocol = Protocol::Exchanged(Kind::RemoveEntries, Kind::RetireSlots);
    let scenario = Scenario { protocol, ..scenarios().swap_remove(2) };
    for (app, had) in flows() {
        let found = run(&scenario, &[Question::Rebind(datagram(app), had)]).err();
        assert!(found.is_none(), "{found:?}");
    }
}

/// A cgroup leaves an app that is removed. A program that read the app id before still finds the entries.
#[test]
fn the_wait_before_removals_keeps_vips_of_cgroups_that_move() {
    let kinds: Vec<_> = plan().steps_after_attaching(true).iter().map(Kind::of).collect();
    assert_eq!(kinds, [Kind::Wait, Kind::RemoveEntries, Kind::RetireSlots]);
    let moves = |protocol| {
        let tables = [vec![any(1, &[1, 2])], vec![any(2, &[3])]];
        Scenario { protocol, moves: true, ..Scenario::new("a cgroup moves", tables) }
    };
    let found = |protocol| run(&moves(protocol), &[connect(1)]).err().map(|found| found.what);
    assert_eq!(found(Protocol::Real), None);
    for protocol in
        [Protocol::Exchanged(Kind::Wait, Kind::RemoveEntries), Protocol::Without(Kind::Wait)]
    {
        assert!(found(protocol).is_some_and(|what| what.contains("Pass")), "{protocol:?}");
    }
}
