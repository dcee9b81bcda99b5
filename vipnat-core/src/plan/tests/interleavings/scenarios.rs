//! The tables, the crashes and the questions that are gone through, and what must be found.

use vipnat_common::{AppId, Destination, Protocol as Ip, SlotFlags, Target, decide::MAX_LOOKUPS};

use super::{
    explore::{Explorer, Tally, Violation},
    reader::Question,
    scenario::Scenario,
    writer::{Apply, History, Protocol, writes},
};
use crate::{
    model::Mapping,
    plan::tests::each_write::{VIPS, rule},
    table::UdpPinning,
};

impl Scenario {
    fn run(&self, questions: &[Question]) -> Result<Tally, Violation> {
        let history = History::new(&self.tables, &self.applies, self.protocol);
        Explorer::new(self, &history, questions).explore()
    }

    /// Panics if there is a schedule in which something is wrong.
    fn holds(&self, questions: &[Question]) -> Tally {
        self.run(questions).unwrap_or_else(|violation| {
            let Self { name, applies, protocol, .. } = self;
            let (what, schedule) = (&violation.what, violation.schedule());
            panic!("{name}, {protocol:?}, {applies:?}, {questions:?}:\n{schedule}{what}")
        })
    }
}

/// Any port and protocol.
fn any(app: u32, backends: &[u8]) -> Mapping {
    limited(app, 0, Ip::Any, backends)
}

/// All apps have the same VIP, and none has another's backends.
fn limited(app: u32, port: u16, protocol: Ip, backends: &[u8]) -> Mapping {
    rule(app, VIPS[0], port, protocol, backends)
}

fn scenarios() -> Vec<Scenario> {
    let tcp = |backends| limited(1, 80, Ip::Tcp, backends);
    let both = |backends| limited(1, 80, Ip::Any, backends);
    vec![
        Scenario::new(
            "other backends",
            [
                vec![any(1, &[1, 2]), any(2, &[1])],
                vec![any(1, &[3]), any(2, &[2])],
                vec![any(1, &[1, 2]), any(2, &[1, 3])],
                vec![any(1, &[4, 2]), any(2, &[1])],
            ],
        ),
        Scenario::new(
            "three apps",
            [
                vec![any(3, &[1]), any(1, &[1]), any(2, &[1])],
                vec![any(3, &[2]), any(1, &[2]), any(2, &[2])],
                vec![any(3, &[1]), any(1, &[3]), any(2, &[1])],
            ],
        ),
        Scenario::new(
            "one goes, another comes",
            [
                vec![any(1, &[1, 2])],
                vec![any(2, &[1, 2])],
                vec![any(1, &[3, 4])],
                vec![any(2, &[3]), any(1, &[3, 4])],
            ],
        ),
        Scenario::new(
            "no backend",
            [
                vec![any(1, &[1]), any(2, &[1])],
                vec![any(1, &[]), any(2, &[1, 2])],
                vec![any(1, &[2]), any(2, &[])],
            ],
        ),
        Scenario::new(
            "limits come and go",
            [
                vec![any(1, &[1]), any(2, &[1])],
                vec![tcp(&[2, 3])],
                vec![both(&[4]), any(2, &[2])],
                vec![any(1, &[1, 2]), any(2, &[2])],
            ],
        ),
        Scenario::new(
            "other limits",
            [
                vec![both(&[1]), any(2, &[1])],
                vec![tcp(&[1]), any(2, &[2])],
                vec![limited(1, 0, Ip::Tcp, &[2]), any(2, &[2])],
                vec![both(&[1]), any(2, &[1])],
            ],
        ),
    ]
}

fn connect(app: u32) -> Question {
    let ip = VIPS[0].octets();
    Question::Decide(Destination {
        app: AppId(app),
        ip,
        port: 80,
        protocol: Ip::Tcp,
        connect: true,
    })
}

fn datagram(app: u32) -> Destination {
    Destination {
        app: AppId(app),
        ip: VIPS[0].octets(),
        port: 80,
        protocol: Ip::Udp,
        connect: false,
    }
}

/// Shown with `--nocapture`.
fn report(what: &str, total: Tally) {
    let Tally { schedules, unsettled, ended, states } = total;
    println!(
        "{what}: {schedules} schedules, {unsettled} with an unsettled decision, {ended} with a flow \
         that ends; {states} states"
    );
}

