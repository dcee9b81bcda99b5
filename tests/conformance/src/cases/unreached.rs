//! Packets that no hook reaches. `vipnat export --beside-vipnat` has rules for them, which integration tests
//! try.

use std::{thread, time::Duration};

use vipnat_testkit::{Cgroup, installed, outcome};

use crate::{
    APP, Case, Container, DB, Known, Record, Run,
    tables::{backend, db},
};

const GROUP: &str = "What no hook reaches";

pub(super) const CASES: &[Case] = &[
    Case {
        name: "raw-tcp",
        group: GROUP,
        behaviour: "TCP packets of a raw socket: `traceroute -T`",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            trace(container, record, &["-T", "-p", "5432"]);
        }),
        known: Some(Known {
            iptables: "1 db",
            vipnat: "1 *",
            why: "a raw socket does not connect; there are rules for it beside vipnat",
        }),
    },
    Case {
        name: "vxlan",
        group: GROUP,
        behaviour: "a socket of the kernel's own: a VXLAN device whose remote is a VIP",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let link = "link add vxlan0 type vxlan id 7 dstport 4789";
            let up = "link set vxlan0 up\naddress add";
            let (app, server) = (&container.app().host, container.server(1));
            let add = format!("{link} remote {DB}");
            let added = outcome(app.command("ip").args(add.split(' ')));
            if !added.status.success() {
                record.skip(format!("no VXLAN device: {}", added.stderr.trim()));
                return;
            }
            app.ip(&format!("{up} 10.9.0.1/24 dev vxlan0"));
            // The server answers from the address to which the packet was sent.
            let there = format!("{link} remote {APP} local {}", backend(1));
            server.ip(&format!("{there}\n{up} 10.9.0.2/24 dev vxlan0"));
            let ping = outcome(container.app().command("ping").args(["-c1", "-W1", "10.9.0.2"]));
            record.line(if ping.status.success() { "answered" } else { "no answer" });
        }),
        known: Some(Known {
            iptables: "answered",
            vipnat: "no answer",
            why: "the kernel sends without connect; the same holds for WireGuard, NFS and SMB",
        }),
    },
    Case {
        name: "process-outside-the-cgroup",
        group: GROUP,
        behaviour: "a process that only entered the container's network namespace, as with `nsenter`",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session_without_cgroup();
            session.play("socket a udp4\nsendto a ? db:5432", record);
            look(&mut session, record, "a");
        }),
        known: Some(Known {
            iptables: "recvfrom a MSG_DONTWAIT = \"B1\" from db:5432",
            vipnat: "recvfrom a MSG_DONTWAIT = EAGAIN",
            why: "an app is a cgroup, not a network namespace",
        }),
    },
    Case {
        name: "process-left-the-cgroup",
        group: GROUP,
        behaviour: "a process leaves the container's cgroup: its sockets, and a new one",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let mut session = container.session();
            session.play("socket a tcp4\nconnect a db:5432\nsocket b udp4", record);
            let elsewhere = Cgroup::new();
            session.move_to(&elsewhere);
            session.play("ask a\ngetpeername a\nsendto b ? db:5432", record);
            look(&mut session, record, "b");
            session.play("socket c udp4\nsendto c ? db:5432", record);
            look(&mut session, record, "c");
            // A cgroup can be removed only after its processes have ended.
            drop(session);
        }),
        known: Some(Known {
            iptables: "recvfrom c MSG_DONTWAIT = \"B1\" from db:5432",
            vipnat: "recvfrom c MSG_DONTWAIT = EAGAIN",
            why: "a socket belongs for ever to the cgroup in which it was made; a new one is the other cgroup's",
        }),
    },
    Case {
        name: "rule-that-names-the-vip",
        group: GROUP,
        behaviour: "a firewall rule that drops packets to the VIP",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[1]));
            let rule = ["-t", "mangle", "-A", "OUTPUT", "-d", DB, "-j", "DROP"];
            let added = outcome(container.app().host.command("iptables-legacy").args(rule));
            assert!(added.status.success(), "{added}");
            container.session().play("socket a udp4\nsendto a ? db:5432", record);
        }),
        known: Some(Known {
            iptables: "sendto a ? db:5432 = EPERM",
            vipnat: "sendto a ? db:5432 = 1",
            why: "packets go to the backend from the first on; a rule must name that",
        }),
    },
];

/// Notes a datagram that has reached a socket after a short time.
fn look(session: &mut crate::Session, record: &mut Record, socket: &str) {
    thread::sleep(vipnat_testkit::patient(Duration::from_millis(150)));
    session.play(&format!("recvfrom {socket} MSG_DONTWAIT"), record);
}

/// The hops on the way to the VIP.
pub(super) fn trace(container: &Container, record: &mut Record, options: &[&str]) {
    let Some(program) = installed("traceroute") else {
        record.skip("not installed: traceroute");
        return;
    };
    let mut command = container.app().command(program);
    command.args(["-n", "-q1", "-w1", "-m1"]).args(options);
    let outcome = outcome(command.arg(DB));
    assert!(outcome.status.success(), "traceroute: {outcome}");
    for hop in outcome.stdout.lines().skip(1) {
        let words: Vec<_> = hop.split_whitespace().take(2).collect();
        let names = [(DB.to_owned(), "db"), (backend(1).to_string(), "backend1")];
        let named = |line: String, (address, name): &(String, &str)| line.replace(address, name);
        record.line(names.iter().fold(words.join(" "), named));
    }
}
