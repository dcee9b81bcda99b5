//! MPTCP sockets.

use crate::{Case, Run, tables::db};

const GROUP: &str = "Ways to connect";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "mptcp",
        group: GROUP,
        behaviour: "an MPTCP socket: peer, answer, turns",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a mptcp4
             connect a db:5432
             getsockname a
             ask a
             getpeername a
             who mptcp4 db:5432
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "mptcp-mapped",
        group: GROUP,
        behaviour: "the same from an `AF_INET6` MPTCP socket",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a mptcp6
             connect a [::ffff:db]:5432
             getsockname a
             ask a
             getpeername a
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "mptcp-nonblocking",
        group: GROUP,
        behaviour: "a non-blocking connect of an MPTCP socket",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a mptcp4
             nonblocking a
             connect a db:5432
             poll a out
             SO_ERROR a
             getpeername a
             blocking a
             ask a
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "mptcp-refused",
        group: GROUP,
        behaviour: "an MPTCP socket that is refused, tried again",
        run: Run::Script(
            || db(&[8, 1]),
            "socket a mptcp4
             connect a db:5432
             getpeername a
             connect a db:5432
             getpeername a
             ask a",
        ),
        known: None,
    },
];
