//! Transfers of files.

use std::fs;

use vipnat_testkit::{Server, outcome};

use super::client::{GROUP, directory, has};
use crate::{
    Case, DB, Known, Run,
    tables::{backend, db},
};

pub(in crate::cases) const CASES: &[Case] = &[Case {
    name: "tftp",
    group: GROUP,
    behaviour: "TFTP, whose server answers from another port: a file of one block, and one of several",
    run: Run::Steps(|container, record| {
        if !has(record, &["tftp", "dnsmasq"]) {
            return;
        }
        container.apply(&db(&[1]));
        let _server = Server::tftp(container.server(1), backend(1));
        let files = directory();
        // By default, tftp would ask for half a minute.
        let script = "cd \"$0\" && printf 'binary\\nrexmt 1\\ntimeout 2\\nget small\\nget large\\n' | tftp \"$1\"";
        let mut client = container.app().command("sh");
        let _ = outcome(client.args(["-c", script]).arg(files.path()).arg(DB));
        for (name, size) in [("small", 300), ("large", 3000)] {
            let received = fs::metadata(files.path().join(name)).map_or(0, |file| file.len());
            record.line(format!("{name}: {}", if received == size { "all" } else { "not all" }));
        }
    }),
    known: Some(Known {
        iptables: "large: not all",
        vipnat: "large: all",
        why: "behind iptables the second question is another connection, whose port is changed, since the server's answer came first",
    }),
}];
