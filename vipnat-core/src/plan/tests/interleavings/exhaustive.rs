//! Runs every schedule of vipnat's own steps, and checks that each answer is right.

use vipnat_common::{AppId, SlotFlags, Target};

use super::{
    crashes::crashes,
    explore::Tally,
    protocol::Protocol,
    questions::{connect, datagram, flows},
    reader::Question,
    run::{holds, report},
    scenario::Scenario,
    tables::{any, scenarios},
};
use crate::{model::Mapping, table::UdpPinning};

#[test]
fn every_decision_is_one_of_a_current_table() {
    let mut total = Tally::default();
    for protocol in [Protocol::Real, Protocol::Backwards, Protocol::TornRanges] {
        for scenario in scenarios() {
            let scenario = Scenario { protocol, ..scenario };
            for question in [connect(1), connect(2), Question::Decide(datagram(1))] {
                total += holds(&scenario, &[question]);
            }
        }
    }
    report("a decision", total);
    // Rare, but it happens.
    assert!(total.unsettled > 0);
}

#[test]
fn the_round_goes_on_from_one_decision_to_the_next() {
    let mut total = Tally::default();
    for scenario in scenarios() {
        for (first, second) in [(1, 1), (1, 2), (2, 1)] {
            total += holds(&scenario, &[connect(first), connect(second)]);
        }
    }
    report("two decisions", total);
}

#[test]
fn a_crash_changes_nothing() {
    report("a crash", after_crashes(1));
}

/// The command that crashes reclaims slots and cursors before it plans.
#[test]
fn a_crash_while_slots_are_used_again_changes_nothing() {
    report("a later crash", after_crashes(2));
}

/// Connects while commands crash on the way to one of the tables.
fn after_crashes(table: usize) -> Tally {
    let mut total = Tally::default();
    for scenario in scenarios() {
        for crashed in crashes(&scenario, table) {
            for question in [connect(1), connect(2)] {
                total += holds(&crashed, &[question]);
            }
        }
    }
    total
}

#[test]
fn a_flow_keeps_its_backend_wherever_its_slot_is() {
    // A backend of another app must not help.
    let other = Mapping { app_id: AppId(2), ..any(1, &[1]) };
    let shared = Scenario::new(
        "one backend",
        [vec![any(1, &[1]), other.clone()], vec![other.clone()], vec![any(1, &[2]), other]],
    );
    let mut total = Tally::default();
    for scenario in scenarios().into_iter().chain([shared]) {
        for (app, had) in flows() {
            total += holds(&scenario, &[Question::Rebind(datagram(app), had)]);
        }
    }
    report("a flow", total);
    assert!(total.ended > 0);
}

#[test]
fn a_strict_flow_never_ends() {
    let mut scenario = scenarios().swap_remove(0);
    let mappings = scenario.tables.iter_mut().flatten();
    mappings.for_each(|mapping| mapping.udp_pinning = UdpPinning::Strict);
    let mut total = Tally::default();
    for (app, had) in flows() {
        let had = Target { flags: SlotFlags::STRICT, ..had };
        total += holds(&scenario, &[Question::Rebind(datagram(app), had)]);
    }
    report("a strict flow", total);
}
