//! The table changes while connections and flows exist.
//!
//! Most tables here have a second service, [`CACHE`]. If the last DNAT rule of a container is removed, the
//! container has no connection tracking any more, unless other rules need it. Connections that iptables
//! translated then hang: `last-relationship-removed`.

use crate::{
    Case, Known, Run,
    tables::{CACHE, db, db_with, two_services, two_vips},
};

const GROUP: &str = "Changes of the table";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "tcp-backend-moves",
        group: GROUP,
        behaviour: "a service moves: what is connected stays, new connections go to the new place",
        run: Run::InTurn(&[
            (|| db(&[1]), "socket a tcp4\nconnect a db:5432\nask a"),
            (|| db(&[2]), "ask a\ngetpeername a\nwho tcp4 db:5432\nask a"),
        ]),
        known: None,
    },
    Case {
        name: "tcp-backend-added",
        group: GROUP,
        behaviour: "a backend comes: what is connected stays; from then on all get new connections",
        run: Run::InTurn(&[
            (|| db(&[1]), "socket a tcp4\nconnect a db:5432\nask a"),
            (|| db(&[1, 2]), "ask a\ngetpeername a\nmany tcp4 db:5432 1 10"),
        ]),
        known: None,
    },
    Case {
        name: "tcp-backend-removed",
        group: GROUP,
        behaviour: "a backend goes: what is connected to it stays, it gets no new connections",
        run: Run::InTurn(&[
            (|| db(&[1, 2]), "socket a tcp4\nconnect a db:5432\nask a"),
            (|| db(&[2]), "ask a\ngetpeername a\nmany tcp4 db:5432 1 4"),
        ]),
        known: None,
    },
    Case {
        name: "tcp-relationship-removed",
        group: GROUP,
        behaviour: "a relationship goes: what is connected stays, the VIP is none any more",
        run: Run::InTurn(&[
            (two_services, "socket a tcp4\nconnect a cache:5432\nask a"),
            (|| db(&[1]), "ask a\ngetpeername a\nwho tcp4 cache:5432\nask a"),
        ]),
        known: None,
    },
    Case {
        name: "tcp-backends-come-and-go",
        group: GROUP,
        behaviour: "a service loses its last backend, and gets one again",
        run: Run::InTurn(&[
            (two_services, "socket a tcp4\nconnect a db:5432"),
            (|| db(&[]) + CACHE, "socket b tcp4\nconnect b db:5432\nask a"),
            (|| db(&[2]) + CACHE, "connect b db:5432\ngetpeername b\nask b\nask a"),
        ]),
        known: None,
    },
    Case {
        name: "last-relationship-removed",
        group: GROUP,
        behaviour: "the last relationship of a container goes: what is connected",
        run: Run::InTurn(&[
            (|| db(&[1]), "socket a tcp4\nconnect a db:5432\nask a"),
            (String::new, "ask a"),
        ]),
        known: Some(Known {
            iptables: "ask a = EAGAIN",
            vipnat: "ask a = \"B1\"",
            why: "without a DNAT rule the kernel ends connection tracking in the container, and what depends on it hangs; vipnat has nothing to keep",
        }),
    },
    Case {
        name: "turn-after-other-change",
        group: GROUP,
        behaviour: "another relationship comes: whose turn it is at a VIP that did not change",
        run: Run::InTurn(&[
            (|| db(&[1, 2]), "who tcp4 db:5432"),
            (|| two_vips(&[1, 2]), "who tcp4 db:5432"),
        ]),
        known: Some(Known {
            iptables: "who tcp4 db:5432 = \"B1\"",
            vipnat: "who tcp4 db:5432 = \"B2\"",
            why: "loading rules resets every counter of them; the turns of a VIP that did not change go on",
        }),
    },
    Case {
        name: "udp-backend-moves-connected",
        group: GROUP,
        behaviour: "a service moves: a connected UDP socket stays",
        run: Run::InTurn(&[
            (|| db(&[1]), "socket a udp4\nconnect a db:5432\nask a"),
            (|| db(&[2]), "ask a\ngetpeername a\nwho udp4 db:5432\nask a"),
        ]),
        known: None,
    },
    Case {
        name: "udp-backend-moves",
        group: GROUP,
        behaviour: "a service moves: the next datagram of an unconnected UDP flow",
        run: Run::InTurn(&[
            (|| db(&[1]), "socket a udp4\nsendto a ? db:5432\nrecvfrom a"),
            (|| db(&[2]), "sendto a ? db:5432\nrecvfrom a"),
        ]),
        known: Some(Known {
            iptables: "recvfrom a = \"B1\" from db:5432",
            vipnat: "recvfrom a = \"B2\" from db:5432",
            why: "iptables would go on to a backend that may be gone; `udp-pinning = \"strict\"` does as iptables does",
        }),
    },
    Case {
        name: "udp-backend-moves-strict",
        group: GROUP,
        behaviour: "the same with `udp-pinning = \"strict\"`: the flow stays",
        run: Run::Steps(|container, record| {
            let strict = |backend| db_with(&[backend], "udp-pinning = \"strict\"", "");
            container.apply(&strict(1));
            let mut session = container.session();
            session.play("socket a udp4\nsendto a ? db:5432\nrecvfrom a", record);
            container.apply(&strict(2));
            session.play(
                "sendto a ? db:5432
                 recvfrom a
                 socket b udp4
                 sendto b ? db:5432
                 recvfrom b
                 sendto a ? db:5432
                 recvfrom a",
                record,
            );
        }),
        known: None,
    },
    Case {
        name: "udp-backend-added",
        group: GROUP,
        behaviour: "a backend comes: a UDP flow keeps the one it has",
        run: Run::InTurn(&[
            (|| db(&[1]), "socket a udp4\nsendto a ? db:5432\nrecvfrom a"),
            (|| db(&[2, 1]), "sendto a ? db:5432\nrecvfrom a\nsendto a ? db:5432\nrecvfrom a"),
        ]),
        known: None,
    },
    Case {
        name: "udp-late-reply-of-removed-backend",
        group: GROUP,
        behaviour: "a backend that has left the table answers late: the VIP as the source",
        run: Run::InTurn(&[
            (|| db(&[1]), "socket a udp4\nsendto a \"later 500\" db:5432"),
            (|| db(&[2]), "recvfrom a"),
        ]),
        known: None,
    },
    Case {
        name: "udp-relationship-removed",
        group: GROUP,
        behaviour: "a relationship goes: the next datagram of a UDP flow",
        run: Run::InTurn(&[
            (two_services, "socket a udp4\nsendto a ? cache:5432\nrecvfrom a"),
            (|| db(&[1]), "sendto a ? cache:5432\nrecvfrom a"),
        ]),
        known: Some(Known {
            iptables: "recvfrom a = \"B2\" from cache:5432",
            vipnat: "recvfrom a = EAGAIN",
            why: "the datagram follows the table, in which the VIP is none any more; `udp-pinning = \"strict\"` does as iptables does",
        }),
    },
    Case {
        name: "udp-relationship-removed-strict",
        group: GROUP,
        behaviour: "the same where the service had `udp-pinning = \"strict\"`",
        run: Run::Steps(|container, record| {
            let strict = "udp-pinning = \"strict\"";
            container.apply(&(db_with(&[1], strict, "") + CACHE));
            let mut session = container.session();
            session.play("socket a udp4\nsendto a ? db:5432\nrecvfrom a", record);
            container.apply(CACHE);
            session.play("sendto a ? db:5432\nrecvfrom a", record);
        }),
        known: None,
    },
];
