//! `vipnat vip`.

use anyhow::Result;
use serde_json::{Map, Value, json};
use vipnat_core::{
    table::{check_name, vip_of},
    text::quoted,
};

use super::output::print_data;
use crate::input::InvalidInput;

/// Arguments of `vip`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names of relationships.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Print a JSON object of names and VIPs.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Args { names, json } = args;
    for name in names {
        check_name(name).map_err(|reason| InvalidInput(format!("{}: {reason}", quoted(name))))?;
    }
    print_data(&if *json {
        let vips: Map<_, _> =
            names.iter().map(|name| (name.clone(), json!(vip_of(name)))).collect();
        format!("{:#}\n", Value::Object(vips))
    } else {
        names.iter().map(|name| format!("{:15} {name}\n", vip_of(name).to_string())).collect()
    })
}
