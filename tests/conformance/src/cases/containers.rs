//! Processes, cgroups and servers of the container.

use std::net::SocketAddrV4;

use vipnat_testkit::outcome;

use super::sidecar::play_beside_sidecar;
use crate::{
    APP, Case, Container, Known, Record, Run,
    tables::{db, db_of, db_with},
};

const GROUP: &str = "The container";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "second-process",
        group: GROUP,
        behaviour: "two processes of a container take turns with each other",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1, 2, 3]));
            let (mut one, mut two) = (container.session(), container.session());
            for _ in 0..3 {
                one.play("who tcp4 db:5432", record);
                two.play("who tcp4 db:5432", record);
            }
        }),
        known: None,
    },
    Case {
        name: "child-cgroup",
        group: GROUP,
        behaviour: "a process in a cgroup below the container's",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1, 2]));
            let child = container.app().cgroup.child("child");
            let mut session = container.session_below(&child);
            session.play(
                "socket a tcp4
                 connect a db:5432
                 getpeername a
                 ask a
                 reach udp4 db:5432",
                record,
            );
            container.session().play("who tcp4 db:5432", record);
        }),
        known: None,
    },
    Case {
        name: "server-sees-true-peers",
        group: GROUP,
        behaviour: "a server in the container accepts from outside: the peer as it is",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let mut server = container.session();
            let mut client = container.session_outside();
            server.play(
                "socket l tcp4
                 bind l 0.0.0.0:80
                 listen l
                 socket o tcp4
                 connect o db:5432
                 getpeername o",
                record,
            );
            client.play(
                "socket a tcp4\nbind a backend1:4000\nconnect a app:80\ngetpeername a",
                record,
            );
            server.play("accept l c\ngetpeername c\ngetsockname c\nsend c hello", record);
            client.play("recv a\nsend a world", record);
            server.play("recv c\ngetpeername c", record);
        }),
        known: None,
    },
    Case {
        name: "udp-server-sees-true-peers",
        group: GROUP,
        behaviour: "a UDP server in the container, asked by an address that is also a backend",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let mut server = container.session();
            let mut client = container.session_outside();
            server.play("socket s udp4\nbind s app:53", record);
            client.play("socket a udp4\nbind a backend1:4000\nconnect a app:53\nsend a hi", record);
            server.play("recvfrom s\nsendto s hello backend1:4000", record);
            client.play("recvfrom a", record);
            // The same socket also sends to the VIP.
            server.play("sendto s ? db:5432\nrecvfrom s", record);
            client.play("send a more", record);
            server.play("recvfrom s\nsendto s done backend1:4000", record);
            client.play("recvfrom a", record);
        }),
        known: None,
    },
    Case {
        name: "from-outside",
        group: GROUP,
        behaviour: "another host that asks for the VIP is not translated",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            container.session_outside().play("who tcp4 db:5432", record);
            container.session().play("who tcp4 db:5432", record);
        }),
        known: None,
    },
    Case {
        name: "hairpin-tcp",
        group: GROUP,
        behaviour: "a backend that is the container itself",
        run: Run::Steps(|container, record| {
            play_hairpin(
                container,
                record,
                "socket a tcp4
                 connect a db:5432
                 getpeername a
                 getsockname a
                 send a source
                 recv a
                 who tcp6 [::ffff:db]:5432",
            );
        }),
        known: None,
    },
    Case {
        name: "hairpin-udp",
        group: GROUP,
        behaviour: "the same with UDP, connected and not",
        run: Run::Steps(|container, record| {
            play_hairpin(
                container,
                record,
                "socket a udp4
                 connect a db:5432
                 getpeername a
                 getsockname a
                 send a source
                 recvfrom a
                 socket b udp4
                 sendto b source db:5432
                 recvfrom b",
            );
        }),
        known: None,
    },
    Case {
        name: "loopback-backend-tcp",
        group: GROUP,
        behaviour: "a backend on 127.0.0.1, such as a sidecar",
        run: Run::Steps(|container, record| {
            play_beside_sidecar(
                container,
                record,
                &db_of(LOOPBACK, "", ""),
                "socket a tcp4
                 connect a db:5432
                 getpeername a
                 getsockname a
                 send a source
                 recv a",
            );
        }),
        known: Some(Known {
            iptables: "getsockname a = app:*\nrecv a = \"sidecar sees app:*\"",
            vipnat: "getsockname a = 127.0.0.1:*\nrecv a = \"sidecar sees 127.0.0.1:*\"",
            why: "the socket is connected to the backend itself, so the kernel picks the source that fits it",
        }),
    },
    Case {
        name: "loopback-backend-udp",
        group: GROUP,
        behaviour: "a backend on 127.0.0.1, with UDP, connected and not",
        run: Run::Steps(|container, record| {
            play_beside_sidecar(
                container,
                record,
                &db_of(LOOPBACK, "", ""),
                "socket a udp4
                 connect a db:5432
                 getpeername a
                 getsockname a
                 send a source
                 recvfrom a
                 socket b udp4
                 sendto b source db:5432
                 recvfrom b",
            );
        }),
        known: Some(Known {
            iptables: "getsockname a = app:*\nrecvfrom a = \"sidecar sees app:*\" from db:5432\nrecvfrom b = \"sidecar sees app:*\" from db:5432",
            vipnat: "getsockname a = 127.0.0.1:*\nrecvfrom a = \"sidecar sees 127.0.0.1:*\" from db:5432\nrecvfrom b = \"sidecar sees 127.0.0.1:*\" from db:5432",
            why: "the socket is connected to the backend itself, so the kernel picks the source that fits it",
        }),
    },
    Case {
        name: "explicit-vip",
        group: GROUP,
        behaviour: "a relationship with a VIP of its own, also the last address of the range",
        run: Run::Script(
            || db_with(&[1], "", "vip = \"169.254.254.255\""),
            "socket a tcp4
             connect a 169.254.254.255:5432
             getpeername a
             ask a",
        ),
        known: None,
    },
    Case {
        name: "ss",
        group: GROUP,
        behaviour: "`ss` inside the container: the peers of connected sockets",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play("socket a tcp4\nconnect a db:5432", record);
            let listed = outcome(container.app().command("ss").args(["-Htn"]));
            for line in listed.stdout.lines() {
                // The columns: state, two queues, then the addresses.
                record.line(format!("peer {}", line.split_whitespace().nth(4).expect("a peer")));
            }
        }),
        known: Some(Known {
            iptables: "peer 169.254.37.209:5432",
            vipnat: "peer 247.221.81.1:5432",
            why: "no hook sees what `ss` and /proc/net show",
        }),
    },
    Case {
        name: "nothing-in-the-table",
        group: GROUP,
        behaviour: "an app without relationships",
        run: Run::Steps(|container, record| {
            container.apply("");
            play_nothing(container, record);
            container.play(&db(&[1]), "who tcp4 db:5432", record);
            container.apply("");
            play_nothing(container, record);
        }),
        known: None,
    },
];

const LOOPBACK: &str = "[\"127.0.0.1\"]";

fn play_nothing(container: &Container, record: &mut Record) {
    container.session().play("who tcp4 db:5432\nwho tcp4 backend1:5432", record);
}

/// Plays a script. The only backend of `db` is the container itself.
fn play_hairpin(container: &Container, record: &mut Record, script: &str) {
    let _server = container.serve_inside(&[("inside", SocketAddrV4::new(APP, 5432))]);
    container.play(&db_of(&format!("[\"{APP}\"]"), "", ""), script, record);
}
