//! UDP flows that end after a time.

use std::time::Duration;

use crate::{
    Case, Container, Known, Record, Run, Session,
    tables::{db, two_services},
};

const GROUP: &str = "End of UDP flows";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "udp-flow-answered-ends-after-120-s",
        group: GROUP,
        behaviour: "a flow with traffic both ways for over 2 s ends after 120 s of silence",
        run: Run::Steps(|container, record| ask_after_silences(container, record, ASK, &[3, 124])),
        known: None,
    },
    Case {
        name: "udp-flow-answered-lives-115-s",
        group: GROUP,
        behaviour: "the same flow is still there after 115 s of silence",
        run: Run::Steps(|container, record| ask_after_silences(container, record, ASK, &[3, 115])),
        known: None,
    },
    Case {
        name: "udp-flow-unanswered-ends-after-30-s",
        group: GROUP,
        behaviour: "a flow without an answer ends after 30 s of silence",
        run: Run::Steps(|container, record| {
            let mut session = two_backends(container);
            session.play("socket a udp4\nsendto a quiet db:5432", record);
            rest(container, record, 26);
            session.play("sendto a quiet db:5432", record);
            rest(container, record, 33);
            session.play("sendto a ? db:5432\nrecvfrom a", record);
        }),
        known: None,
    },
    Case {
        name: "udp-flow-unanswered-goes-on",
        group: GROUP,
        behaviour: "datagrams without an answer every 20 s are one flow",
        run: Run::Steps(|container, record| {
            let mut session = two_backends(container);
            session.play("socket a udp4\nsendto a quiet db:5432", record);
            rest(container, record, 20);
            session.play("sendto a quiet db:5432", record);
            rest(container, record, 20);
            session.play("sendto a ? db:5432\nrecvfrom a", record);
        }),
        known: None,
    },
    Case {
        name: "udp-flow-answered-once",
        group: GROUP,
        behaviour: "one question and one answer, then 40 s of silence",
        run: Run::Steps(|container, record| ask_after_silences(container, record, ASK, &[40])),
        known: None,
    },
    Case {
        name: "udp-flow-answered-twice",
        group: GROUP,
        behaviour: "two questions and answers within 2 s, then 40 s of silence",
        run: Run::Steps(|container, record| {
            let mut session = two_backends(container);
            session.play(
                "socket a udp4
                 sendto a ? db:5432
                 recvfrom a
                 sendto a ? db:5432
                 recvfrom a",
                record,
            );
            rest(container, record, 40);
            session.play("sendto a ? db:5432\nrecvfrom a", record);
        }),
        known: None,
    },
    Case {
        name: "udp-flow-answered-for-long",
        group: GROUP,
        behaviour: "questions and answers for over 2 s, then 40 s of silence",
        run: Run::Steps(|container, record| ask_after_silences(container, record, ASK, &[3, 40])),
        known: None,
    },
    Case {
        name: "udp-flow-answered-late",
        group: GROUP,
        behaviour: "one question whose answer comes after 3 s, then 40 s of silence",
        run: Run::Steps(|container, record| {
            let mut session = two_backends(container);
            session.play("socket a udp4\nsendto a \"later 3000\" db:5432", record);
            rest(container, record, 3);
            session.play("recvfrom a", record);
            rest(container, record, 40);
            session.play("sendto a ? db:5432\nrecvfrom a", record);
        }),
        known: None,
    },
    Case {
        name: "udp-flow-answers-keep-it",
        group: GROUP,
        behaviour: "answers alone refresh a flow",
        run: Run::Steps(|container, record| {
            let mut session = two_backends(container);
            session.play(
                "socket a udp4
                 sendto a \"later 25000\" db:5432
                 sendto a \"later 50000\" db:5432",
                record,
            );
            rest(container, record, 26);
            session.play("recvfrom a", record);
            rest(container, record, 25);
            session.play("recvfrom a\nsendto a ? db:5432\nrecvfrom a", record);
        }),
        known: None,
    },
    Case {
        name: "udp-connect-refused-then-silence",
        group: GROUP,
        behaviour: "a connected socket whose next connect another program refuses, then 33 s of silence",
        run: Run::Steps(|container, record| {
            container.apply(&two_services());
            let mut session = container.session();
            session.play(
                "socket a udp4
                 connect a db:5432
                 socket b udp6
                 connect b [::ffff:db]:5432
                 socket c udp4
                 connect c db:5432
                 ask a
                 ask b
                 ask c",
                record,
            );
            let refusal = container.refuse(&["connect4", "connect6"]);
            session.play(
                "connect a cache:5432
                 connect b [::ffff:cache]:5432
                 connect c backend3:5432",
                record,
            );
            drop(refusal);
            rest(container, record, 33);
            for receive in ["recvfrom", "recvmsg", "recvmmsg"] {
                let count = if receive == "recvmmsg" { " 1" } else { "" };
                for socket in ["a", "b", "c"] {
                    session.play(&format!("send {socket} ?\npoll {socket} in"), record);
                    session.play(&format!("{receive} {socket}{count}"), record);
                    session.play(&format!("getpeername {socket}"), record);
                }
            }
        }),
        known: None,
    },
    Case {
        name: "udp-connect-fails-then-silence",
        group: GROUP,
        behaviour: "the same where no route leads to where it would connect",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play(
                "socket a udp4
                 connect a db:5432
                 ask a
                 connect a 192.0.2.1:5432",
                record,
            );
            rest(container, record, 33);
            session.play("getpeername a\nsend a ?\nrecvfrom a\ngetpeername a", record);
        }),
        known: None,
    },
    Case {
        name: "udp-flow-answered-without-source",
        group: GROUP,
        behaviour: "answers over 2 s, read without asking for the source, then 40 s of silence",
        run: Run::Steps(|container, record| {
            ask_after_silences(container, record, "sendto a ? db:5432\nrecv a", &[3, 40]);
        }),
        known: Some(Known {
            iptables: "recv a = \"B1\"",
            vipnat: "recv a = \"B2\"",
            why: "an answer is seen only by a hook of receives that ask for the source; without, a flow lives 30 s",
        }),
    },
    Case {
        name: "udp-reply-after-end-of-flow",
        group: GROUP,
        behaviour: "a first reply after 34 s, to an unconnected socket",
        run: Run::Steps(|container, record| {
            let mut session = two_backends(container);
            session.play("socket a udp4\nsendto a \"later 34000\" db:5432", record);
            rest(container, record, 33);
            session.play("recvfrom a", record);
        }),
        known: None,
    },
    Case {
        name: "udp-reply-after-end-of-flow-connected",
        group: GROUP,
        behaviour: "a first reply after 34 s, to a connected socket",
        run: Run::Steps(|container, record| {
            let mut session = two_backends(container);
            session.play("socket a udp4\nconnect a db:5432\nsend a \"later 34000\"", record);
            rest(container, record, 33);
            session.play("recvfrom a", record);
        }),
        known: Some(Known {
            iptables: "recvfrom a = EAGAIN",
            vipnat: "recvfrom a = \"B1 late\" from db:5432",
            why: "the socket is connected to the backend itself, and no entry has to live for it",
        }),
    },
    Case {
        name: "udp-connected-after-silence",
        group: GROUP,
        behaviour: "a connected socket sends again after the end of its flow",
        run: Run::Steps(|container, record| {
            let mut session = two_backends(container);
            session.play("socket a udp4\nconnect a db:5432\nask a", record);
            rest(container, record, 40);
            session.play("ask a", record);
        }),
        known: Some(Known {
            iptables: "ask a = \"B2\"",
            vipnat: "ask a = \"B1\"",
            why: "a connected socket keeps its backend as long as it is connected",
        }),
    },
];

fn two_backends(container: &Container) -> Session {
    container.apply(&db(&[1, 2]));
    container.session()
}

fn rest(container: &Container, record: &mut Record, seconds: u64) {
    container.wait(Duration::from_secs(seconds));
    record.line(format!("{seconds} s later"));
}

/// A question and its answer.
const ASK: &str = "sendto a ? db:5432\nrecvfrom a";

/// Plays a script with a UDP socket, and again after each of these pauses, in seconds.
fn ask_after_silences(container: &Container, record: &mut Record, ask: &str, silences: &[u64]) {
    let mut session = two_backends(container);
    session.play("socket a udp4", record);
    session.play(ask, record);
    for seconds in silences {
        rest(container, record, *seconds);
        session.play(ask, record);
    }
}
