//! Values that sockets show about their connection, and that depend on its real destination.

use vipnat_testkit::bpf::Redirector;

use super::unreached::trace;
use crate::{
    Case, Known, Run,
    tables::{backend, db, db_with},
};

const GROUP: &str = "What a socket is told";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "so-original-dst",
        group: GROUP,
        behaviour: "`SO_ORIGINAL_DST`, which asks connection tracking",
        run: Run::Script(|| db(&[1]), "socket a tcp4\nconnect a db:5432\nSO_ORIGINAL_DST a"),
        known: Some(Known {
            iptables: "SO_ORIGINAL_DST a = db:5432",
            vipnat: "SO_ORIGINAL_DST a = ENOENT",
            why: "nothing was translated on the way, and nothing is tracked; `getpeername` shows the VIP",
        }),
    },
    Case {
        name: "udp-recvorigdstaddr",
        group: GROUP,
        behaviour: "`IP_RECVORIGDSTADDR` on a socket that asked the VIP",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             setsockopt a IP_RECVORIGDSTADDR 1
             sendto a ? db:5432
             recvmsg a
             connect a db:5432
             send a ?
             recvmsg a",
        ),
        known: None,
    },
    Case {
        name: "source-by-route",
        group: GROUP,
        behaviour: "routes that give the backend another source address than the VIP",
        run: Run::Steps(|container, record| {
            let second = "247.221.80.11";
            container.app().host.ip(&format!(
                "address add {second}/32 dev eth0\nroute add {}/32 dev eth0 src {second}",
                backend(1)
            ));
            container.play(
                &db(&[1]),
                "socket a tcp4
                 connect a db:5432
                 getsockname a
                 send a source
                 recv a
                 socket b udp4
                 sendto b source db:5432
                 recvfrom b",
                record,
            );
        }),
        known: Some(Known {
            iptables: "getsockname a = app:*\nrecv a = \"B1 sees app:*\"\nrecvfrom b = \"B1 sees app:*\" from db:5432",
            vipnat: "getsockname a = second:*\nrecv a = \"B1 sees second:*\"\nrecvfrom b = \"B1 sees second:*\" from db:5432",
            why: "the socket is connected to the backend itself, so the backend's route counts, not the VIP's",
        }),
    },
    Case {
        name: "mtu-by-route",
        group: GROUP,
        behaviour: "`IP_MTU` where the backend's route has a smaller one than the VIP's",
        run: Run::Steps(|container, record| {
            container.app().host.ip(&format!("route add {}/32 dev eth0 mtu 1300", backend(1)));
            container.play(
                &db(&[1]),
                "socket a udp4
                 connect a db:5432
                 IP_MTU a
                 who tcp4 db:5432",
                record,
            );
        }),
        known: Some(Known {
            iptables: "IP_MTU a = 1500",
            vipnat: "IP_MTU a = 1300",
            why: "the backend's route counts, so a socket knows before it sends what fits",
        }),
    },
    Case {
        name: "traceroute-udp",
        group: GROUP,
        behaviour: "`traceroute`, which connects UDP sockets: who the last hop is",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            trace(container, record, &[]);
        }),
        known: Some(Known {
            iptables: "1 db",
            vipnat: "1 backend1",
            why: "it reads the socket error queue, which no hook sees",
        }),
    },
    Case {
        name: "redirected-again",
        group: GROUP,
        behaviour: "another program on the hooks leads what goes to the backend elsewhere",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let cgroup = container.app().cgroup.path();
            let _redirector = Redirector::attach(cgroup, backend(1), backend(2))
                .expect("attach a redirector behind vipnat");
            container.session().play(
                "socket a tcp4
                 connect a db:5432
                 getpeername a
                 ask a",
                record,
            );
        }),
        known: Some(Known {
            iptables: "getpeername a = db:5432\nask a = \"B1\"",
            vipnat: "getpeername a = backend2:5432\nask a = \"B2\"",
            why: "it runs after vipnat, and sees the backend; a peer that vipnat did not choose is shown as it is",
        }),
    },
    Case {
        name: "udp-sends-after-kill",
        group: GROUP,
        behaviour: "a connected UDP socket that only sends, after `kill` ended it",
        run: Run::Steps(|container, record| {
            let kill = |backend| db_with(&[backend], "on-backend-removed = \"kill\"", "");
            container.apply(&kill(1));
            let mut session = container.session();
            session.play("socket a udp4\nconnect a db:5432\nsend a quiet", record);
            container.apply(&kill(2));
            session.play(
                "send a quiet\nsend a quiet\nSO_ERROR a\nsend a quiet\nconnect a db:5432\nask a",
                record,
            );
        }),
        known: Some(Known {
            iptables: "send a quiet = 5\nsend a quiet = 5\nSO_ERROR a = 0\nsend a quiet = 5\nask a = \"B1\"",
            vipnat: "send a quiet = EDESTADDRREQ\nsend a quiet = EDESTADDRREQ\nSO_ERROR a = ECONNABORTED\nsend a quiet = EDESTADDRREQ\nask a = \"B2\"",
            why: "the kernel takes its peer away, and tells a receive or `SO_ERROR` why; to go on it must connect again",
        }),
    },
];
