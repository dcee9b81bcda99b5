//! Failures with TCP or with any socket, and their errors.

use crate::{Case, Known, Run, tables::db};

const GROUP: &str = "Errors";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "tcp-unreachable",
        group: GROUP,
        behaviour: "connect to a backend whose host is gone: EHOSTUNREACH after the search for it",
        run: Run::Script(
            || db(&[9]),
            "socket a tcp4
             connect a db:5432
             getpeername a
             SO_ERROR a",
        ),
        known: None,
    },
    Case {
        name: "tcp-unreachable-then-retried",
        group: GROUP,
        behaviour: "the same socket tries again and reaches the next backend",
        run: Run::Script(
            || db(&[9, 1]),
            "socket a tcp4
             connect a db:5432
             connect a db:5432
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "tcp-refused",
        group: GROUP,
        behaviour: "connect to a backend that does not listen: ECONNREFUSED",
        run: Run::Script(
            || db(&[8]),
            "socket a tcp4
             connect a db:5432
             getpeername a
             SO_ERROR a
             who tcp6 [::ffff:db]:5432",
        ),
        known: None,
    },
    Case {
        name: "tcp-no-backend",
        group: GROUP,
        behaviour: "connect to a VIP without backends: EHOSTUNREACH",
        run: Run::Script(
            || db(&[]),
            "socket a tcp4
             connect a db:5432
             getpeername a
             SO_ERROR a
             who tcp6 [::ffff:db]:5432",
        ),
        known: Some(Known {
            iptables: "SO_ERROR a = EHOSTUNREACH",
            vipnat: "SO_ERROR a = 0",
            why: "iptables lets a packet out and rejects it, which leaves an error behind in the socket; vipnat refuses before there is a packet",
        }),
    },
    Case {
        name: "tcp-no-backend-time",
        group: GROUP,
        behaviour: "how long a connect to a VIP without backends takes",
        run: Run::Script(|| db(&[]), "socket a tcp4\ntimed connect a db:5432"),
        known: Some(Known {
            iptables: "timed connect a db:5432 = EHOSTUNREACH, not at once",
            vipnat: "timed connect a db:5432 = EHOSTUNREACH, at once",
            why: "the kernel believes only the rejection of the second packet, a second later",
        }),
    },
    Case {
        name: "vip-not-in-table",
        group: GROUP,
        behaviour: "an address of the range that is no VIP of the app: as the route has it",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             connect a cache:5432
             getpeername a
             socket b udp4
             connect b cache:5432
             getpeername b
             send b ?
             poll b in
             recv b",
        ),
        known: None,
    },
    Case {
        name: "tcp-port-0",
        group: GROUP,
        behaviour: "connect to port 0 of a VIP",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a tcp4
             connect a db:0
             getpeername a
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "tcp-bind-loopback",
        group: GROUP,
        behaviour: "connect to a VIP from a socket that is bound to 127.0.0.1",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             bind a 127.0.0.1:4000
             connect a db:5432
             getsockname a",
        ),
        known: None,
    },
    Case {
        name: "vip-without-route",
        group: GROUP,
        behaviour: "a container whose routes don't cover the VIPs",
        run: Run::Steps(|container, record| {
            container.app().host.ip("route del 169.254.0.0/16");
            container.play(
                &db(&[1]),
                "who tcp4 db:5432\nsocket a udp4\nsendto a ? db:5432",
                record,
            );
        }),
        known: Some(Known {
            iptables: "who tcp4 db:5432 = ENETUNREACH\nsendto a ? db:5432 = ENETUNREACH",
            vipnat: "who tcp4 db:5432 = \"B1\"\nsendto a ? db:5432 = 1",
            why: "rules see a packet only once it has a route; vipnat needs none to the VIP",
        }),
    },
];
