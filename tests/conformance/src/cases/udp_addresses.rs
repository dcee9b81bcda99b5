//! UDP: sockets that talk to several addresses, or to one address in several ways.

use crate::{
    Case, Known, Run,
    tables::{db, two_services, two_vips},
};

const GROUP: &str = "UDP with several addresses";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-many-addresses",
        group: GROUP,
        behaviour: "one socket, two VIPs and a direct address, each shown as it is",
        run: Run::Script(
            two_services,
            "socket a udp4
             sendto a ? db:5432
             recvfrom a
             sendto a ? cache:5432
             recvfrom a
             sendto a ? backend3:5432
             recvfrom a
             sendto a ? db:6380
             recvfrom a
             sendto a ? db:5432
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-vip-and-its-backend",
        group: GROUP,
        behaviour: "one socket that sends to a VIP and to that VIP's backend directly",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             sendto a ? backend1:5432
             recvfrom a
             sendto a ? db:5432
             recvfrom a
             sendto a ? backend1:5432
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-vip-then-its-backend",
        group: GROUP,
        behaviour: "the same in the other order",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             sendto a ? db:5432
             recvfrom a
             sendto a ? backend1:5432
             recvfrom a
             sendto a ? db:5432
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-two-vips-one-backend",
        group: GROUP,
        behaviour: "one socket, two VIPs that lead to the same backend",
        run: Run::Script(
            || two_vips(&[1]),
            "socket a udp4
             sendto a ? db:5432
             recvfrom a
             sendto a ? cache:5432
             recvfrom a
             sendto a ? db:5432
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-two-vips-one-backend-at-once",
        group: GROUP,
        behaviour: "one socket that asks two VIPs of one backend at once",
        run: Run::Script(
            || two_vips(&[1]),
            "socket a udp4
             sendto a \"later 300\" db:5432
             sendto a \"later 600\" cache:5432
             recvfrom a
             recvfrom a",
        ),
        known: Some(Known {
            iptables: "recvfrom a = \"B1 late\" from db:5432",
            vipnat: "recvfrom a = \"B1 late\" from cache:5432",
            why: "both flows have the same addresses and ports on the wire, where iptables changes the port of one; what was sent last counts",
        }),
    },
    Case {
        name: "udp-vip-and-its-backend-at-once",
        group: GROUP,
        behaviour: "one socket that asks a VIP and that VIP's backend directly at once",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             sendto a \"later 300\" db:5432
             sendto a \"later 600\" backend1:5432
             recvfrom a
             recvfrom a",
        ),
        known: Some(Known {
            iptables: "recvfrom a = \"B1 late\" from db:5432",
            vipnat: "recvfrom a = \"B1 late\" from backend1:5432",
            why: "both flows have the same addresses and ports on the wire; what was sent last counts",
        }),
    },
    Case {
        name: "udp-sendto-on-connected",
        group: GROUP,
        behaviour: "`sendto` on a connected socket: to the same VIP, another VIP, a direct address",
        run: Run::Script(
            two_services,
            "socket a udp4
             connect a db:5432
             ask a
             sendto a ? db:5432
             recvfrom a
             sendto a ? cache:5432
             recvfrom a
             sendto a ? backend3:5432
             recvfrom a
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "udp-sendto-backend-on-connected",
        group: GROUP,
        behaviour: "a connected socket sends to the address of the backend it is connected to",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             connect a db:5432
             ask a
             sendto a ? backend1:5432
             recvfrom a",
        ),
        known: Some(Known {
            iptables: "recvfrom a = EAGAIN",
            vipnat: "recvfrom a = \"B1\" from db:5432",
            why: "a socket takes what its peer sends; to the kernel the peer is the backend",
        }),
    },
    Case {
        name: "udp-sendto-vip-of-peer-on-connected",
        group: GROUP,
        behaviour: "sockets that are connected to a backend, itself and through a VIP, send to another VIP of it",
        run: Run::Steps(|container, record| {
            let cache = "[services.cache]\nbackends = [\"247.221.81.1\"]\n\
                         [apps.app.relationships.cache]\nservice = \"cache\"\n";
            container.apply(&(db(&[1]) + cache));
            container.session().play(
                "socket a udp4
                 connect a backend1:5432
                 sendto a ? db:5432
                 recvfrom a
                 socket b udp4
                 connect b db:5432
                 sendto b ? cache:5432
                 recvfrom b",
                record,
            );
        }),
        known: Some(Known {
            iptables: "recvfrom a = EAGAIN\nrecvfrom b = EAGAIN",
            vipnat: "recvfrom a = \"B1\" from backend1:5432\nrecvfrom b = \"B1\" from db:5432",
            why: "a socket takes what its peer sends; to the kernel the peer is the backend, and what the socket shows is its peer",
        }),
    },
    Case {
        name: "udp-error-of-peer-on-connected",
        group: GROUP,
        behaviour: "the same where that backend refuses: who hears the error",
        run: Run::Script(
            || db(&[8]),
            "socket a udp4
             connect a closed:5432
             sendto a ? db:5432
             recvfrom a",
        ),
        known: Some(Known {
            iptables: "recvfrom a = EAGAIN",
            vipnat: "recvfrom a = ECONNREFUSED",
            why: "an error of the peer's is the socket's; to the kernel the peer is the backend",
        }),
    },
    Case {
        name: "udp-sendto-same-vip-on-connected",
        group: GROUP,
        behaviour: "`sendto` to the VIP a socket is connected to: one flow, one backend",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp4
             connect a db:5432
             ask a
             sendto a ? db:5432
             recvfrom a
             ask a
             sendto a ? db:5432
             recvfrom a
             who udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-sendto-on-connected-mapped",
        group: GROUP,
        behaviour: "the same from an `AF_INET6` socket",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp6
             connect a [::ffff:db]:5432
             ask a
             sendto a ? [::ffff:db]:5432
             recvfrom a
             ask a
             who udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-sendto-then-connect",
        group: GROUP,
        behaviour: "a socket that sent to a VIP connects to it: one flow, one backend",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp4
             sendto a ? db:5432
             recvfrom a
             connect a db:5432
             ask a
             getpeername a
             reach udp4 db:5432",
        ),
        known: None,
    },
];
