//! Several VIPs, or ports of a VIP, that lead to one address and port; and one VIP that leads to several.
//!
//! Two addresses and two ports identify a connection. On the container's side, one of them is the VIP with
//! iptables, and the backend with vipnat.

use std::fs;

use crate::{
    Case, Container, Known, Run,
    tables::{OTHER_PORT, db, db_of, two_services, two_vips},
};

const GROUP: &str = "Several VIPs of one backend";

/// Leaves the kernel four local ports to pick from.
fn four_ports(container: &Container) {
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    container.app().host.run(|| fs::write(range, "40000 40003")).expect("write a port range");
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "two-vips-one-port-of-ones-own",
        group: GROUP,
        behaviour: "two TCP sockets with one local port connect to two VIPs of one backend",
        run: Run::Script(
            || two_vips(&[1]),
            "socket a tcp4
             setsockopt a SO_REUSEADDR 1
             bind a app:4000
             connect a db:5432
             socket b tcp4
             setsockopt b SO_REUSEADDR 1
             bind b app:4000
             connect b cache:5432
             ask a",
        ),
        known: Some(Known {
            iptables: "connect b cache:5432 = 0",
            vipnat: "connect b cache:5432 = EADDRNOTAVAIL",
            why: "the kernel has this connection already: both go from one port to one backend",
        }),
    },
    Case {
        name: "two-ports-one-port-of-ones-own",
        group: GROUP,
        behaviour: "the same with two ports of a VIP whose backend has a port of its own",
        run: Run::Script(
            || db_of(OTHER_PORT, "", ""),
            "socket a tcp4
             setsockopt a SO_REUSEADDR 1
             bind a app:4000
             connect a db:5432
             socket b tcp4
             setsockopt b SO_REUSEADDR 1
             bind b app:4000
             connect b db:6380
             ask a",
        ),
        known: Some(Known {
            iptables: "connect b db:6380 = 0",
            vipnat: "connect b db:6380 = EADDRNOTAVAIL",
            why: "the kernel has this connection already: both go from one port to one backend",
        }),
    },
    Case {
        name: "two-vips-few-ports",
        group: GROUP,
        behaviour: "four local ports, four connections to a VIP, then one to another VIP of its backend",
        run: Run::Steps(|container, record| {
            container.apply(&two_vips(&[1]));
            four_ports(container);
            let mut session = container.session();
            for socket in ["a", "b", "c", "d"] {
                session.play(&format!("socket {socket} tcp4\nconnect {socket} db:5432"), record);
            }
            session.play("socket e tcp4\nconnect e cache:5432\nask d", record);
        }),
        known: Some(Known {
            iptables: "connect e cache:5432 = 0",
            vipnat: "connect e cache:5432 = EADDRNOTAVAIL",
            why: "local ports are used up for each backend and port, however many VIPs lead there",
        }),
    },
    Case {
        name: "several-backends-few-ports",
        group: GROUP,
        behaviour: "four local ports, and five connections to a VIP of two backends",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1, 2]));
            four_ports(container);
            let mut session = container.session();
            for socket in ["a", "b", "c", "d", "e"] {
                session.play(&format!("socket {socket} tcp4\nconnect {socket} db:5432"), record);
            }
            session.play("ask d", record);
        }),
        known: Some(Known {
            iptables: "connect e db:5432 = EADDRNOTAVAIL",
            vipnat: "connect e db:5432 = 0",
            why: "each backend has all local ports, where iptables has them once for the VIP",
        }),
    },
    Case {
        name: "two-vips-udp-reuseport",
        group: GROUP,
        behaviour: "two UDP sockets with `SO_REUSEPORT` and one port connect to two VIPs of one backend",
        run: Run::Script(
            || two_vips(&[1]),
            "socket a udp4
             setsockopt a SO_REUSEPORT 1
             bind a app:4000
             connect a db:5432
             socket b udp4
             setsockopt b SO_REUSEPORT 1
             bind b app:4000
             connect b cache:5432
             send a \"times 2\"
             sleep 150
             recv a MSG_DONTWAIT
             recv b MSG_DONTWAIT",
        ),
        known: Some(Known {
            iptables: "recv a MSG_DONTWAIT = \"B1 1\"\nrecv b MSG_DONTWAIT = EAGAIN",
            vipnat: "recv a MSG_DONTWAIT = EAGAIN\nrecv b MSG_DONTWAIT = \"B1 1\"",
            why: "both sockets have one port and one peer, so the kernel gives all answers to one of them",
        }),
    },
    Case {
        name: "two-vips-two-backends",
        group: GROUP,
        behaviour: "all of this with two VIPs that have backends of their own",
        run: Run::Script(
            two_services,
            "socket a tcp4
             setsockopt a SO_REUSEADDR 1
             bind a app:4000
             connect a db:5432
             socket b tcp4
             setsockopt b SO_REUSEADDR 1
             bind b app:4000
             connect b cache:5432
             ask a
             ask b
             socket c udp4
             setsockopt c SO_REUSEPORT 1
             bind c app:4000
             connect c db:5432
             socket d udp4
             setsockopt d SO_REUSEPORT 1
             bind d app:4000
             connect d cache:5432
             ask c
             ask d",
        ),
        known: None,
    },
];
