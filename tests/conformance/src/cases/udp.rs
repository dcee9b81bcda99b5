//! UDP: the backend that answers, and the source that answers show.

use crate::{
    Case, Run,
    tables::{OTHER_PORT, db, db_of, two_services},
};

const GROUP: &str = "UDP";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-connected",
        group: GROUP,
        behaviour: "a connected socket: names, `recv`, the source `recvfrom` and `recvmsg` show",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             connect a db:5432
             getpeername a
             getsockname a
             ask a
             send a source
             recvfrom a
             send a ?
             recvmsg a
             getpeername a",
        ),
        known: None,
    },
    Case {
        name: "udp-connected-mapped",
        group: GROUP,
        behaviour: "the same from an `AF_INET6` socket",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp6
             connect a [::ffff:db]:5432
             getpeername a
             getsockname a
             ask a
             send a source
             recvfrom a
             send a ?
             recvmsg a
             getpeername a",
        ),
        known: None,
    },
    Case {
        name: "udp-sendto",
        group: GROUP,
        behaviour: "an unconnected socket: `sendto`, and the VIP as the source in `recvfrom`",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             sendto a ? db:5432
             recvfrom a
             sendto a source db:5432
             recvfrom a
             getsockname a
             getpeername a",
        ),
        known: None,
    },
    Case {
        name: "udp-sendto-mapped",
        group: GROUP,
        behaviour: "the same from an `AF_INET6` socket",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp6
             sendto a ? [::ffff:db]:5432
             recvfrom a
             sendto a source [::ffff:db]:5432
             recvmsg a
             getsockname a
             getpeername a",
        ),
        known: None,
    },
    Case {
        name: "udp-v4-address-on-v6-socket",
        group: GROUP,
        behaviour: "an `AF_INET6` socket that is given `AF_INET` addresses",
        run: Run::Script(
            || db(&[1]),
            "socket a udp6
             sendto a ? db:5432
             recvfrom a
             socket b udp6
             connect b db:5432
             getpeername b
             ask b",
        ),
        known: None,
    },
    Case {
        name: "udp-unspec-address",
        group: GROUP,
        behaviour: "`sendto` with a valid address whose family is `AF_UNSPEC`",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             sendto a ? unspec:db:5432
             recvfrom a
             sendto a ? db:5432
             recvfrom a
             socket b udp6
             sendto b ? unspec:db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-sendmsg",
        group: GROUP,
        behaviour: "`sendmsg` and `recvmsg`",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             sendmsg a ? db:5432
             recvmsg a
             socket b udp6
             sendmsg b ? [::ffff:db]:5432
             recvmsg b",
        ),
        known: None,
    },
    Case {
        name: "udp-sendmmsg",
        group: GROUP,
        behaviour: "`sendmmsg` and `recvmmsg`: two VIPs and a direct address in one call",
        run: Run::Script(
            two_services,
            "socket a udp4
             sendmmsg a ? db:5432 ? cache:5432 ? backend3:5432
             sleep 200
             recvmmsg a 3
             sendmmsg a ? db:5432 ? db:5432
             sleep 200
             recvmmsg a 2",
        ),
        known: None,
    },
    Case {
        name: "udp-sendmmsg-mapped",
        group: GROUP,
        behaviour: "the same from an `AF_INET6` socket",
        run: Run::Script(
            two_services,
            "socket a udp6
             sendmmsg a ? [::ffff:db]:5432 ? [::ffff:cache]:5432 ? [::ffff:backend3]:5432
             sleep 200
             recvmmsg a 3",
        ),
        known: None,
    },
    Case {
        name: "udp-port-changed",
        group: GROUP,
        behaviour: "a backend with a port of its own: the source has the port asked for",
        run: Run::Script(
            || db_of(OTHER_PORT, "", ""),
            "socket a udp4
             sendto a ? db:53
             recvfrom a
             sendto a ? db:54
             recvfrom a
             sendto a ? backend1:5432
             recvfrom a
             socket b udp4
             connect b db:53
             send b ?
             recvfrom b
             getpeername b",
        ),
        known: None,
    },
    Case {
        name: "udp-bind-before-send",
        group: GROUP,
        behaviour: "bind to an address and port, then send",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             bind a app:4000
             sendto a source db:5432
             recvfrom a
             socket b udp4
             bind b 0.0.0.0:4001
             sendto b source db:5432
             recvfrom b
             getsockname b",
        ),
        known: None,
    },
];
