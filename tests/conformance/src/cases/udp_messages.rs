//! UDP: flags, options and sizes of messages.

use crate::{Case, Run, tables::db};

const GROUP: &str = "UDP messages";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-msg-more",
        group: GROUP,
        behaviour: "`MSG_MORE` and `UDP_CORK`: parts become one datagram of one flow",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             sendto a x*50 db:5432 MSG_MORE
             sendto a x*50 db:5432
             recvfrom a
             reach udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-msg-more-connected",
        group: GROUP,
        behaviour: "the same on a connected socket",
        run: Run::Script(
            || db(&[1, 2]),
            "socket b udp4
             connect b db:5432
             send b x*50 MSG_MORE
             send b x*50 MSG_MORE
             send b x*50
             recvfrom b
             setsockopt b UDP_CORK 1
             send b x*40
             send b x*40
             setsockopt b UDP_CORK 0
             recvfrom b
             who udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-gso",
        group: GROUP,
        behaviour: "`UDP_SEGMENT`: one send, several datagrams, one flow",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             sendmsg a x*250 db:5432 segment=100
             sleep 200
             recvmsg a
             recvmsg a
             recvmsg a
             reach udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-gso-connected",
        group: GROUP,
        behaviour: "the same on a connected socket",
        run: Run::Script(
            || db(&[1, 2]),
            "socket b udp4
             setsockopt b UDP_SEGMENT 100
             connect b db:5432
             send b x*300
             sleep 200
             recvmmsg b 3
             who udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-gso-mapped",
        group: GROUP,
        behaviour: "the same from an `AF_INET6` socket",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp6
             sendmsg a x*300 [::ffff:db]:5432 segment=100
             sleep 200
             recvmmsg a 3
             reach udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-pktinfo-send",
        group: GROUP,
        behaviour: "`IP_PKTINFO` on send picks the source address",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             sendmsg a source db:5432 pktinfo=app
             recvfrom a
             socket b udp4
             connect b db:5432
             sendmsg b source - pktinfo=app
             recvfrom b",
        ),
        known: None,
    },
    Case {
        name: "udp-pktinfo-receive",
        group: GROUP,
        behaviour: "`IP_PKTINFO` on receive shows the container's address",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             setsockopt a IP_PKTINFO 1
             sendto a ? db:5432
             recvmsg a
             connect a db:5432
             send a ?
             recvmsg a",
        ),
        known: None,
    },
    Case {
        name: "udp-ttl-on-connected",
        group: GROUP,
        behaviour: "an `IP_TTL` control message on a connected socket: the same flow",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp4
             connect a db:5432
             ask a
             sendmsg a ? - ttl=9
             recvmsg a
             sendmsg a ? db:5432 ttl=9
             recvmsg a
             ask a
             getpeername a
             who udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-ttl-on-connected-mapped",
        group: GROUP,
        behaviour: "a message without an address on a connected `AF_INET6` socket",
        run: Run::Script(
            || db(&[1, 2, 3]),
            "socket a udp6
             connect a [::ffff:db]:5432
             ask a
             sendmsg a ? -
             recvmsg a
             send a ?
             recvmsg a
             who udp4 db:5432",
        ),
        known: None,
    },
    Case {
        name: "udp-empty-datagram",
        group: GROUP,
        behaviour: "a datagram without data",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             sendto a \"\" db:5432
             recvfrom a
             socket b udp4
             connect b db:5432
             send b \"\"
             recvfrom b",
        ),
        known: None,
    },
    Case {
        name: "udp-peek",
        group: GROUP,
        behaviour: "`MSG_PEEK` shows the same source as the receive after it",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             sendto a ? db:5432
             recvfrom a MSG_PEEK
             recvfrom a MSG_PEEK
             recvfrom a
             recvfrom a MSG_DONTWAIT",
        ),
        known: None,
    },
    Case {
        name: "udp-too-large",
        group: GROUP,
        behaviour: "datagrams that are too large: EMSGSIZE",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             sendto a x*65508 db:5432
             setsockopt a IP_MTU_DISCOVER 2
             sendto a x*2000 db:5432
             sendto a x*1472 db:5432
             recvfrom a
             connect a db:5432
             send a x*2000
             SO_ERROR a",
        ),
        known: None,
    },
    Case {
        name: "udp-fragments",
        group: GROUP,
        behaviour: "a datagram of many fragments",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             setsockopt a IP_MTU_DISCOVER 0
             sendto a x*20000 db:5432
             recvfrom a
             connect a db:5432
             send a x*20000
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-broadcast-option",
        group: GROUP,
        behaviour: "`SO_BROADCAST` changes nothing",
        run: Run::Script(
            || db(&[1]),
            "socket a udp4
             setsockopt a SO_BROADCAST 1
             sendto a ? db:5432
             recvfrom a",
        ),
        known: None,
    },
    Case {
        name: "udp-port-0",
        group: GROUP,
        behaviour: "`sendto` to port 0 of a VIP: EINVAL, and no turn",
        run: Run::Script(
            || db(&[1, 2]),
            "socket a udp4
             sendto a ? db:0
             sendto a ? db:5432
             recvfrom a
             socket b udp4
             connect b db:0
             getpeername b
             send b ?
             sendto b ? db:5432
             who udp4 db:5432",
        ),
        known: None,
    },
];
