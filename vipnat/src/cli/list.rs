//! `vipnat list`.

mod json;

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, Result};
use vipnat_common::abi::Counters;
use vipnat_core::{
    model::Place,
    text::{shown, shown_name},
};

use super::{
    notation::{backend_list, choices, limit},
    output::{UNWRITABLE, warn},
};
use crate::reconcile::{ListedApp, ListedCgroup, ListedVip, Listing, Session};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    // The lock is free again here, so a slow reader of the output delays no other command.
    let listing = Session::new(bpffs).list()?;
    if let Some(reason) = &listing.unseen {
        warn(&format!("some cgroups are not in view: {reason}"));
    }
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let written = if args.json {
        json::write(&listing, &mut out)
    } else if listing.apps.is_empty() {
        writeln!(out, "no apps; apply a table: vipnat apply TABLE")
    } else {
        write_text(&listing, &mut out)
    };
    written.and_then(|()| out.flush()).context(UNWRITABLE)
}

/// `cgroup shop.slice/shop`, `cgroups lxc/shop-1, lxc/shop-2`, `no cgroup yet`.
fn cgroup_list(cgroups: &[ListedCgroup]) -> String {
    let one = |cgroup: &ListedCgroup| {
        let ListedCgroup { id, place, translating, by_hand } = cgroup;
        let path = match place {
            Place::At(path) => shown_name(path),
            Place::Unseen(_) => format!("with id {id}, which is not in view"),
            Place::Gone => "gone".to_owned(),
        };
        let by_hand = if *by_hand { " (by hand)" } else { "" };
        let off = if *translating || *place == Place::Gone {
            ""
        } else {
            " NOT TRANSLATED: apply the table again"
        };
        format!("{path}{by_hand}{off}")
    };
    match cgroups {
        [] => "no cgroup yet".to_owned(),
        [cgroup] => format!("cgroup {}", one(cgroup)),
        several => {
            format!("cgroups {}", several.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Writes one line for each VIP, in columns. A first pass finds the width of each column.
fn write_text(listing: &Listing, out: &mut dyn Write) -> io::Result<()> {
    let header = ["RELATIONSHIP", "VIP", "SERVICE", "CONNECTIONS"].map(str::to_owned);
    let mut widths = header.each_ref().map(|cell| cell.chars().count());
    let all = listing.apps.iter().flat_map(|app| listing.vips(app));
    for cells in all.map(|vip| columns(&vip)) {
        for (width, cell) in widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let row = |out: &mut dyn Write, cells: &[String; 4], backends: &str| {
        write!(out, "  ")?;
        for (cell, width) in cells.iter().zip(widths) {
            write!(out, "{cell:width$}  ")?;
        }
        writeln!(out, "{backends}")
    };
    row(out, &header, "BACKENDS")?;
    let mut redirected = 0;
    for app in &listing.apps {
        let ListedApp { name, app_id, cgroups } = app;
        writeln!(out, "{} ({}, app id {app_id})", shown(name), cgroup_list(cgroups))?;
        for vip in listing.vips(app) {
            redirected += vip.connections;
            let backends = backend_list(&vip.backends, "none", "  ");
            row(out, &columns(&vip), &(backends + &choices(vip.select, vip.udp_pinning)))?;
        }
    }
    let Counters { unreachable, unsettled, unrecorded, evicted } = listing.counters;
    writeln!(
        out,
        "flows: {redirected} redirected, {unreachable} unreachable, {unsettled} unsettled, {unrecorded} \
         unrecorded, {evicted} evicted"
    )
}

/// The columns of a VIP before its backends.
fn columns(vip: &ListedVip) -> [String; 4] {
    let names = vip.names.as_ref();
    [
        names.map_or("?".to_owned(), |names| shown(&names.relationships()).into_owned()),
        format!("{}{}", vip.vip, limit(vip.port, vip.protocol)),
        names.map_or("?".to_owned(), |names| shown(&names.services()).into_owned()),
        vip.connections.to_string(),
    ]
}
