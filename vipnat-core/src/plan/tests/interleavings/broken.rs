//! Broken orders, and broken readers: the model finds each of them.

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
        // Slots are freed, and taken by others, under a reader's hands.
        (Protocol::Without(Kind::Wait), "a turn of"),
        (Protocol::Exchanged(Kind::WriteSlots, Kind::SwitchEntries), "ip: [0, 0, 0, 0]"),
        // The head sends readers to what is not there yet, or not any more.
        (Protocol::Reversed(Kind::SwitchEntries), "Pass"),
        (Protocol::Exchanged(Kind::SwitchEntries, Kind::RemoveEntries), "Pass"),
        // Who still has the VIP starts its round anew.
        (Protocol::Exchanged(Kind::Wait, Kind::ResetCursors), "gets turn 0"),
    ] {
        let broken = scenarios().into_iter().map(|scenario| Scenario { protocol, ..scenario });
        let wrong: Vec<_> = broken.filter_map(|scenario| wrong(&scenario)).collect();
        assert!(wrong.iter().any(|what| what.contains(example)), "{protocol:?}: {wrong:#?}");
    }
}

/// A flow would go to a backend that is long gone: it was read before its slot was used again, and the
/// flags after that.
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

/// The bound on looks is what keeps a VIP from being let pass.
#[test]
fn as_many_misses_as_looks_are_believed() {
    let mut scenario = scenarios().swap_remove(1);
    assert_eq!(wrong(&scenario), None);
    scenario.misses = MAX_LOOKUPS;
    assert!(wrong(&scenario).is_some_and(|what| what.contains("Pass")));
}

/// A look that finds neither the limit that goes nor the one that comes is one of them: it asks for
/// what comes before it is there, and for what goes after it is gone.
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
