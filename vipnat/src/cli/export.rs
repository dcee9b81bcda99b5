//! `vipnat export`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::rules::{self, Protocols};

/// Arguments of `export`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The program that the rules are for.
    format: Format,
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
    /// The app.
    #[arg(long)]
    app: String,
    /// Only what vipnat can't reach (ICMP, SCTP, raw sockets), to be used beside it: keeps TCP and
    /// UDP as they are and out of connection tracking.
    #[arg(long)]
    only_other_protocols: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For `iptables-restore`.
    Iptables,
    /// For `nft -f`.
    Nft,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let Args { format, table: file, app: name, only_other_protocols } = args;
    let table = super::read_table(file)?;
    let app = super::app_of(&table, name, file)?;
    let protocols = if *only_other_protocols { Protocols::AllOthers } else { Protocols::TcpAndUdp };
    let rules = match format {
        Format::Iptables => rules::iptables(&table, app, protocols),
        Format::Nft => rules::nft(&table, app, protocols),
    };
    super::print(&format!("# vipnat: the rules of app {name}\n{rules}"))
}
