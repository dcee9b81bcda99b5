//! Programs in Python, Node and Java. Their libraries make the sockets.

use super::client::{GROUP, has, run};
use crate::{Case, Container, DB, Record, Run, tables::db};

/// A program that asks the service, which has three backends, a few times.
fn ask(container: &Container, record: &mut Record, interpreter: &str, what: &str) {
    if has(record, &[interpreter]) {
        container.apply(&db(&[1, 2, 3]));
        run(container, record, interpreter, &format!("{what} {DB} 5432"));
    }
}

/// A program that asks the service. Its only backend refuses connections.
fn ask_in_vain(container: &Container, record: &mut Record, interpreter: &str, what: &str) {
    if has(record, &[interpreter]) {
        container.apply(&db(&[8]));
        run(container, record, interpreter, &format!("{what} {DB} 5432"));
    }
}

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "python-asyncio-streams",
        group: GROUP,
        behaviour: "Python's asyncio: streams take turns, their peer is the VIP",
        run: Run::Steps(|container, record| ask(container, record, "python3", "client.py streams")),
        known: None,
    },
    Case {
        name: "python-asyncio-connected",
        group: GROUP,
        behaviour: "Python's asyncio: connected datagram endpoints",
        run: Run::Steps(|container, record| {
            ask(container, record, "python3", "client.py connected");
        }),
        known: None,
    },
    Case {
        name: "python-asyncio-unconnected",
        group: GROUP,
        behaviour: "Python's asyncio: datagram endpoints that send to an address",
        run: Run::Steps(|container, record| {
            ask(container, record, "python3", "client.py unconnected");
        }),
        known: None,
    },
    Case {
        name: "python-sockets",
        group: GROUP,
        behaviour: "Python's sockets: create_connection, sendto and recvfrom, also with ::ffff:",
        run: Run::Steps(|container, record| ask(container, record, "python3", "client.py sockets")),
        known: None,
    },
    Case {
        name: "python-refused",
        group: GROUP,
        behaviour: "Python where nobody listens: the exceptions of a stream and of a datagram endpoint",
        run: Run::Steps(|container, record| {
            ask_in_vain(container, record, "python3", "client.py refused");
        }),
        known: None,
    },
    Case {
        name: "node-streams",
        group: GROUP,
        behaviour: "Node: net.connect, remoteAddress is the VIP",
        run: Run::Steps(|container, record| ask(container, record, "node", "client.mjs streams")),
        known: None,
    },
    Case {
        name: "node-connected",
        group: GROUP,
        behaviour: "Node: connected dgram sockets",
        run: Run::Steps(|container, record| ask(container, record, "node", "client.mjs connected")),
        known: None,
    },
    Case {
        name: "node-unconnected",
        group: GROUP,
        behaviour: "Node: dgram sockets that send to an address",
        run: Run::Steps(|container, record| {
            ask(container, record, "node", "client.mjs unconnected");
        }),
        known: None,
    },
    Case {
        name: "node-connected-mapped",
        group: GROUP,
        behaviour: "Node: connected dgram sockets of type udp6, to ::ffff:",
        run: Run::Steps(|container, record| {
            ask(container, record, "node", "client.mjs connected6");
        }),
        known: None,
    },
    Case {
        name: "node-unconnected-mapped",
        group: GROUP,
        behaviour: "Node: dgram sockets of type udp6 that send to ::ffff:",
        run: Run::Steps(|container, record| {
            ask(container, record, "node", "client.mjs unconnected6");
        }),
        known: None,
    },
    Case {
        name: "node-refused",
        group: GROUP,
        behaviour: "Node where nobody listens: the errors of net and dgram",
        run: Run::Steps(|container, record| {
            ask_in_vain(container, record, "node", "client.mjs refused");
        }),
        known: None,
    },
    Case {
        name: "java-streams",
        group: GROUP,
        behaviour: "Java: Socket and SocketChannel, which are ::ffff: sockets",
        run: Run::Steps(|container, record| ask(container, record, "java", "Client.java streams")),
        known: None,
    },
    Case {
        name: "java-connected",
        group: GROUP,
        behaviour: "Java: connected DatagramSocket",
        run: Run::Steps(|container, record| {
            ask(container, record, "java", "Client.java connected");
        }),
        known: None,
    },
    Case {
        name: "java-reconnected",
        group: GROUP,
        behaviour: "Java: one DatagramSocket that connects, disconnects and connects again",
        run: Run::Steps(|container, record| {
            ask(container, record, "java", "Client.java reconnected");
        }),
        known: None,
    },
    Case {
        name: "java-unconnected",
        group: GROUP,
        behaviour: "Java: DatagramSocket that sends to an address",
        run: Run::Steps(|container, record| {
            ask(container, record, "java", "Client.java unconnected");
        }),
        known: None,
    },
    Case {
        name: "java-channels",
        group: GROUP,
        behaviour: "Java: DatagramChannel of both families",
        run: Run::Steps(|container, record| ask(container, record, "java", "Client.java channels")),
        known: None,
    },
    Case {
        name: "java-connected-channels",
        group: GROUP,
        behaviour: "the same, connected",
        run: Run::Steps(|container, record| {
            ask(container, record, "java", "Client.java connected-channels");
        }),
        known: None,
    },
    Case {
        name: "java-refused",
        group: GROUP,
        behaviour: "Java where nobody listens: the exceptions of Socket, SocketChannel, DatagramSocket",
        run: Run::Steps(|container, record| {
            ask_in_vain(container, record, "java", "Client.java refused");
        }),
        known: None,
    },
];
