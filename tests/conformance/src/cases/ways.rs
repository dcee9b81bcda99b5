//! The many ways to make a connection.

use crate::{Case, Run, tables::db};

const GROUP: &str = "Ways to connect";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "nonblocking-connect",
        group: GROUP,
        behaviour: "a non-blocking connect: EINPROGRESS, poll, SO_ERROR, EISCONN",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a tcp4
             nonblocking a
             connect a db:5432
             poll a out
             SO_ERROR a
             getpeername a
             connect a db:5432
             connect a db:5432
             blocking a
             ask a
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "nonblocking-connect-mapped",
        group: GROUP,
        behaviour: "the same from an `AF_INET6` socket",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a tcp6
             nonblocking a
             connect a [::ffff:db]:5432
             poll a out
             SO_ERROR a
             getpeername a
             connect a [::ffff:db]:5432
             connect a [::ffff:db]:5432
             blocking a
             ask a
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "nonblocking-connect-refused",
        group: GROUP,
        behaviour: "a non-blocking connect that is refused: poll says so, SO_ERROR why",
        run: Run::Script(
            || db(&[8]),
            "socket a tcp4
             nonblocking a
             connect a db:5432
             poll a out
             SO_ERROR a
             SO_ERROR a
             getpeername a",
        ),
        known: None,
    },
    Case {
        name: "nonblocking-connect-again",
        group: GROUP,
        behaviour: "connect again while it is under way: EALREADY, and no second turn",
        run: Run::Script(
            || db(&[9, 1, 2]),
            "socket a tcp4
             nonblocking a
             connect a db:5432
             connect a db:5432
             connect a db:5432
             who tcp4 db:5432
             poll a out
             connect a db:5432
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "connect-twice",
        group: GROUP,
        behaviour: "connect on a connected socket: EISCONN, and no second turn",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a tcp4
             connect a db:5432
             connect a db:5432
             getpeername a
             who tcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "fastopen-sendto",
        group: GROUP,
        behaviour: "`sendto` with `MSG_FASTOPEN`: without a cookie, then with one",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             sendto a ? db:5432 MSG_FASTOPEN
             getpeername a
             recv a
             SYN_DATA a
             close a
             socket b tcp4
             sendto b ? db:5432 MSG_FASTOPEN
             getpeername b
             recv b
             SYN_DATA b",
        ),
        known: None,
    },
    Case {
        name: "fastopen-connect",
        group: GROUP,
        behaviour: "`TCP_FASTOPEN_CONNECT`: without a cookie, then with one",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             setsockopt a TCP_FASTOPEN_CONNECT 1
             connect a db:5432
             getpeername a
             send a ?
             recv a
             SYN_DATA a
             close a
             socket b tcp4
             setsockopt b TCP_FASTOPEN_CONNECT 1
             connect b db:5432
             getpeername b
             send b ?
             getpeername b
             recv b
             SYN_DATA b",
        ),
        known: None,
    },
    Case {
        name: "fastopen-turns",
        group: GROUP,
        behaviour: "connections with `MSG_FASTOPEN` take turns like any other",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a tcp4
             sendto a ? db:5432 MSG_FASTOPEN
             recv a
             socket b tcp4
             sendto b ? db:5432 MSG_FASTOPEN
             recv b
             who tcp4 db:5432
             socket c tcp6
             sendto c ? [::ffff:db]:5432 MSG_FASTOPEN
             getpeername c
             recv c",
        ),
        known: None,
    },
    Case {
        name: "io-uring",
        group: GROUP,
        behaviour: "connect, send and receive through io_uring",
        run: Run::Script(
            || db(&[1, 8, 2]),
            "socket a tcp4
             uring connect a db:5432
             getpeername a
             uring send a ?
             uring recv a
             socket b tcp4
             uring connect b db:5432
             getpeername b
             socket c tcp6
             uring connect c [::ffff:db]:5432
             getpeername c
             uring send c ?
             uring recv c",
        ),
        known: None,
    },
    Case {
        name: "io-uring-udp",
        group: GROUP,
        behaviour: "UDP through io_uring: `sendmsg` and `recvmsg` with addresses",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket b udp4
             uring sendmsg b ? db:5432
             uring recvmsg b
             socket c udp6
             uring sendmsg c ? [::ffff:db]:5432
             uring recvmsg c",
        ),
        known: None,
    },
    Case {
        name: "io-uring-udp-connected",
        group: GROUP,
        behaviour: "a connected UDP socket through io_uring",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp4
             uring connect a db:5432
             getpeername a
             uring send a ?
             uring recv a
             who udp4 db:5432",
        ),
        known: None,
    },
];
