//! TCP sockets that connect more than once, and sockets that several processes share.

use crate::{
    Case, Run,
    tables::{db, two_services},
};

const GROUP: &str = "Sockets used again";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "tcp-loopback-refused-then-elsewhere",
        group: GROUP,
        behaviour: "a backend on 127.0.0.1 refuses; again on the same socket it reaches the next backend",
        run: Run::Script(
            || db(&[1, 2]).replacen("247.221.81.1", "127.0.0.1", 1),
            "socket a tcp4
             connect a db:5432
             connect a db:5432
             getpeername a
             getsockname a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "tcp-refused-then-retried",
        group: GROUP,
        behaviour: "connect is refused; again on the same socket it reaches the next backend",
        run: Run::Script(
            || db(&[8, 1]),
            "socket a tcp4
             connect a db:5432
             getpeername a
             connect a db:5432
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "tcp-refused-then-retried-bound",
        group: GROUP,
        behaviour: "the same with a local port of one's own, which is the same flow to iptables",
        run: Run::Script(
            || db(&[8, 1]),
            "socket a tcp4
             bind a app:4000
             connect a db:5432
             connect a db:5432
             getpeername a
             getsockname a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "tcp-refused-then-elsewhere",
        group: GROUP,
        behaviour: "connect is refused; then the socket goes to an address that is no VIP",
        run: Run::Script(
            || db(&[8]),
            "socket a tcp4
             connect a db:5432
             connect a backend2:5432
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "tcp-unspec-then-vip",
        group: GROUP,
        behaviour: "`connect(AF_UNSPEC)` on a connected TCP socket, then the VIP again",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a tcp4
             connect a db:5432
             ask a
             connect a unspec
             getpeername a
             getsockname a
             connect a db:5432
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "tcp-unspec-then-backend",
        group: GROUP,
        behaviour: "`connect(AF_UNSPEC)`, then the backend's own address: no stale VIP",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             connect a db:5432
             connect a unspec
             getpeername a
             connect a backend1:5432
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "tcp-unspec-then-listen",
        group: GROUP,
        behaviour: "`connect(AF_UNSPEC)`, then the socket listens and accepts: true peers",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             bind a app:4000
             connect a db:5432
             connect a unspec
             listen a
             socket b tcp4
             connect b app:4000
             accept a c
             getpeername c
             getpeername a",
        ),
        known: None,
    },
    Case {
        name: "tcp-unspec-other-vip",
        group: GROUP,
        behaviour: "`connect(AF_UNSPEC)`, then another VIP",
        run: Run::Script(
            two_services,
            "socket a tcp4
             connect a db:5432
             ask a
             connect a unspec
             connect a cache:5432
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "fork",
        group: GROUP,
        behaviour: "a child process inherits a connected socket",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a tcp4
             connect a db:5432
             child getpeername a
             child ask a
             ask a
             child who tcp4 db:5432
             socket u udp4
             child sendto u ? db:5432
             recvfrom u
             child sendto u ? db:5432
             child recvfrom u",
        ),
        known: None,
    },
];
