//! Failures with UDP, and their errors.

use crate::{Case, Known, Run, tables::db};

const GROUP: &str = "Errors";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-no-backend",
        group: GROUP,
        behaviour: "UDP connect to a VIP without backends, and send",
        run: Run::Script(
            || db(&[]),
            "socket a udp4
             connect a db:5432
             send a ?
             recv a",
        ),
        known: Some(Known {
            iptables: "connect a db:5432 = 0\nsend a ? = EPERM",
            vipnat: "connect a db:5432 = EHOSTUNREACH\nsend a ? = EDESTADDRREQ",
            why: "a rejected datagram gives EPERM, which says nothing of the reason; vipnat says it at connect",
        }),
    },
    Case {
        name: "udp-no-backend-sendto",
        group: GROUP,
        behaviour: "UDP sendto to a VIP without backends",
        run: Run::Script(
            || db(&[]),
            "socket a udp4
             sendto a ? db:5432
             SO_ERROR a
             sendto a ? backend1:5432
             recvfrom a",
        ),
        known: Some(Known {
            iptables: "sendto a ? db:5432 = EPERM",
            vipnat: "sendto a ? db:5432 = EHOSTUNREACH",
            why: "a rejected datagram gives EPERM, which says nothing of the reason",
        }),
    },
    Case {
        name: "udp-refused",
        group: GROUP,
        behaviour: "a connected UDP socket whose backend does not listen: ECONNREFUSED",
        run: Run::Script(
            || db(&[8]),
            "socket a udp4
             connect a db:5432
             send a ?
             poll a in
             recv a
             send a ?
             sleep 100
             send a ?
             getpeername a",
        ),
        known: None,
    },
    Case {
        name: "udp-refused-unconnected",
        group: GROUP,
        behaviour: "an unconnected UDP socket hears nothing of a refusal",
        run: Run::Script(
            || db(&[8]),
            "socket a udp4
             sendto a ? db:5432
             recvfrom a
             SO_ERROR a",
        ),
        known: None,
    },
    Case {
        name: "udp-unreachable",
        group: GROUP,
        behaviour: "a connected UDP socket whose backend's host is gone",
        run: Run::Script(
            || db(&[9]),
            "socket a udp4
             connect a db:5432
             send a ?
             poll a in
             recv a
             getpeername a",
        ),
        known: None,
    },
    Case {
        name: "udp-error-queue",
        group: GROUP,
        behaviour: "`IP_RECVERR`: whom the error queue names for a refused datagram",
        run: Run::Script(
            || db(&[8]),
            "socket a udp4
             setsockopt a IP_RECVERR 1
             connect a db:5432
             send a ?
             poll a in
             recv a
             recvmsg a MSG_ERRQUEUE",
        ),
        known: Some(Known {
            iptables: "recvmsg a MSG_ERRQUEUE = \"?\" from db:5432, error ECONNREFUSED",
            vipnat: "recvmsg a MSG_ERRQUEUE = \"?\" from closed:5432, error ECONNREFUSED",
            why: "no hook sees the error queue; the errors themselves are the same",
        }),
    },
    Case {
        name: "udp-error-queue-unconnected",
        group: GROUP,
        behaviour: "the same for an unconnected socket: whom the error queue names",
        run: Run::Script(
            || db(&[8]),
            "socket a udp4
             setsockopt a IP_RECVERR 1
             sendto a ? db:5432
             poll a in
             recvfrom a
             recvmsg a MSG_ERRQUEUE",
        ),
        known: Some(Known {
            iptables: "recvmsg a MSG_ERRQUEUE = \"?\" from db:5432, error ECONNREFUSED",
            vipnat: "recvmsg a MSG_ERRQUEUE = \"?\" from closed:5432, error ECONNREFUSED",
            why: "no hook sees the error queue; the errors themselves are the same",
        }),
    },
];
