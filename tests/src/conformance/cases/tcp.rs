//! TCP connections: who answers, and what the names of the socket are.

use crate::conformance::{Case, db};

const GROUP: &str = "TCP";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "tcp-connect",
        group: GROUP,
        behaviour: "connect to a VIP; getpeername shows the VIP, getsockname the container's address",
        run: |container, record| {
            container.apply(&db(&[1]));
            container.session().play(
                "socket a tcp4
                 connect a 169.254.37.209:5432
                 getpeername a
                 getsockname a
                 ask a
                 send a source
                 recv a
                 getpeername a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "tcp-connect-mapped",
        group: GROUP,
        behaviour: "the same from an AF_INET6 socket with ::ffff: addresses, as Java does",
        run: |container, record| {
            container.apply(&db(&[1]));
            container.session().play(
                "socket a tcp6
                 connect a [::ffff:169.254.37.209]:5432
                 getpeername a
                 getsockname a
                 ask a
                 send a source
                 recv a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "round-robin-of-three",
        group: GROUP,
        behaviour: "three backends take turns in order, one step for each connection",
        run: |container, record| {
            container.apply(&db(&[1, 2, 3]));
            let mut session = container.session();
            for _ in 0..7 {
                session.play("who tcp4 169.254.37.209:5432", record);
            }
        },
        known: None,
    },
];
