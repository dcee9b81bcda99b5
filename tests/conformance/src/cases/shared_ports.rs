//! UDP sockets that share a port. The kernel picks the socket that gets an answer.

use std::{
    thread,
    time::{Duration, Instant},
};

use vipnat_testkit::patient;

use crate::{Case, Container, Known, Record, Run, Session, tables::db};

const GROUP: &str = "Sockets that share a port";

/// The known difference of all these cases.
const KNOWN: Known = Known {
    iptables: "another socket hears \"B1\" from db:5432",
    vipnat: "another socket hears \"B1\" from backend1:5432",
    why: "the flow is noted in the socket that asked, and the hook of a receive knows the receiving one only; \
          a record that they share would cost every datagram of every server a lookup",
};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-reuseport-answer-to-another",
        group: GROUP,
        behaviour: "several `SO_REUSEPORT` sockets of one port, one of which asks: the kernel picks who hears the answer",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            // The kernel picks by addresses and ports, so not every port shows this.
            let heard = (4000..4100).find_map(|port| {
                asked_on(&mut session, port, "SO_REUSEPORT", ["app"; 4])
                    .filter(|(socket, _)| *socket != 0)
            });
            let (_, answer) = heard.expect("it is not always the one that asks");
            record.line(format!("another socket hears {answer}"));
        }),
        known: Some(KNOWN),
    },
    Case {
        name: "udp-reuseaddr-answer-to-another",
        group: GROUP,
        behaviour: "two `SO_REUSEADDR` sockets of one port: the newer one hears what the older one asked",
        run: Run::Steps(|container, record| {
            answer_to_the_last(container, record, ["app"; 2]);
        }),
        known: Some(KNOWN),
    },
    Case {
        name: "udp-wildcard-answer-to-another",
        group: GROUP,
        behaviour: "a socket of all addresses asks, and one of the container's address with its port hears the answer",
        run: Run::Steps(|container, record| {
            answer_to_the_last(container, record, ["0.0.0.0", "app"]);
        }),
        known: Some(KNOWN),
    },
    Case {
        name: "udp-shared-port-connected",
        group: GROUP,
        behaviour: "two sockets of one port, of which the second is connected to the VIP: it hears what the first asked",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             setsockopt a SO_REUSEADDR 1
             bind a app:4000
             socket b udp4
             setsockopt b SO_REUSEADDR 1
             bind b app:4000
             connect b db:5432
             sendto a ? db:5432
             recvfrom b
             recvfrom a MSG_DONTWAIT",
        ),
        known: None,
    },
];

/// The first of two sockets asks, and the second hears the answer.
fn answer_to_the_last(container: &Container, record: &mut Record, addresses: [&str; 2]) {
    container.apply(&db(&[1]));
    let heard = asked_on(&mut container.session(), 4000, "SO_REUSEADDR", addresses);
    let (socket, answer) = heard.expect("somebody hears it");
    record.line(format!("{} socket hears {answer}", if socket == 0 { "its" } else { "another" }));
}

/// Binds a socket to each address, with this port and option, and asks from the first. Returns the number of
/// the socket that hears the answer, and the answer; `None` if that takes too long.
fn asked_on<const N: usize>(
    session: &mut Session,
    port: u16,
    option: &str,
    addresses: [&str; N],
) -> Option<(usize, String)> {
    for (number, address) in addresses.iter().enumerate() {
        for operation in [
            format!("socket s{number} udp4"),
            format!("setsockopt s{number} {option} 1"),
            format!("bind s{number} {address}:{port}"),
        ] {
            assert_eq!(session.call(&operation), "0", "{operation}");
        }
    }
    assert_eq!(session.call("sendto s0 ? db:5432"), "1");
    let deadline = Instant::now() + patient(Duration::from_secs(2));
    let mut heard = None;
    while heard.is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
        heard = (0..N).find_map(|number| {
            let answer = session.call(&format!("recvfrom s{number} MSG_DONTWAIT"));
            (answer != "EAGAIN").then_some((number, answer))
        });
    }
    for number in 0..N {
        session.call(&format!("close s{number}"));
    }
    heard
}
