//! Relationships that are limited to a port or a protocol.

use crate::{Case, db_with};

const GROUP: &str = "Limited relationships";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "port-limited",
        group: GROUP,
        behaviour: "a relationship with a port: that port is translated, on TCP and UDP",
        run: |container, record| {
            container.apply(&db_with(&[1, 2], "", "port = 5432"));
            container.session().play(
                "who tcp4 db:5432
                 reach udp4 db:5432
                 who tcp6 [::ffff:db]:5432
                 socket a udp4
                 sendto a ? db:5432
                 recvfrom a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "port-limited-other-port",
        group: GROUP,
        behaviour: "another port of it is not translated: as the route has it",
        run: |container, record| {
            container.apply(&db_with(&[1], "", "port = 5432"));
            container.session().play(
                "who tcp4 db:6380
                 socket a udp4
                 connect a db:6380
                 getpeername a
                 send a ?
                 poll a in
                 recv a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "protocol-limited",
        group: GROUP,
        behaviour: "a relationship for TCP alone: UDP is not translated",
        run: |container, record| {
            container.apply(&db_with(&[1], "", "protocol = \"tcp\""));
            container.session().play(
                "who tcp4 db:5432
                 socket a udp4
                 sendto a ? db:5432
                 recvfrom a
                 connect a db:5432
                 send a ?
                 poll a in
                 recv a",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "protocol-limited-udp",
        group: GROUP,
        behaviour: "a relationship for UDP alone: TCP is not translated",
        run: |container, record| {
            container.apply(&db_with(&[1], "", "protocol = \"udp\""));
            container.session().play(
                "who udp4 db:5432
                 who tcp4 db:5432
                 who mptcp4 db:5432",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "port-limited-and-changed",
        group: GROUP,
        behaviour: "a relationship with a port whose backends have others",
        run: |container, record| {
            let backends = "backends = [{ ip = \"247.221.81.1\", port = 6380 }, \"247.221.81.2\"]";
            let table = db_with(&[], "", "port = 5432").replace("backends = []", backends);
            container.apply(&table);
            container.session().play(
                "socket a tcp4
                 connect a db:5432
                 getpeername a
                 ask a
                 who tcp4 db:5432
                 socket u udp4
                 sendto u ? db:5432
                 recvfrom u
                 sendto u ? db:5432
                 recvfrom u
                 reach udp4 db:5432",
                record,
            );
        },
        known: None,
    },
    Case {
        name: "port-limited-and-changed-connected",
        group: GROUP,
        behaviour: "the same for UDP sockets that connect",
        run: |container, record| {
            let backends = "backends = [{ ip = \"247.221.81.1\", port = 6380 }, \"247.221.81.2\"]";
            let table = db_with(&[], "", "port = 5432").replace("backends = []", backends);
            container.apply(&table);
            container.session().play(
                "socket a udp4
                 connect a db:5432
                 getpeername a
                 ask a
                 who udp4 db:5432",
                record,
            );
        },
        known: None,
    },
];
