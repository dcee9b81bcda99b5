//! The arguments of `vipnat import`, and the source they choose.

use anyhow::Result;
use clap::Subcommand;

use super::{iptables, platform};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Make a table from a value of PLATFORM_RELATIONSHIPS.
    Platform(platform::Args),
    /// Make a table from the output of iptables-save.
    Iptables(iptables::Args),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.from {
        From::Platform(args) => platform::run(args),
        From::Iptables(args) => iptables::run(args),
    }
}
