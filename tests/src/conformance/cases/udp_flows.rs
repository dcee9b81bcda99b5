//! UDP: which datagrams are one flow, and what may answer it.

use super::play;
use crate::conformance::Case;

const GROUP: &str = "UDP flows";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-flow-keeps-backend",
        group: GROUP,
        behaviour: "several datagrams of a socket to a VIP go to one backend",
        run: |container, record| {
            play(
                container,
                record,
                &[1, 2, 3],
                "socket a udp4
                 sendto a ? db:5432
                 recvfrom a
                 sendto a ? db:5432
                 recvfrom a
                 sleep 2500
                 sendto a ? db:5432
                 recvfrom a",
            );
        },
        known: None,
    },
    Case {
        name: "udp-flow-of-each-socket",
        group: GROUP,
        behaviour: "two sockets are two flows, each with its backend",
        run: |container, record| {
            play(
                container,
                record,
                &[1, 2, 3],
                "socket a udp4
                 socket b udp4
                 sendto a ? db:5432
                 sendto b ? db:5432
                 sendto a ? db:5432
                 recvfrom a
                 recvfrom b
                 recvfrom a",
            );
        },
        known: None,
    },
    Case {
        name: "udp-flow-of-each-port",
        group: GROUP,
        behaviour: "two ports of a VIP are two flows",
        run: |container, record| {
            play(
                container,
                record,
                &[1, 2, 3],
                "socket a udp4
                 sendto a ? db:5432
                 recvfrom a
                 sendto a ? db:6380
                 recvfrom a
                 sendto a ? db:5432
                 recvfrom a
                 sendto a ? db:6380
                 recvfrom a",
            );
        },
        known: None,
    },
    Case {
        name: "udp-flow-mixed-families",
        group: GROUP,
        behaviour: "the ways to name a VIP on one `AF_INET6` socket are one flow",
        run: |container, record| {
            play(
                container,
                record,
                &[1, 2, 3],
                "socket a udp6
                 sendto a ? [::ffff:db]:5432
                 recvfrom a
                 sendto a ? db:5432
                 recvfrom a
                 connect a [::ffff:db]:5432
                 ask a",
            );
        },
        known: None,
    },
    Case {
        name: "udp-several-replies",
        group: GROUP,
        behaviour: "several replies to one datagram, all from the VIP",
        run: |container, record| {
            play(
                container,
                record,
                &[1, 2],
                "socket a udp4
                 sendto a \"times 3\" db:5432
                 recvfrom a
                 recvfrom a
                 recvmsg a
                 recvfrom a MSG_DONTWAIT",
            );
        },
        known: None,
    },
    Case {
        name: "udp-late-reply",
        group: GROUP,
        behaviour: "a reply that comes late, after other traffic",
        run: |container, record| {
            container.apply(&super::two_services());
            container.session().play(
                "socket a udp4
                 sendto a \"later 1500\" db:5432
                 sendto a ? cache:5432
                 recvfrom a
                 sendto a ? backend3:5432
                 recvfrom a
                 recvfrom a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "udp-reply-after-unspec",
        group: GROUP,
        behaviour: "a reply that comes after `connect(AF_UNSPEC)`, to a port of one's own",
        run: |container, record| {
            play(
                container,
                record,
                &[1],
                "socket a udp4
                 bind a app:4000
                 connect a db:5432
                 send a \"later 300\"
                 connect a unspec
                 recvfrom a",
            );
        },
        known: None,
    },
    Case {
        name: "udp-reply-after-connect-elsewhere",
        group: GROUP,
        behaviour: "a reply that comes when the socket is connected elsewhere is not received",
        run: |container, record| {
            container.apply(&super::two_services());
            container.session().play(
                "socket a udp4
                 bind a app:4000
                 connect a db:5432
                 send a \"later 300\"
                 connect a cache:5432
                 ask a
                 recvfrom a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "udp-reply-from-other-port",
        group: GROUP,
        behaviour: "a reply from another port of the backend shows where it came from",
        run: |container, record| {
            play(
                container,
                record,
                &[1],
                "socket a udp4
                 sendto a elsewhere db:5432
                 recvfrom a",
            );
        },
        known: None,
    },
    Case {
        name: "udp-reply-from-other-port-connected",
        group: GROUP,
        behaviour: "the same on a connected socket is not received",
        run: |container, record| {
            play(
                container,
                record,
                &[1],
                "socket a udp4
                 connect a db:5432
                 send a elsewhere
                 recvfrom a
                 ask a",
            );
        },
        known: None,
    },
    Case {
        name: "udp-unasked",
        group: GROUP,
        behaviour: "a datagram of a backend that was not asked shows the backend",
        run: |container, record| {
            container.apply(&crate::conformance::db(&[1]));
            let mut server = container.session_outside();
            let mut client = container.session();
            client.play("socket a udp4\nbind a app:4000\nsendto a ? db:5432\nrecvfrom a", record);
            server.play("socket s udp4\nbind s backend2:7000\nsendto s hello app:4000", record);
            client.play("recvfrom a", record);
        },
        known: None,
    },
    Case {
        name: "udp-many-flows",
        group: GROUP,
        behaviour: "one socket with forty flows: each keeps its backend",
        run: |container, record| {
            container.apply(
                &crate::conformance::db_with(&[1, 2, 3], "", "")
                    .replace("\"247.221.81.1\"", "{ ip = \"247.221.81.1\", port = 5432 }")
                    .replace("\"247.221.81.2\"", "{ ip = \"247.221.81.2\", port = 5432 }")
                    .replace("\"247.221.81.3\"", "{ ip = \"247.221.81.3\", port = 5432 }"),
            );
            let mut session = container.session();
            session.play("socket a udp4", record);
            for _ in 0..2 {
                for port in 1..=40 {
                    session.play(&format!("sendto a ? db:{port}\nrecvfrom a"), record);
                }
            }
        },
        known: None,
    },
];