#[test]
fn every_decision_is_one_of_a_current_table() {
    let mut total = Tally::default();
    for protocol in [Protocol::Real, Protocol::Backwards, Protocol::TornRanges] {
        for scenario in scenarios() {
            let scenario = Scenario { protocol, ..scenario };
            for question in [connect(1), connect(2), Question::Decide(datagram(1))] {
                total += scenario.holds(&[question]);
            }
        }
    }
    report("a decision", total);
    // Rare, but there.
    assert!(total.unsettled > 0);
}

#[test]
fn the_round_goes_on_from_one_decision_to_the_next() {
    let mut total = Tally::default();
    for scenario in scenarios() {
        for (first, second) in [(1, 1), (1, 2), (2, 1)] {
            total += scenario.holds(&[connect(first), connect(second)]);
        }
    }
    report("two decisions", total);
}

#[test]
fn a_crash_changes_nothing() {
    let mut total = Tally::default();
    for scenario in scenarios() {
        let [first, second, third, ..] = &scenario.tables[..] else {
            panic!("{} has too few tables", scenario.name);
        };
        // After the crash another table comes, or the same one again.
        for next in [third, second] {
            let tables = vec![first.clone(), second.clone(), next.clone()];
            for crash in 0..writes(&tables) {
                let crashes = Apply { table: 1, crash: Some(crash) };
                let applies = vec![crashes, Apply { table: 2, crash: None }];
                let scenario = Scenario { tables: tables.clone(), applies, ..scenario };
                for question in [connect(1), connect(2)] {
                    total += scenario.holds(&[question]);
                }
            }
        }
    }
    report("a crash", total);
}

#[test]
fn a_flow_keeps_its_backend_wherever_its_slot_is() {
    // That another app has a backend does not help.
    let other = Mapping { app_id: AppId(2), ..any(1, &[1]) };
    let shared = Scenario::new(
        "one backend",
        [vec![any(1, &[1]), other.clone()], vec![other.clone()], vec![any(1, &[2]), other]],
    );
    let mut total = Tally::default();
    for scenario in scenarios().into_iter().chain([shared]) {
        for (app, had) in flows() {
            total += scenario.holds(&[Question::Rebind(datagram(app), had)]);
        }
    }
    report("a flow", total);
    assert!(total.ended > 0);
}

#[test]
fn a_strict_flow_never_ends() {
    let mut scenario = scenarios().swap_remove(0);
    let mappings = scenario.tables.iter_mut().flatten();
    mappings.for_each(|rule| rule.udp_pinning = UdpPinning::Strict);
    let mut total = Tally::default();
    for (app, had) in flows() {
        let had = Target { flags: SlotFlags::STRICT, ..had };
        total += scenario.holds(&[Question::Rebind(datagram(app), had)]);
    }
    report("a strict flow", total);
}

/// What flows of the first two apps had: each backend, from wherever it may have been named.
fn flows() -> impl Iterator<Item = (u32, Target)> {
    let had = |app, last, slot| Target {
        ip: [240, app as u8, VIPS[0].octets()[3], last],
        slot,
        port: 80,
        flags: SlotFlags::empty(),
    };
    let backends = (1..=2).flat_map(|app| (1..=2).map(move |last| (app, last)));
    backends.flat_map(move |(app, last)| (0..3).map(move |slot| (app, had(app, last, slot))))
}

/// What goes wrong in the first schedule in which anything does.
fn wrong(scenario: &Scenario) -> Option<String> {
    let questions = [connect(1), connect(2)].into_iter();
    let mut violations = questions.filter_map(|question| scenario.run(&[question]).err());
    violations.next().map(|violation| violation.what)
}

#[test]
fn other_protocols_are_found_wrong() {
    for (protocol, example) in [
        // Slots are freed, and taken by others, under a reader's hands.
        (Protocol::NoWait, "a turn of"),
        (Protocol::SwitchesFirst, "ip: [0, 0, 0, 0]"),
        // The head sends readers to what is not there yet, or not any more.
        (Protocol::HeadsFirst, "Pass"),
        (Protocol::RemovalsFirst, "Pass"),
        // Who still has the VIP starts its round anew.
        (Protocol::ResetsFirst, "gets turn 0"),
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
        questions().filter_map(|question| scenario.run(&[question]).err()).next()
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
