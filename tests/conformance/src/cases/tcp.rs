//! TCP connections: the backend that answers, and the addresses that the socket shows.

use crate::{
    Case, Run,
    tables::{OTHER_PORT, db, db_of, two_services},
};

const GROUP: &str = "TCP";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "tcp-connect",
        group: GROUP,
        behaviour: "connect to a VIP; `getpeername` shows the VIP, `getsockname` the container",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             connect a db:5432
             getpeername a
             getsockname a
             ask a
             send a source
             recv a
             getpeername a",
        ),
        known: None,
    },
    Case {
        name: "tcp-connect-mapped",
        group: GROUP,
        behaviour: "the same from an `AF_INET6` socket with `::ffff:` addresses, as Java does",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp6
             connect a [::ffff:db]:5432
             getpeername a
             getsockname a
             ask a
             send a source
             recvmsg a",
        ),
        known: None,
    },
    Case {
        name: "tcp-v6-only",
        group: GROUP,
        behaviour: "an `AF_INET6` socket with `IPV6_V6ONLY` can't connect to a `::ffff:` address",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp6
             setsockopt a IPV6_V6ONLY 1
             connect a [::ffff:db]:5432",
        ),
        known: None,
    },
    Case {
        name: "tcp-port-changed",
        group: GROUP,
        behaviour: "a backend with a port of its own: `getpeername` shows the port asked for",
        run: Run::Script(
            || db_of(OTHER_PORT, "", ""),
            "socket a tcp4
             connect a db:5432
             getpeername a
             ask a
             who tcp4 db:7
             who tcp6 [::ffff:db]:5432",
        ),
        known: None,
    },
    Case {
        name: "tcp-other-port-kept",
        group: GROUP,
        behaviour: "every port of a VIP leads to the same port of the backend",
        run: Run::Script(|| db(&[1]), "who tcp4 db:6380\nwho tcp4 db:5432\nwho tcp4 db:9999"),
        known: None,
    },
    Case {
        name: "tcp-direct-address",
        group: GROUP,
        behaviour: "a connect to a backend's own address shows that address, whatever went before",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             connect a db:5432
             socket b tcp4
             connect b backend1:5432
             getpeername b
             ask b
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "tcp-bind-before-connect",
        group: GROUP,
        behaviour: "bind to an address and port, then connect",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             bind a app:4000
             connect a db:5432
             getsockname a
             getpeername a
             send a source
             recv a
             socket b tcp4
             bind b 0.0.0.0:4001
             connect b db:5432
             getsockname b
             send b source
             recv b",
        ),
        known: None,
    },
    Case {
        name: "tcp-bind-to-vip",
        group: GROUP,
        behaviour: "a VIP is no address to bind to",
        run: Run::Script(|| db(&[1]), "socket a tcp4\nbind a db:4000"),
        known: None,
    },
    Case {
        name: "tcp-reuseport",
        group: GROUP,
        behaviour: "two sockets with `SO_REUSEPORT` on one port connect to two VIPs",
        run: Run::Script(
            two_services,
            "socket a tcp4
             setsockopt a SO_REUSEPORT 1
             bind a app:4000
             connect a db:5432
             socket b tcp4
             setsockopt b SO_REUSEPORT 1
             bind b app:4000
             connect b cache:5432
             getpeername a
             getpeername b
             ask a
             ask b
             send b source
             recv b",
        ),
        known: None,
    },
    Case {
        name: "tcp-half-close",
        group: GROUP,
        behaviour: "after shutdown of sending the answer still comes, then the end",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             connect a db:5432
             ask a
             shutdown a
             recv a
             recv a
             getpeername a
             send a x",
        ),
        known: None,
    },
    Case {
        name: "tcp-closed-by-server",
        group: GROUP,
        behaviour: "the server closes: the end, then EPIPE",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             connect a db:5432
             send a close
             recv a
             getpeername a
             send a x
             sleep 200
             send a x
             getpeername a
             SO_ERROR a",
        ),
        known: None,
    },
    Case {
        name: "tcp-reset-by-server",
        group: GROUP,
        behaviour: "the server resets: ECONNRESET, and no peer any more",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             connect a db:5432
             send a reset
             recv a
             getpeername a
             send a x",
        ),
        known: None,
    },
    Case {
        name: "tcp-large-transfer",
        group: GROUP,
        behaviour: "a message of many segments",
        run: Run::Script(
            || db(&[1]),
            "socket a tcp4
             connect a db:5432
             send a x*60000
             getpeername a
             shutdown a
             recv a
             recv a",
        ),
        known: None,
    },
];
