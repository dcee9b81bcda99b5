//! `vipnat import`: tables from what others write.

mod iptables;

use anyhow::Result;
use clap::Subcommand;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// From the output of iptables-save.
    Iptables(iptables::Args),
}

pub(super) fn run(args: &Args) -> Result<()> {
    match &args.from {
        From::Iptables(args) => iptables::run(args),
    }
}
