//! Relationships that are limited to a port or a protocol.

use crate::{
    Case, Run,
    tables::{db_of, db_with},
};

const GROUP: &str = "Limited relationships";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "port-limited",
        group: GROUP,
        behaviour: "a relationship with a port: that port is translated, on TCP and UDP",
        run: Run::Script(
            || db_with(&[1, 2], "", "port = 5432"),
            "who tcp4 db:5432
             reach udp4 db:5432
             who tcp6 [::ffff:db]:5432
             socket a udp4
             sendto a ? db:5432
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "port-limited-other-port",
        group: GROUP,
        behaviour: "another port of it is not translated: as the route has it",
        run: Run::Script(
            || db_with(&[1], "", "port = 5432"),
            "who tcp4 db:6380
             socket a udp4
             connect a db:6380
             getpeername a
             send a ?
             poll a in
             recv a",
        ),
        known: None,
    },
    Case {
        name: "protocol-limited",
        group: GROUP,
        behaviour: "a relationship for TCP alone: UDP is not translated",
        run: Run::Script(
            || db_with(&[1], "", "protocol = \"tcp\""),
            "who tcp4 db:5432
             socket a udp4
             sendto a ? db:5432
             recvfrom a
             connect a db:5432
             send a ?
             poll a in
             recv a",
        ),
        known: None,
    },
    Case {
        name: "protocol-limited-udp",
        group: GROUP,
        behaviour: "a relationship for UDP alone: TCP is not translated",
        run: Run::Script(
            || db_with(&[1], "", "protocol = \"udp\""),
            "who udp4 db:5432
             who tcp4 db:5432
             who mptcp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "port-limited-and-changed",
        group: GROUP,
        behaviour: "a relationship with a port whose backends have others",
        run: Run::Script(
            other_ports,
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
        ),
        known: None,
    },
    Case {
        name: "port-limited-and-changed-connected",
        group: GROUP,
        behaviour: "the same for UDP sockets that connect",
        run: Run::Script(
            other_ports,
            "socket a udp4
             connect a db:5432
             getpeername a
             ask a
             who udp4 db:5432",
        ),
        known: None,
    },
];

/// Backend 1 on a port of its own, and backend 2.
fn other_ports() -> String {
    let backends = "[{ ip = \"247.221.81.1\", port = 6380 }, \"247.221.81.2\"]";
    db_of(backends, "", "port = 5432")
}
