//! UDP sockets that connect more than once.

use super::sidecar::play_beside_sidecar;
use crate::{
    Case, Known, Run,
    tables::{db, loopback_and_cache, two_services},
};

const GROUP: &str = "Sockets used again";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-unspec",
        group: GROUP,
        behaviour: "`connect(AF_UNSPEC)` on a connected UDP socket: no peer; then other addresses",
        run: Run::Script(
            two_services,
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
        ),
        known: None,
    },
    Case {
        name: "udp-connect-elsewhere",
        group: GROUP,
        behaviour: "a connected UDP socket connects elsewhere: another VIP, the backend itself",
        run: Run::Script(
            two_services,
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
        ),
        known: None,
    },
    Case {
        name: "udp-connect-same-vip",
        group: GROUP,
        behaviour: "a connected UDP socket connects to the same VIP again: one flow, one backend",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp4
             connect a db:5432
             ask a
             connect a db:5432
             ask a
             connect a db:5432
             ask a
             who udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-connect-same-vip-bound",
        group: GROUP,
        behaviour: "the same after `connect(AF_UNSPEC)`, with a local port of one's own",
        run: Run::Script(
            || db(&[1, 2, 3]),
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
        ),
        known: None,
    },
    Case {
        name: "udp-connect-fails",
        group: GROUP,
        behaviour: "a connected UDP socket whose next connect fails stays where it was",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             connect a db:5432
             ask a
             connect a 192.0.2.1:5432
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "udp-connect-refused-by-policy",
        group: GROUP,
        behaviour: "another program refuses a connected UDP socket's next connect: it stays where it was",
        run: Run::Steps(|container, record| {
            container.apply(&two_services());
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
        }),
        known: None,
    },
    Case {
        name: "udp-loopback-then-elsewhere",
        group: GROUP,
        behaviour: "a UDP socket connects to a VIP whose backend is on 127.0.0.1, then to another VIP",
        run: Run::Steps(|container, record| {
            play_beside_sidecar(
                container,
                record,
                &loopback_and_cache(),
                "socket a udp4
                 connect a db:5432
                 ask a
                 connect a cache:5432
                 getpeername a
                 ask a",
            );
        }),
        known: Some(Known {
            iptables: "connect a cache:5432 = 0\ngetpeername a = cache:5432\nask a = \"B2\"",
            vipnat: "connect a cache:5432 = EINVAL\ngetpeername a = db:5432\nask a = \"sidecar\"",
            why: "the first connect gives the socket the source 127.0.0.1, as without translation; from there the kernel sends to no other host, and no hook can change the source of a socket that has a port. `connect(AF_UNSPEC)` in between frees it",
        }),
    },
    Case {
        name: "udp-loopback-then-unspec-then-elsewhere",
        group: GROUP,
        behaviour: "the same with `connect(AF_UNSPEC)` in between, and without connecting at all",
        run: Run::Steps(|container, record| {
            play_beside_sidecar(
                container,
                record,
                &loopback_and_cache(),
                "socket a udp4
                 connect a db:5432
                 ask a
                 connect a unspec
                 connect a cache:5432
                 getpeername a
                 ask a
                 socket b udp4
                 sendto b ? db:5432
                 recvfrom b
                 sendto b ? cache:5432
                 recvfrom b",
            );
        }),
        known: None,
    },
    Case {
        name: "udp-loopback-then-sendto-elsewhere",
        group: GROUP,
        behaviour: "a UDP socket that is connected through a VIP to 127.0.0.1 sends to another VIP",
        run: Run::Steps(|container, record| {
            play_beside_sidecar(
                container,
                record,
                &loopback_and_cache(),
                "socket a udp4
                 connect a db:5432
                 sendto a ? cache:5432
                 ask a",
            );
        }),
        known: Some(Known {
            iptables: "sendto a ? cache:5432 = 1",
            vipnat: "sendto a ? cache:5432 = EINVAL",
            why: "the source of the socket is that of its peer, 127.0.0.1, and no hook can tell whether the application bound it",
        }),
    },
    Case {
        name: "connected-directly-while-off",
        group: GROUP,
        behaviour: "a socket connects through a VIP, then directly to its backend while the app is elsewhere; then the app is back",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play(
                "socket a tcp4
                 connect a db:5432
                 connect a unspec
                 socket b udp4
                 connect b db:5432
                 connect b unspec",
                record,
            );
            container.apply_elsewhere(&db(&[1]));
            session.play("connect a backend1:5432\nconnect b backend1:5432", record);
            session.play("getpeername a\ngetpeername b", record);
            container.apply(&db(&[1]));
            session.play("getpeername a\ngetpeername b\nask a\nsend b ?\nrecvfrom b", record);
        }),
        known: Some(Known {
            iptables: "getpeername a = backend1:5432\ngetpeername b = backend1:5432\nrecvfrom b = \"B1\" from backend1:5432",
            vipnat: "getpeername a = db:5432\ngetpeername b = db:5432\nrecvfrom b = \"B1\" from db:5432",
            why: "no hook saw the second connect, and a socket that stayed connected through the VIP all the time looks the same; `on-backend-removed` ends both",
        }),
    },
    Case {
        name: "udp-port-taken-over",
        group: GROUP,
        behaviour: "a socket closes, and another one binds its port within 30 seconds",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             bind a app:4000
             connect a db:5432
             ask a
             close a
             socket b udp4
             bind b app:4000
             connect b db:5432
             ask b",
        ),
        known: Some(Known {
            iptables: "ask b = \"B1\"",
            vipnat: "ask b = \"B2\"",
            why: "to iptables a flow is the pair of addresses and ports, whoever has the port; to vipnat it is the socket",
        }),
    },
];
