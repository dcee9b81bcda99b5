//! curl and the HTTP clients of Node and Java, against a server that keeps connections.

use std::net::SocketAddrV4;

use vipnat_testkit::{Outcome, Server, outcome};

use super::client::{GROUP, has, run};
use crate::{
    Case, Container, DB, Record, Run,
    tables::{backend, db},
};

/// The service on port 80 of three backends; empty if it can't run here.
fn serve(container: &Container, record: &mut Record) -> Vec<Server> {
    if !has(record, &["python3"]) {
        return Vec::new();
    }
    container.apply(&db(&[1, 2, 3]));
    let server = |number| {
        let address = SocketAddrV4::new(backend(number), 80);
        Server::http(container.server(number), address, &format!("W{number}\n"))
    };
    [1, 2, 3].map(server).into()
}

/// Runs curl, which must end with this status. It prints the address it was connected to, and the number
/// of connections that it made.
fn curl(container: &Container, record: &mut Record, code: i32, arguments: &[&str]) {
    if has(record, &["curl"]) {
        let mut curl = container.app().command("curl");
        curl.args(["--disable", "--silent", "--show-error", "--write-out"])
            .arg("%{remote_ip}:%{remote_port} %{num_connects} connection %{http_code}\n")
            .args(arguments);
        let Outcome { status, stdout, stderr } = outcome(&mut curl);
        assert_eq!(status.code(), Some(code), "{stderr}");
        record.line(stdout);
        // Leave out the time: "Failed to connect to … after 0 ms: Couldn't …"
        let complaint = stderr.split_once(" after ").map_or(&*stderr, |(complaint, _)| complaint);
        record.line(complaint);
    }
}

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "curl",
        group: GROUP,
        behaviour: "curl, once for each request",
        run: Run::Steps(|container, record| {
            let _servers = serve(container, record);
            for _ in 0..4 {
                curl(container, record, 0, &["http://169.254.37.209/who"]);
            }
        }),
        known: None,
    },
    Case {
        name: "curl-keep-alive",
        group: GROUP,
        behaviour: "curl, several requests over a connection that is kept, then another",
        run: Run::Steps(|container, record| {
            let _servers = serve(container, record);
            let url = "http://169.254.37.209/who";
            curl(container, record, 0, &[url, url, url]);
            curl(container, record, 0, &[url, "-H", "Connection: close", url]);
        }),
        known: None,
    },
    Case {
        name: "curl-refused",
        group: GROUP,
        behaviour: "curl where nobody listens: what it says",
        run: Run::Steps(|container, record| {
            container.apply(&db(&[8]));
            curl(container, record, 7, &["http://169.254.37.209:5432/who"]);
        }),
        known: None,
    },
    Case {
        name: "node-http",
        group: GROUP,
        behaviour: "Node's http with an agent that keeps its connection",
        run: Run::Steps(|container, record| {
            if has(record, &["node", "python3"]) {
                let _servers = serve(container, record);
                run(container, record, "node", &format!("client.mjs http {DB} 80"));
            }
        }),
        known: None,
    },
    Case {
        name: "java-http",
        group: GROUP,
        behaviour: "Java's HttpURLConnection, which keeps its connection",
        run: Run::Steps(|container, record| {
            if has(record, &["java", "python3"]) {
                let _servers = serve(container, record);
                run(container, record, "java", &format!("Client.java http {DB} 80"));
            }
        }),
        known: None,
    },
];
