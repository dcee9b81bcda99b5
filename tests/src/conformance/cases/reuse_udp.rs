//! UDP sockets that are connected more than once.

use super::play;
use crate::conformance::{Case, Known};

const GROUP: &str = "Sockets used again";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-unspec",
        group: GROUP,
        behaviour: "`connect(AF_UNSPEC)` on a connected UDP socket: no peer; then other addresses",
        run: |container, record| {
            container.apply(&super::two_services());
            container.session().play(
                "socket a udp4
                 connect a db:5432
                 ask a
                 connect a unspec
                 getpeername a
                 send a ?
                 connect a cache:5432
                 getpeername a
                 ask a
                 connect a unspec
                 connect a backend1:5432
                 getpeername a
                 ask a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "udp-connect-elsewhere",
        group: GROUP,
        behaviour: "a connected UDP socket connects elsewhere: another VIP, the backend itself",
        run: |container, record| {
            container.apply(&super::two_services());
            container.session().play(
                "socket a udp4
                 connect a db:5432
                 ask a
                 connect a cache:5432
                 getpeername a
                 ask a
                 connect a backend1:5432
                 getpeername a
                 send a ?
                 recvfrom a
                 connect a db:5432
                 getpeername a
                 send a ?
                 recvfrom a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "udp-connect-same-vip",
        group: GROUP,
        behaviour: "a connected UDP socket connects to the same VIP again: one flow, one backend",
        run: |container, record| {
            play(
                container,
                record,
                &[1, 2, 3],
                "socket a udp4
                 connect a db:5432
                 ask a
                 connect a db:5432
                 ask a
                 connect a db:5432
                 ask a
                 who udp4 db:5432",
            );
        },
        known: None,
    },
    Case {
        name: "udp-connect-same-vip-bound",
        group: GROUP,
        behaviour: "the same after `connect(AF_UNSPEC)`, with a local port of one's own",
        run: |container, record| {
            play(
                container,
                record,
                &[1, 2, 3],
                "socket a udp4
                 bind a app:4000
                 connect a db:5432
                 ask a
                 connect a unspec
                 getsockname a
                 connect a db:5432
                 getsockname a
                 ask a
                 who udp4 db:5432",
            );
        },
        known: None,
    },
    Case {
        name: "udp-connect-fails",
        group: GROUP,
        behaviour: "a connected UDP socket whose next connect fails stays where it was",
        run: |container, record| {
            play(
                container,
                record,
                &[1],
                "socket a udp4
                 connect a db:5432
                 ask a
                 connect a 192.0.2.1:5432
                 getpeername a
                 ask a",
            );
        },
        known: None,
    },
    Case {
        name: "udp-connect-refused-by-policy",
        group: GROUP,
        behaviour: "another program refuses a connected UDP socket's next connect: it stays where it was",
        run: |container, record| {
            container.apply(&super::two_services());
            let mut session = container.session();
            session.play("socket a udp4\nconnect a db:5432\nask a", record);
            let refusal = container.refuse(&["connect4"]);
            session.play("connect a cache:5432", record);
            drop(refusal);
            session.play(
                "getpeername a
                 send a ?
                 recvfrom a
                 sendto a ? db:5432
                 recvmsg a
                 connect a cache:5432
                 getpeername a
                 send a ?
                 recvfrom a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "udp-port-taken-over",
        group: GROUP,
        behaviour: "a socket closes, and another one binds its port within 30 seconds",
        run: |container, record| {
            play(
                container,
                record,
                &[1, 2],
                "socket a udp4
                 bind a app:4000
                 connect a db:5432
                 ask a
                 close a
                 socket b udp4
                 bind b app:4000
                 connect b db:5432
                 ask b",
            );
        },
        known: Some(Known {
            iptables: "ask b = \"B1\"",
            vipnat: "ask b = \"B2\"",
            why: "to iptables a flow is the pair of addresses and ports, whoever has the port; to vipnat it is the socket",
        }),
    },
];
