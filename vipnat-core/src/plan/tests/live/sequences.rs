//! Any sequence of changes, reclaims, failures and foreign writes leaves the maps that a whole apply leaves.

use std::{collections::BTreeMap, net::Ipv4Addr};

use proptest::prelude::*;
use vipnat_common::{AppId, Destination, Protocol, decide};

use super::{
    agent::{Agent, Name},
    foreign::{Foreign, writes},
};
use crate::{
    model::{Capacity, Mapping},
    plan::{LiveMaps, Plan, execute, tests::tables::mapping},
};

/// Large enough for two tables, so small that retired slots and cursors fill the maps now and then.
const CAPACITY: Capacity = Capacity { vips: 64, backends: 120, cursors: 20 };

const APPS: u32 = 3;
const VIPS: u8 = 3;

/// Port, protocol and backends of a mapping; `None` removes it.
type Choice = Option<(u16, Protocol, Vec<u8>)>;

#[derive(Clone, Debug)]
enum Event {
    /// One VIP changes.
    Vip(u32, u8, Choice, Fails),
    /// The VIPs with these numbers, as far as they exist, lead to other backends.
    Service(Vec<(u32, u8)>, Vec<u8>, Fails),
    /// All VIPs of an app are there, or go.
    App(u32, Vec<Choice>, Fails),
    BeginReclaim,
    FinishReclaim(Fails),
    Foreign(Foreign),
    /// The agent reads the maps back, and compares.
    Review,
    /// Another command applies a table of its own. The agent then sees that something has changed.
    Other(Vec<Choice>),
    /// Each VIP takes a turn.
    Connect,
}

/// The number of writes after which the event fails, and after which the repair fails.
type Fails = Option<(usize, usize)>;

fn choices() -> impl Strategy<Value = Choice> {
    let protocols = prop_oneof![Just(Protocol::Any), Just(Protocol::Tcp), Just(Protocol::Udp)];
    let ports = prop_oneof![Just(0), Just(80)];
    let backends = proptest::collection::vec(0..5u8, 0..4);
    proptest::option::weighted(0.8, (ports, protocols, backends))
}

fn events() -> impl Strategy<Value = Event> {
    let fails = || proptest::option::weighted(0.15, (0..12usize, 0..20usize));
    let name = || (1..=APPS, 1..=VIPS);
    let backends = || proptest::collection::vec(0..5u8, 0..4);
    prop_oneof![
        6 => (name(), choices(), fails()).prop_map(|((app, vip), choice, fails)| {
            Event::Vip(app, vip, choice, fails)
        }),
        3 => (proptest::collection::vec(name(), 1..6), backends(), fails()).prop_map(
            |(names, backends, fails)| Event::Service(names, backends, fails)
        ),
        2 => (1..=APPS, proptest::collection::vec(choices(), 0..=VIPS.into()), fails()).prop_map(
            |(app, choices, fails)| Event::App(app, choices, fails)
        ),
        4 => Just(Event::BeginReclaim),
        4 => fails().prop_map(Event::FinishReclaim),
        1 => writes().prop_map(Event::Foreign),
        1 => Just(Event::Review),
        1 => proptest::collection::vec(choices(), 0..=VIPS.into()).prop_map(Event::Other),
        2 => Just(Event::Connect),
    ]
}

fn name(app: u32, vip: u8) -> Name {
    (AppId(app), Ipv4Addr::new(169, 254, 1, vip))
}

fn chosen(app: u32, vip: u8, choice: &Choice) -> (Name, Option<Mapping>) {
    let mapping = choice.as_ref().map(|(port, protocol, backends)| {
        mapping(app, name(app, vip).1, *port, *protocol, backends)
    });
    (name(app, vip), mapping)
}

/// The VIPs that an event changes, with their new mappings.
fn changed(agent: &Agent, event: &Event) -> Option<(BTreeMap<Name, Option<Mapping>>, Fails)> {
    match event {
        Event::Vip(app, vip, choice, fails) => Some(([chosen(*app, *vip, choice)].into(), *fails)),
        Event::Service(names, backends, fails) => {
            let known = names.iter().filter_map(|(app, vip)| {
                let old = agent.table.get(&name(*app, *vip))?;
                let choice = Some((old.port, old.protocol, backends.clone()));
                Some(chosen(*app, *vip, &choice))
            });
            Some((known.collect(), *fails))
        }
        Event::App(app, choices, fails) => {
            let choices = choices.iter().chain(std::iter::repeat(&None));
            let all = (1..=VIPS).zip(choices).map(|(vip, choice)| chosen(*app, vip, choice));
            Some((all.collect(), *fails))
        }
        _ => None,
    }
}

