//! The table changes while connections and flows are there.

use super::setup::two_services;
use crate::{Case, Known, db, db_with};

const GROUP: &str = "Changes of the table";

/// Another service. A container whose last DNAT rule goes has no connection tracking any more unless
/// other rules need it, and what iptables had connected hangs: `last-relationship-removed`.
const CACHE: &str = "[services.cache]\nbackends = [\"247.221.81.2\"]\n\
                     [apps.app.relationships.cache]\nservice = \"cache\"\n";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "tcp-backend-moves",
        group: GROUP,
        behaviour: "a service moves: what is connected stays, new connections go to the new place",
        run: |container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play("socket a tcp4\nconnect a db:5432\nask a", record);
            container.apply(&db(&[2]));
            session.play("ask a\ngetpeername a\nwho tcp4 db:5432\nask a", record);
        },
        known: None,
    },
    Case {
        name: "tcp-backend-added",
        group: GROUP,
        behaviour: "a backend comes: what is connected stays; from then on all get new connections",
        run: |container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play("socket a tcp4\nconnect a db:5432\nask a", record);
            container.apply(&db(&[1, 2]));
            session.play("ask a\ngetpeername a\nmany tcp4 db:5432 1 10", record);
        },
        known: None,
    },
    Case {
        name: "tcp-backend-removed",
        group: GROUP,
        behaviour: "a backend goes: what is connected to it stays, it gets no new connections",
        run: |container, record| {
            container.apply(&db(&[1, 2]));
            let mut session = container.session();
            session.play("socket a tcp4\nconnect a db:5432\nask a", record);
            container.apply(&db(&[2]));
            session.play("ask a\ngetpeername a\nmany tcp4 db:5432 1 4", record);
        },
        known: None,
    },
    Case {
        name: "tcp-relationship-removed",
        group: GROUP,
        behaviour: "a relationship goes: what is connected stays, the VIP is none any more",
        run: |container, record| {
            container.apply(&two_services());
            let mut session = container.session();
            session.play("socket a tcp4\nconnect a cache:5432\nask a", record);
            container.apply(&db(&[1]));
            session.play("ask a\ngetpeername a\nwho tcp4 cache:5432\nask a", record);
        },
        known: None,
    },
    Case {
        name: "tcp-backends-come-and-go",
        group: GROUP,
        behaviour: "a service loses its last backend, and gets one again",
        run: |container, record| {
            container.apply(&(db(&[1]) + CACHE));
            let mut session = container.session();
            session.play("socket a tcp4\nconnect a db:5432", record);
            container.apply(&(db(&[]) + CACHE));
            session.play("socket b tcp4\nconnect b db:5432\nask a", record);
            container.apply(&(db(&[2]) + CACHE));
            session.play("connect b db:5432\ngetpeername b\nask b\nask a", record);
        },
        known: None,
    },
    Case {
        name: "last-relationship-removed",
        group: GROUP,
        behaviour: "the last relationship of a container goes: what is connected",
        run: |container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play("socket a tcp4\nconnect a db:5432\nask a", record);
            container.apply("");
            session.play("ask a", record);
        },
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
        run: |container, record| {
            container.apply(&db(&[1, 2]));
            let mut session = container.session();
            session.play("who tcp4 db:5432", record);
            container.apply(&(db(&[1, 2]) + "[apps.app.relationships.cache]\nservice = \"db\"\n"));
            session.play("who tcp4 db:5432", record);
        },
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
        run: |container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play("socket a udp4\nconnect a db:5432\nask a", record);
            container.apply(&db(&[2]));
            session.play("ask a\ngetpeername a\nwho udp4 db:5432\nask a", record);
        },
        known: None,
    },
    Case {
        name: "udp-backend-moves",
        group: GROUP,
        behaviour: "a service moves: the next datagram of an unconnected UDP flow",
        run: |container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play("socket a udp4\nsendto a ? db:5432\nrecvfrom a", record);
            container.apply(&db(&[2]));
            session.play("sendto a ? db:5432\nrecvfrom a", record);
        },
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
        run: |container, record| {
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
        },
        known: None,
    },
    Case {
        name: "udp-backend-added",
        group: GROUP,
        behaviour: "a backend comes: a UDP flow keeps the one it has",
        run: |container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play("socket a udp4\nsendto a ? db:5432\nrecvfrom a", record);
            container.apply(&db(&[2, 1]));
            session.play("sendto a ? db:5432\nrecvfrom a\nsendto a ? db:5432\nrecvfrom a", record);
        },
        known: None,
    },
    Case {
        name: "udp-late-reply-of-removed-backend",
        group: GROUP,
        behaviour: "a backend that has left the table answers late: the VIP as the source",
        run: |container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play("socket a udp4\nsendto a \"later 500\" db:5432", record);
            container.apply(&db(&[2]));
            session.play("recvfrom a", record);
        },
        known: None,
    },
    Case {
        name: "udp-relationship-removed",
        group: GROUP,
        behaviour: "a relationship goes: the next datagram of a UDP flow",
        run: |container, record| {
            container.apply(&two_services());
            let mut session = container.session();
            session.play("socket a udp4\nsendto a ? cache:5432\nrecvfrom a", record);
            container.apply(&db(&[1]));
            session.play("sendto a ? cache:5432\nrecvfrom a", record);
        },
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
        run: |container, record| {
            let strict = "udp-pinning = \"strict\"";
            container.apply(&(db_with(&[1], strict, "") + CACHE));
            let mut session = container.session();
            session.play("socket a udp4\nsendto a ? db:5432\nrecvfrom a", record);
            container.apply(CACHE);
            session.play("sendto a ? db:5432\nrecvfrom a", record);
        },
        known: None,
    },
];
