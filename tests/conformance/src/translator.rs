//! The translators, and how each gets its table.

use std::{
    fmt,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use vipnat_testkit::{App, Vipnat};

/// What translates for a container. Vipnat is compared with each of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translator {
    /// The reference.
    IptablesLegacy,
    /// iptables on top of nf_tables.
    IptablesNft,
    /// nf_tables itself.
    Nft,
    /// What is measured against the others.
    Vipnat,
}

impl Translator {
    /// All of them, the reference first.
    pub const ALL: [Self; 4] = [Self::IptablesLegacy, Self::IptablesNft, Self::Nft, Self::Vipnat];

    /// Makes the table in the file what counts for the app from now on.
    pub(crate) fn apply(self, vipnat: &Vipnat, app: &App, table: &Path) {
        let (export, load): (_, &[&str]) = match self {
            Self::IptablesLegacy => ("iptables", &["iptables-legacy-restore", "-w"]),
            Self::IptablesNft => ("iptables", &["iptables-nft-restore", "-w"]),
            Self::Nft => ("nft", &["nft", "-f", "-"]),
            Self::Vipnat => {
                vipnat.ok(["apply".as_ref(), table.as_os_str()]);
                return;
            }
        };
        let mut rules = vipnat.ok([
            "export".as_ref(),
            export.as_ref(),
            table.as_os_str(),
            "--app".as_ref(),
            "app".as_ref(),
        ]);
        if export == "iptables" && !rules.contains("*filter") {
            // Restoring leaves a table that is not mentioned as it was.
            rules += "*filter\nCOMMIT\n";
        }
        // In the container's network namespace, whose rules are its own.
        feed(app.host.command(load[0]).args(&load[1..]), &rules);
    }
}

impl fmt::Display for Translator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::Nft => "nft",
            Self::Vipnat => "vipnat",
        })
    }
}

/// Runs a command with this input, which must succeed.
fn feed(command: &mut Command, input: &str) {
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
    let mut stdin = process.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).expect("write the rules");
    drop(stdin);
    let output = process.wait_with_output().expect("wait for the loader of rules");
    assert!(
        output.status.success(),
        "{:?}: {}, {}\nrules:\n{input}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
