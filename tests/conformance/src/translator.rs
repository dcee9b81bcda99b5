//! The translators. Each gets its table in another way.

use std::{
    fmt,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use vipnat_testkit::{App, Vipnat};

/// The program that translates for a container. The test compares vipnat with each of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translator {
    /// The reference.
    IptablesLegacy,
    /// iptables on top of nf_tables.
    IptablesNft,
    /// nf_tables itself.
    Nft,
    /// The program under test.
    Vipnat,
}

impl Translator {
    /// All of them, the reference first.
    pub const ALL: [Self; 4] = [Self::IptablesLegacy, Self::IptablesNft, Self::Nft, Self::Vipnat];

    /// Puts the table in the file in force for the app.
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
            // iptables-restore leaves a table unchanged that its input does not name.
            rules += "*filter\nCOMMIT\n";
        }
        // Load them in the container's network namespace.
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

/// Runs a command with this input. The command must succeed.
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
