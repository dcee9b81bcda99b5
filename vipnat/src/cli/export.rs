//! `vipnat export`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use vipnat_core::firewall::{self, Packets};

use super::{
    output::{print_data, warn_escaped},
    table::{app_of, read_table},
};

/// Arguments of `export`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The program that the rules are for.
    format: Format,
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
    /// The app.
    #[arg(long)]
    app: String,
    /// Make rules to load beside vipnat. They translate packets that no hook reaches: ping, SCTP, raw
    /// sockets, the kernel's own sockets (VXLAN, NFS), processes outside the app's cgroups. They keep
    /// other TCP and UDP packets out of connection tracking; docs/rules.md lists the exceptions.
    #[arg(long)]
    beside_vipnat: bool,
    /// The former name of the option. Such rules then left TCP and UDP alone.
    #[arg(long, hide = true)]
    only_other_protocols: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For `iptables-restore`.
    Iptables,
    /// For `nft -f`.
    Nft,
}

/// The cost of rules beside vipnat, as a comment on top of them.
const BESIDE: &str = "\
# They exempt TCP and UDP from connection tracking, except on lo, for 169.254.0.0/16, and for packets to
# ports 914-952 and 61000-65535. Other NAT and stateful rules (DNAT, MASQUERADE, --ctstate, ct state) do not
# see exempted packets in this network namespace. See docs/rules.md, \"Beside vipnat\".
";

pub(crate) fn run(args: &Args) -> Result<()> {
    let Args { format, table: file, app: name, beside_vipnat, only_other_protocols } = args;
    let table = read_table(file)?;
    let app = app_of(&table, name, file)?;
    if *only_other_protocols {
        warn_escaped(
            "--only-other-protocols is now --beside-vipnat; the rules also translate TCP and UDP packets \
             that no hook reaches, which changes their source ports, and relationships limited to a port or \
             protocol are in them too; see docs/rules.md, \"Beside vipnat\", before you load them",
        );
    }
    let packets = if *beside_vipnat || *only_other_protocols {
        Packets::Unreached
    } else {
        Packets::TcpAndUdp
    };
    let rules = match format {
        Format::Iptables => firewall::iptables(&table, app, packets),
        Format::Nft => firewall::nft(&table, app, packets),
    };
    let price = match packets {
        Packets::TcpAndUdp => "",
        Packets::Unreached => BESIDE,
    };
    print_data(&format!("# vipnat: the rules of app {name}\n{price}{rules}"))
}
