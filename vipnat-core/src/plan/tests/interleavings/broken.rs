//! The model finds each broken order and each broken reader.

use vipnat_common::{Protocol as Ip, decide::MAX_LOOKUPS};

use super::{
    protocol::{Kind, Protocol},
    questions::{datagram, flows},
    reader::Question,
    run::{run, wrong},
    scenario::Scenario,
    tables::{any, limited, scenarios},
};

#[test]
fn other_protocols_are_found_wrong() {
    for (protocol, example) in [
        // The writer frees a slot and reuses it while a reader still has it.
        (Protocol::Without(Kind::Wait), "a turn of"),
        (Protocol::Exchanged(Kind::WriteSlots, Kind::SwitchEntries), "ip: [0, 0, 0, 0]"),
        // The head entry sends readers to a limited entry that is not there yet, or not any more.
        (Protocol::Reversed(Kind::SwitchEntries), "Pass"),
        (Protocol::Exchanged(Kind::SwitchEntries, Kind::RemoveEntries), "Pass"),
        // The round starts again for a reader that still has the VIP.
        (Protocol::Exchanged(Kind::Wait, Kind::ResetCursors), "gets turn 0"),
    ] {
        let broken = scenarios().into_iter().map(|scenario| Scenario { protocol, ..scenario });
        let wrong: Vec<_> = broken.filter_map(|scenario| wrong(&scenario)).collect();
        assert!(wrong.iter().any(|what| what.contains(example)), "{protocol:?}: {wrong:#?}");
    }
}

/// A flow would go to a backend that left long ago. The reader takes the backend before the slot is used
/// again, and the flags after that.
#[test]
fn slots_that_are_free_at_once_are_found_wrong() {
    let broken = scenarios().into_iter();
    let broken = broken.map(|scenario| Scenario { protocol: Protocol::FreesAtOnce, ..scenario });
    let questions = || flows().map(|(app, had)| Question::Rebind(datagram(app), had));
    let wrong = broken.flat_map(|scenario| {
        questions().filter_map(|question| run(&scenario, &[question]).err()).next()
    });
    assert!(wrong.count() > 0);
}

#[test]
fn a_reader_that_ignores_owners_is_found_wrong() {
    let broken =
        scenarios().into_iter().map(|scenario| Scenario { ignore_owner: true, ..scenario });
    let wrong: Vec<_> = broken.filter_map(|scenario| wrong(&scenario)).collect();
    assert!(wrong.iter().any(|what| what.contains("a turn of")), "{wrong:#?}");
}

/// A decision that misses a VIP in all its looks lets it pass, and the model finds that.
#[test]
fn as_many_misses_as_looks_are_believed() {
    let mut scenario = scenarios().swap_remove(1);
    assert_eq!(wrong(&scenario), None);
    scenario.misses = MAX_LOOKUPS;
    assert!(wrong(&scenario).is_some_and(|what| what.contains("Pass")));
}

/// An attempt between two limited entries finds neither. It asks for the new one before that exists, and for the
/// old one after it is removed. Such an attempt counts as a miss.
#[test]
fn a_look_between_two_limits_counts_as_a_miss() {
    let limit = |protocol, last| limited(1, 80, protocol, &[last]);
    let mut scenario = Scenario::new(
        "limits after others",
        [
            vec![any(2, &[1]), any(3, &[1]), limit(Ip::Any, 1)],
            vec![any(2, &[2]), any(3, &[2]), limit(Ip::Tcp, 1)],
            vec![any(2, &[1]), any(3, &[1]), limit(Ip::Any, 2)],
        ],
    );
    assert!(wrong(&scenario).is_some_and(|what| what.contains("Pass")));
    scenario.misses = MAX_LOOKUPS - 2;
    assert_eq!(wrong(&scenario), None);
}
