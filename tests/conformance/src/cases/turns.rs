//! The order of the backends.

use crate::{
    Case, Container, Known, Record, Run,
    tables::{db, db_of, db_with, two_vips},
};

const GROUP: &str = "Who is next";
/// Shows the backend that answers one connection.
const WHO: &str = "who tcp4 db:5432\n";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "round-robin-of-one",
        group: GROUP,
        behaviour: "one backend",
        run: Run::Steps(|container, record| container.play(&db(&[1]), &WHO.repeat(3), record)),
        known: None,
    },
    Case {
        name: "round-robin-of-two",
        group: GROUP,
        behaviour: "two backends take turns in order, one step for each connection",
        run: Run::Steps(|container, record| container.play(&db(&[1, 2]), &WHO.repeat(5), record)),
        known: None,
    },
    Case {
        name: "round-robin-of-three",
        group: GROUP,
        behaviour: "three backends",
        run: Run::Steps(|container, record| {
            container.play(&db(&[1, 2, 3]), &WHO.repeat(8), record);
        }),
        known: None,
    },
    Case {
        name: "round-robin-of-four",
        group: GROUP,
        behaviour: "four backends",
        run: Run::Steps(|container, record| {
            container.play(&db(&[4, 2, 3, 1]), &WHO.repeat(10), record);
        }),
        known: None,
    },
    Case {
        name: "round-robin-all-kinds",
        group: GROUP,
        behaviour: "TCP, MPTCP, datagrams, `AF_INET6`, any port: all take turns with each other",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "who tcp4 db:5432
             reach udp4 db:5432
             who tcp6 [::ffff:db]:5432
             reach udp6 [::ffff:db]:5432
             who mptcp4 db:5432
             who tcp4 db:6380
             reach udp4 db:6380",
        ),
        known: None,
    },
    Case {
        name: "round-robin-udp-connect",
        group: GROUP,
        behaviour: "UDP sockets that connect, in between",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "who tcp4 db:5432
             who udp4 db:5432
             who udp6 [::ffff:db]:5432
             reach udp4 db:5432
             who tcp4 db:5432
             who udp4 db:5432",
        ),
        known: Some(Known {
            iptables: "who udp4 db:5432 = \"B2\"\nwho udp6 [::ffff:db]:5432 = \"B3\"\n\
                       reach udp4 db:5432 = \"B1\"\nwho tcp4 db:5432 = \"B2\"",
            vipnat: "who udp4 db:5432 = \"B1\"\nwho udp6 [::ffff:db]:5432 = \"B2\"\n\
                     reach udp4 db:5432 = \"B2\"\nwho tcp4 db:5432 = \"B3\"",
            why: "nobody can tell in connect whether a UDP socket will ever send, so these take turns \
                  among themselves",
        }),
    },
    Case {
        name: "round-robin-weighted",
        group: GROUP,
        behaviour: "weights 3, 1 and 2: turns spread over the round",
        run: Run::Steps(|container, record| {
            container.apply(&weighted(""));
            container.session().play(&WHO.repeat(12), record);
        }),
        known: None,
    },
    Case {
        name: "round-robin-two-vips",
        group: GROUP,
        behaviour: "each VIP has turns of its own, also two VIPs of one service",
        run: Run::Script(
            || two_vips(&[1, 2, 3]),
            "who tcp4 db:5432
             who tcp4 db:5432
             who tcp4 cache:5432
             who tcp4 db:5432
             who tcp4 cache:5432",
        ),
        known: None,
    },
    Case {
        name: "two-hundred-connections",
        group: GROUP,
        behaviour: "200 TCP connections from 8 threads: how many each of three backends gets",
        run: Run::Script(|| db(&[1, 2, 3]), "many tcp4 db:5432 8 25"),
        known: None,
    },
    Case {
        name: "two-hundred-udp-flows",
        group: GROUP,
        behaviour: "200 connected UDP sockets from 8 threads",
        run: Run::Script(|| db(&[1, 2, 3]), "many udp4 db:5432 8 25"),
        known: None,
    },
    Case {
        name: "refused-takes-a-turn",
        group: GROUP,
        behaviour: "a connection that is refused has taken its turn",
        run: Run::Steps(|container, record| {
            container.play(&db(&[1, 8, 2]), &WHO.repeat(6), record);
        }),
        known: None,
    },
    Case {
        name: "getaddrinfo-takes-no-turn",
        group: GROUP,
        behaviour: "UDP connects to port 0, as getaddrinfo makes them, take no turn",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             connect a db:0
             getsockname a
             getpeername a
             connect a unspec
             connect a db:0
             close a
             socket b udp6
             connect b [::ffff:db]:0
             getsockname b
             getpeername b
             who tcp4 db:5432
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-connect-without-send",
        group: GROUP,
        behaviour: "a UDP socket that connects to another port than 0, and never sends",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             connect a db:5432
             getpeername a
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-turn-at-first-send",
        group: GROUP,
        behaviour: "two UDP sockets connect, then send in the other order",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             socket b udp4
             connect a db:5432
             connect b db:5432
             ask b
             ask a",
        ),
        known: Some(Known {
            iptables: "ask b = \"B1\"\nask a = \"B2\"",
            vipnat: "ask b = \"B2\"\nask a = \"B1\"",
            why: "vipnat picks the backend in connect, iptables with the first packet",
        }),
    },
    Case {
        name: "select-random",
        group: GROUP,
        behaviour: "`select = \"random\"`: each backend as often as any other, within chance",
        run: Run::Steps(|container, record| {
            container.apply(&db_with(&[1, 2, 3], "select = \"random\"", ""));
            shares(container, record, [1, 1, 1]);
        }),
        known: None,
    },
    Case {
        name: "select-random-weighted",
        group: GROUP,
        behaviour: "`select = \"random\"` with weights 3, 1 and 2",
        run: Run::Steps(|container, record| {
            container.apply(&weighted("select = \"random\""));
            shares(container, record, [3, 1, 2]);
        }),
        known: None,
    },
];

fn weighted(service: &str) -> String {
    let backends = "[{ ip = \"247.221.81.1\", weight = 3 }, \"247.221.81.2\", \
                    { ip = \"247.221.81.3\", weight = 2 }]";
    db_of(backends, service, "")
}

/// Notes whether B1, B2 and B3 get their shares of 600 connections, within six standard deviations, and
/// not in turns.
fn shares(container: &Container, record: &mut Record, weights: [u32; 3]) {
    const CONNECTIONS: usize = 600;
    let mut session = container.session();
    let answers: Vec<_> = (0..CONNECTIONS).map(|_| session.call(WHO.trim())).collect();
    let round = weights.iter().sum::<u32>() as usize;
    let in_turns = answers.windows(round + 1).all(|some| some[0] == some[round]);
    record.line(format!("in turns: {in_turns}"));
    for (number, weight) in weights.iter().enumerate() {
        let who = format!("\"B{}\"", number + 1);
        let count = answers.iter().filter(|answer| **answer == who).count() as f64;
        let share = f64::from(*weight) / round as f64;
        let expected = CONNECTIONS as f64 * share;
        let deviation = (expected * (1.0 - share)).sqrt();
        let within = (count - expected).abs() < 6.0 * deviation;
        record.line(format!("{who} gets {weight} of {round}: {within}"));
    }
}