/// Carries an event out. Falls back to a whole apply when the agent would.
fn happens(agent: &mut Agent, event: &Event) {
    let (done, fails) = match (event, changed(agent, event)) {
        (_, Some((new, fails))) => {
            let old = agent.table.clone();
            agent.fake.writes_left = fails.map(|(writes, _)| writes);
            let done = agent.change(&new, |_| {});
            if done.is_ok() && !agent.fake.foreign {
                check_first_turns(agent, &old);
            }
            (done.is_ok(), fails)
        }
        (Event::FinishReclaim(fails), _) => {
            agent.fake.writes_left = fails.map(|(writes, _)| writes);
            (agent.finish_reclaim(|_| {}).is_ok(), *fails)
        }
        (Event::Foreign(foreign), _) => {
            foreign.write(&mut agent.fake.maps);
            agent.fake.foreign = true;
            // Turns that another program mixes up stay so.
            agent.fake.cursors.get_mut().clear();
            (true, None)
        }
        (Event::Review, _) => {
            let same = agent.live.snapshot() == &agent.fake.maps;
            agent.fake.foreign &= !same;
            (same, None)
        }
        (Event::Other(choices), _) => {
            let choices = (1..).zip(choices).map(|(vip, choice)| chosen(1, vip, choice));
            let mappings: Vec<_> = choices.filter_map(|(_, mapping)| mapping).collect();
            agent.fake.foreign = false;
            agent.fake.command(&mappings, |_| {}).unwrap();
            (false, None)
        }
        // Connects on damaged maps take any turns.
        (Event::Connect, _) if agent.fake.foreign => (true, None),
        (Event::Connect, _) => {
            for vip in 1..=VIPS {
                for app in 1..=APPS {
                    let (app, ip) = (AppId(app), [169, 254, 1, vip]);
                    let protocol = Protocol::Tcp;
                    decide(
                        &agent.fake,
                        &Destination { app, ip, port: 80, protocol, connect: true },
                    );
                }
            }
            (true, None)
        }
        _ => {
            agent.begin_reclaim();
            (true, None)
        }
    };
    if !done {
        if let Some((_, writes)) = fails {
            agent.fake.writes_left = Some(writes);
            let _ = agent.fall_back(|_| {});
        }
        agent.fake.writes_left = None;
        fall_back(agent);
    }
    agent.fake.writes_left = None;
    agent.check();
    if !agent.fake.foreign {
        agent.check_table();
    }
}

/// Falls back. The first reclaims make room, if the maps are full of retired slots.
fn fall_back(agent: &mut Agent) {
    agent.fake.foreign = false;
    let tidy = Plan::tidy(&agent.fake.maps);
    agent.fake.run(&tidy.steps(), |_| {}).unwrap();
    for _ in 0..2 {
        agent.fake.reclaim(|_| {}).unwrap();
    }
    agent.fall_back(|_| {}).unwrap();
}

/// Checks that each VIP that is new begins with its first turn.
fn check_first_turns(agent: &Agent, old: &BTreeMap<Name, Mapping>) {
    let new = agent.table.keys().filter(|name| !old.contains_key(name));
    for name in new {
        let cursor = agent.fake.maps.cursor_of(name.0, name.1).expect("a cursor");
        let turns = agent.fake.cursors.borrow().get(&cursor).copied();
        assert_eq!(turns, None, "{name:?} goes on with another's turns");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_sequence_leaves_what_a_whole_apply_leaves(
        events in proptest::collection::vec(events(), 1..40),
    ) {
        let mut agent = Agent::new(CAPACITY);
        for event in &events {
            happens(&mut agent, event);
        }
        happens(&mut agent, &Event::Review);
        prop_assert!(!agent.fake.foreign);
        agent.check_table();
        // A retired list needs two reclaims: the first empties its slots, the second frees them.
        for _ in 0..3 {
            agent.begin_reclaim();
            agent.finish_reclaim(|_| {}).unwrap();
        }
        prop_assert_eq!(agent.live.resting(), 0);
        agent.check_table();
    }

    /// Live maps may be made from maps into which another program wrote. Plans repair them, as those of a whole
    /// snapshot do.
    #[test]
    fn plans_repair_what_another_program_wrote(
        before in proptest::collection::vec(events(), 1..12),
        foreign in proptest::collection::vec(writes(), 1..8),
        one in (1..=APPS, 1..=VIPS), choice in choices(),
    ) {
        let mut agent = Agent::new(Capacity { vips: 64, backends: 256, cursors: 64 });
        for event in &before {
            happens(&mut agent, event);
        }
        happens(&mut agent, &Event::Review);
        foreign.iter().for_each(|foreign| foreign.write(&mut agent.fake.maps));
        let tidy = Plan::tidy(&agent.fake.maps);
        agent.fake.run(&tidy.steps(), |_| {}).unwrap();
        agent.live = LiveMaps::new(agent.fake.maps.clone());
        agent.reclaim = None;
        prop_assert!(agent.live.is_tidy());

        // One VIP: it gets its mapping, and a cursor of its own.
        let (name, mapping) = chosen(one.0, one.1, &choice);
        let plan = agent.live.plan(&[name].into(), mapping.as_slice()).unwrap();
        agent.fake.run(&plan.steps(), |_| {}).unwrap();
        let Ok::<(), std::convert::Infallible>(()) = execute(&plan.steps(), &mut agent.live);
        prop_assert_eq!(agent.live.snapshot(), &agent.fake.maps);
        prop_assert!(agent.live == LiveMaps::new(agent.fake.maps.clone()));
        prop_assert_eq!(agent.fake.maps.mappings_of([name].into_iter()).remove(&name), mapping.clone());
        if mapping.is_some() {
            let cursor = agent.fake.maps.cursor_of(name.0, name.1);
            let others = agent.fake.maps.entries.keys();
            let others = others.filter(|key| (key.app_id(), key.vip.into()) != name);
            let others = others.filter_map(|key| agent.fake.maps.slots_of(key)).flatten();
            prop_assert!(others.map(|slot| Some(slot.cursor)).all(|other| other != cursor));
        }

        // All VIPs, also those that the other program added.
        let apps = (0..8).map(AppId);
        let vips = apps.flat_map(|app_id| agent.live.vips_of(app_id).map(move |vip| (app_id, vip)));
        let vips = vips.chain(agent.table.keys().copied()).collect();
        let plan = agent.live.plan(&vips, &agent.mappings()).unwrap();
        agent.fake.run(&plan.steps(), |_| {}).unwrap();
        let Ok::<(), std::convert::Infallible>(()) = execute(&plan.steps(), &mut agent.live);
        prop_assert!(agent.live == LiveMaps::new(agent.fake.maps.clone()));
        agent.check_table();
    }
}
