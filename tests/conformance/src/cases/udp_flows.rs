//! UDP: the datagrams that belong to one flow, and the answers that it accepts.

use crate::{
    Case, Container, Known, Record, Run,
    tables::{db, two_services},
};

const GROUP: &str = "UDP flows";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-flow-keeps-backend",
        group: GROUP,
        behaviour: "several datagrams of a socket to a VIP go to one backend",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp4
             sendto a ? db:5432
             recvfrom a
             sendto a ? db:5432
             recvfrom a
             sleep 2500
             sendto a ? db:5432
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-flow-of-each-socket",
        group: GROUP,
        behaviour: "two sockets are two flows, each with its backend",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp4
             socket b udp4
             sendto a ? db:5432
             sendto b ? db:5432
             sendto a ? db:5432
             recvfrom a
             recvfrom b
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-flow-of-each-port",
        group: GROUP,
        behaviour: "two ports of a VIP are two flows",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp4
             sendto a ? db:5432
             recvfrom a
             sendto a ? db:6380
             recvfrom a
             sendto a ? db:5432
             recvfrom a
             sendto a ? db:6380
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-flow-mixed-families",
        group: GROUP,
        behaviour: "the ways to name a VIP on one `AF_INET6` socket are one flow",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp6
             sendto a ? [::ffff:db]:5432
             recvfrom a
             sendto a ? db:5432
             recvfrom a
             connect a [::ffff:db]:5432
             ask a",
        ),
        known: None,
    },
    Case {
        name: "udp-several-replies",
        group: GROUP,
        behaviour: "several replies to one datagram, all from the VIP",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             sendto a \"times 3\" db:5432
             recvfrom a
             recvfrom a
             recvmsg a
             recvfrom a MSG_DONTWAIT",
        ),
        known: None,
    },
    Case {
        name: "udp-late-reply",
        group: GROUP,
        behaviour: "a reply that comes late, after other traffic",
        run: Run::Script(
            two_services,
            "socket a udp4
             sendto a \"later 1500\" db:5432
             sendto a ? cache:5432
             recvfrom a
             sendto a ? backend3:5432
             recvfrom a
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-reply-after-unspec",
        group: GROUP,
        behaviour: "a reply that comes after `connect(AF_UNSPEC)`, to a port of one's own",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             bind a app:4000
             connect a db:5432
             send a \"later 300\"
             connect a unspec
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-reply-after-connect-elsewhere",
        group: GROUP,
        behaviour: "a reply that comes when the socket is connected elsewhere is not received",
        run: Run::Script(
            two_services,
            "socket a udp4
             bind a app:4000
             connect a db:5432
             send a \"later 300\"
             connect a cache:5432
             ask a
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-reply-from-other-port",
        group: GROUP,
        behaviour: "a reply from another port of the backend shows where it came from",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             sendto a elsewhere db:5432
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-reply-from-other-port-connected",
        group: GROUP,
        behaviour: "the same on a connected socket is not received",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             connect a db:5432
             send a elsewhere
             recvfrom a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "udp-unasked",
        group: GROUP,
        behaviour: "a datagram of a backend that was not asked shows the backend",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let mut server = container.session_outside();
            let mut client = container.session();
            client.play("socket a udp4\nbind a app:4000\nsendto a ? db:5432\nrecvfrom a", record);
            server.play("socket s udp4\nbind s backend2:7000\nsendto s hello app:4000", record);
            client.play("recvfrom a", record);
        }),
        known: None,
    },
    Case {
        name: "udp-sixteen-flows",
        group: GROUP,
        behaviour: "a socket that has sent to 16 addresses: each flow keeps its backend",
        run: Run::Steps(|container, record| many_flows(container, record, 16)),
        known: None,
    },
    Case {
        name: "udp-seventeen-flows",
        group: GROUP,
        behaviour: "a socket that has sent to 17 addresses: the oldest flow",
        run: Run::Steps(|container, record| many_flows(container, record, 17)),
        known: Some(Known {
            iptables: "recvfrom a = \"B1\" from db:1",
            vipnat: "recvfrom a = \"B3\" from db:1",
            why: "vipnat keeps the last 16 flows of a socket; an older one starts anew, and is counted",
        }),
    },
];

/// Asks this number of ports of the VIP, one after the other, and then the first one again.
fn many_flows(container: &Container, record: &mut Record, count: u16) {
    container.apply(&fixed_ports());
    let mut session = container.session();
    session.play("socket a udp4", record);
    for port in 1..=count {
        session.call(&format!("sendto a ? db:{port}"));
        session.call("recvfrom a");
    }
    session.play("sendto a ? db:1\nrecvfrom a", record);
}

/// Three backends that answer on one port, for any port of the VIP.
fn fixed_ports() -> String {
    let mut table = db(&[1, 2, 3]);
    for number in 1..=3 {
        let address = format!("\"247.221.81.{number}\"");
        table = table.replace(&address, &format!("{{ ip = {address}, port = 5432 }}"));
    }
    table
}
