//! `vipnat vip`.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::table::vip_of;

/// Arguments of `vip`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of relationships.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// As a JSON object of names and VIPs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    if args.json {
        let vips: Map<_, _> =
            args.names.iter().map(|name| (name.clone(), json!(vip_of(name)))).collect();
        println!("{:#}", Value::Object(vips));
    } else {
        for name in &args.names {
            println!("{:15} {name}", vip_of(name).to_string());
        }
    }
    Ok(())
}
