//! Resolvers whose name server is a VIP. They check strictly from which address a reply comes.

use std::{fs, process::Command};

use vipnat_testkit::{Server, client_file, outcome};

use super::client::{Client, GROUP, directory, has, note};
use crate::{
    Case, Container, Record, Run,
    tables::{backend, db, two_vips},
};

/// Runs a program with two VIPs for the name `two.test`.
const WITH_HOSTS: &str = "mount --bind \"$0/hosts\" /etc/hosts && exec \"$@\"";

/// Runs a program with the VIP as the name server.
const WITH_RESOLV_CONF: &str = "mount --bind \"$0/resolv.conf\" /etc/resolv.conf && exec \"$@\"";

/// Name servers on three backends; empty if they can't run here.
fn serve(container: &Container, record: &mut Record, client: &str) -> Vec<Server> {
    if !has(record, &["dnsmasq", client]) {
        return Vec::new();
    }
    container.apply(&db(&[1, 2, 3]));
    [1, 2, 3].map(|number| Server::dns(container.server(number), backend(number), number)).into()
}

/// Makes four lookups, one after the other. Notes the output of dig without times and sizes.
fn look_up(container: &Container, record: &mut Record, client: &str, arguments: &[&str]) {
    let servers = serve(container, record, client);
    for _ in 0..=servers.len() {
        let outcome = outcome(container.app().command(client).args(arguments));
        assert!(outcome.status.success(), "{client}: {outcome}");
        let changing = [";; Query time:", ";; WHEN:", ";; MSG SIZE"];
        let lasting = |line: &&str| !changing.iter().any(|start| line.starts_with(start));
        outcome.stdout.lines().filter(lasting).for_each(|line| record.line(line));
        record.line(&outcome.stderr);
    }
}

/// Makes four lookups with the resolver of a C library. Its only name server is the VIP.
fn resolve(container: &Container, record: &mut Record, compiler: &str) {
    let servers = serve(container, record, compiler);
    if servers.is_empty() {
        return;
    }
    let files = directory();
    let program = files.path().join("lookup");
    let compiled =
        outcome(Command::new(compiler).arg("-o").arg(&program).arg(client_file("lookup.c")));
    assert!(compiled.status.success(), "{compiler}: {compiled}");
    let text = "nameserver 169.254.37.209\noptions attempts:1\n";
    fs::write(files.path().join("resolv.conf"), text).expect("write resolv.conf");
    for _ in 0..=servers.len() {
        let mut lookup = container.app().command("unshare");
        lookup.args(["--mount", "sh", "-c", WITH_RESOLV_CONF]).arg(files.path());
        note(record, lookup.arg(&program).arg("who.test"));
    }
}

/// Connects by a name with two VIPs, those of the relationships `db` and `cache`.
fn connect_by_name(container: &Container, record: &mut Record, interpreter: &str, what: &str) {
    if !has(record, &[interpreter]) {
        return;
    }
    container.apply(&two_vips(&[1, 2]));
    let files = directory();
    fs::write(files.path().join("hosts"), "169.254.37.209 two.test\n169.254.206.224 two.test\n")
        .expect("write hosts");
    let (file, what) = what.split_once(' ').expect("a file and what it does");
    let mut client = container.app().command("unshare");
    client.args(["--mount", "sh", "-c", WITH_HOSTS]).arg(files.path()).arg(interpreter);
    let program = Client::new(interpreter, file);
    note(record, client.args(program.arguments()).args([what, "two.test", "5432"]));
}

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "dig",
        group: GROUP,
        behaviour: "dig over UDP: name servers take turns, the reply is from the VIP",
        run: Run::Steps(|container, record| {
            let dig = ["@169.254.37.209", "+tries=1", "+noall", "+answer", "+stats", "who.test"];
            look_up(container, record, "dig", &dig);
        }),
        known: None,
    },
    Case {
        name: "dig-tcp",
        group: GROUP,
        behaviour: "dig over TCP",
        run: Run::Steps(|container, record| {
            let dig = ["@169.254.37.209", "+tcp", "+noall", "+answer", "+stats", "who.test"];
            look_up(container, record, "dig", &dig);
        }),
        known: None,
    },
    Case {
        name: "busybox-nslookup",
        group: GROUP,
        behaviour: "busybox nslookup, a static program",
        run: Run::Steps(|container, record| {
            let nslookup = ["nslookup", "-type=txt", "who.test", "169.254.37.209"];
            look_up(container, record, "busybox", &nslookup);
        }),
        known: None,
    },
    Case {
        name: "glibc-resolver",
        group: GROUP,
        behaviour: "glibc's getaddrinfo with the VIP as name server",
        run: Run::Steps(|container, record| resolve(container, record, "cc")),
        known: None,
    },
    Case {
        name: "musl-resolver",
        group: GROUP,
        behaviour: "musl's getaddrinfo with the VIP as name server, which takes replies from it alone",
        run: Run::Steps(|container, record| resolve(container, record, "musl-gcc")),
        known: None,
    },
    Case {
        name: "java-by-name",
        group: GROUP,
        behaviour: "a name with several addresses in Java, which looks it up without a port",
        run: Run::Steps(|container, record| {
            connect_by_name(container, record, "java", "Client.java streams");
        }),
        known: None,
    },
    Case {
        name: "node-by-name",
        group: GROUP,
        behaviour: "a name with several addresses in Node, which looks it up without a port",
        run: Run::Steps(|container, record| {
            connect_by_name(container, record, "node", "client.mjs streams");
        }),
        known: None,
    },
    Case {
        name: "python-by-name",
        group: GROUP,
        behaviour: "a name with several addresses in Python, whose lookup connects to the port over UDP",
        run: Run::Steps(|container, record| {
            connect_by_name(container, record, "python3", "client.py streams");
        }),
        known: None,
    },
];
