//! An agent changes the maps while it waits for a reclaim: each answer is right. Agents that reclaim what they
//! have not waited for are found.

use std::collections::BTreeSet;

use vipnat_common::decide::MAX_LOOKUPS;

use super::{
    crashes::crashes,
    explore::Tally,
    protocol::{Kind, Protocol},
    questions::{connect, datagram, flows},
    reader::Question,
    run::{holds, report, run, wrong},
    scenario::{Agent, Scenario},
    tables::{any, scenarios},
};
use crate::model::Mapping;

/// One change during each wait, or two.
const AGENTS: [Agent; 2] =
    [Agent { changes: 1, looks_late: false }, Agent { changes: 2, looks_late: false }];

/// The first tables come once more, so that a change uses slots again that an earlier change retired.
///
/// No wait of the agent holds up its changes, so a decision can meet more of them than beside applies that wait:
///
/// - An attempt between two limited entries counts as a miss. It may come before the other misses.
/// - A VIP or a limit may go after an attempt that saw a change. The other attempts find nothing.
fn longer() -> impl Iterator<Item = Scenario> {
    scenarios().into_iter().map(|scenario| {
        let Scenario { name, mut tables, .. } = scenario;
        tables.extend_from_within(..2);
        let limited = tables.iter().flatten().any(Mapping::limited);
        let misses = MAX_LOOKUPS - if limited { 2 } else { 1 };
        let apps = |table: &[Mapping]| -> BTreeSet<_> {
            table.iter().map(|mapping| mapping.app_id).collect()
        };
        let empty_attempts = limited || tables.iter().any(|table| apps(table) != apps(&tables[0]));
        Scenario { misses, empty_attempts, ..Scenario::of(name, tables) }
    })
}

/// All scenarios, with each agent.
fn by_agents(agents: impl IntoIterator<Item = Agent>) -> impl Iterator<Item = Scenario> {
    agents
        .into_iter()
        .flat_map(|agent| longer().map(move |scenario| Scenario { agent: Some(agent), ..scenario }))
}

/// Some scenarios. The others take several times as many states.
fn some<const N: usize>(agent: Agent, names: [&'static str; N]) -> impl Iterator<Item = Scenario> {
    by_agents([agent]).filter(move |scenario| names.contains(&scenario.name))
}

#[test]
fn every_decision_beside_an_agent_is_one_of_a_current_table() {
    let few = ["other backends", "one goes, another comes"];
    let mut all: Vec<_> = by_agents([AGENTS[0]]).chain(some(AGENTS[1], few)).collect();
    for protocol in [Protocol::Backwards, Protocol::TornRanges] {
        all.extend(some(AGENTS[0], few).map(|scenario| Scenario { protocol, ..scenario }));
    }
    let mut total = Tally::default();
    for scenario in all {
        for question in [connect(1), connect(2), Question::Decide(datagram(1))] {
            let tally = holds(&scenario, &[question]);
            println!("{} {:?} {}", scenario.name, scenario.protocol, tally.states);
            total += tally;
        }
    }
    report("a decision beside an agent", total);
}

#[test]
fn the_round_goes_on_beside_an_agent() {
    let mut total = Tally::default();
    for scenario in some(AGENTS[0], ["other backends", "one goes, another comes"]) {
        for (first, second) in [(1, 1), (1, 2), (2, 1)] {
            total += holds(&scenario, &[connect(first), connect(second)]);
        }
    }
    report("two decisions beside an agent", total);
}

#[test]
fn a_flow_keeps_its_backend_beside_an_agent() {
    let mut total = Tally::default();
    for scenario in some(AGENTS[0], ["other backends", "limits come and go"]) {
        for (app, had) in flows() {
            total += holds(&scenario, &[Question::Rebind(datagram(app), had)]);
        }
    }
    report("a flow beside an agent", total);
}

/// The agent crashes, also while it reclaims what it waited for. The next command finds the maps as they are.
#[test]
fn a_crash_of_an_agent_changes_nothing() {
    let mut total = Tally::default();
    for scenario in some(AGENTS[0], ["other backends", "one goes, another comes"]) {
        for crashed in crashes(&scenario, 3) {
            for question in [connect(1), connect(2)] {
                total += holds(&crashed, &[question]);
            }
        }
    }
    report("a crash of an agent", total);
}

/// A cgroup leaves an app while the agent waits: one wait lies inside the other.
#[test]
fn a_cgroup_moves_while_the_agent_waits() {
    let moves = |protocol| {
        let tables = [
            vec![any(1, &[1, 2]), any(2, &[1])],
            vec![any(1, &[1, 2]), any(2, &[2])],
            vec![any(2, &[3])],
        ];
        let agent = Some(AGENTS[0]);
        Scenario { protocol, agent, moves: true, ..Scenario::new("a cgroup moves", tables) }
    };
    holds(&moves(Protocol::Real), &[connect(1)]);
    let broken = moves(Protocol::Exchanged(Kind::Wait, Kind::RemoveEntries));
    let found = run(&broken, &[connect(1)]).err().map(|found| found.what);
    assert!(found.is_some_and(|what| what.contains("Pass")));
}

/// The wait began before these slots were retired, so a reader may still have them.
#[test]
fn slots_that_are_retired_during_the_wait_may_not_be_emptied_after_it() {
    for agent in AGENTS {
        let late = by_agents([Agent { looks_late: true, ..agent }]);
        let wrong: Vec<_> = late.filter_map(|scenario| wrong(&scenario)).collect();
        assert!(!wrong.is_empty(), "{agent:?}");
    }
}

#[test]
fn an_agent_that_reclaims_without_waiting_is_found_wrong() {
    for agent in AGENTS {
        let broken = by_agents([agent]);
        let protocol = Protocol::Without(Kind::Wait);
        let broken = broken.map(|scenario| Scenario { protocol, ..scenario });
        let wrong: Vec<_> = broken.filter_map(|scenario| wrong(&scenario)).collect();
        assert!(!wrong.is_empty(), "{agent:?}");
    }
}
