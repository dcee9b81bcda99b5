//! Formats the results as Markdown.

use std::fmt::Write as _;

use crate::{
    machine::Machine,
    modes::Mode,
    results::{Results, Row, Unit},
    stats::Spread,
};

/// The tables: figure, metrics and title.
const FIGURES: [(&str, &[&str], &str); 13] = [
    ("connect", &["p50"], "Connecting, the median"),
    ("connect", &["p99"], "Connecting, the 99th percentile"),
    ("traffic", &["p50"], "Once there is a connection, the median"),
    ("bulk", &["p50"], "Bulk"),
    ("bystanders", &["p50"], "What programs on one cgroup cost all others"),
    ("beside", &["p50"], "What rules beside vipnat cost what it translated"),
    ("hooks", &["mean"], "Time in the hooks"),
    ("cpus", &["mean"], "Several CPUs at once, the time in which any of them connects once"),
    ("apply", &["wall time"], "Loading and changing"),
    ("change", &["p50", "p99"], "One change inside the process of an agent"),
    ("follow", &["p50", "p99"], "Following a file"),
    ("memory", &["bytes"], "Memory"),
    (
        "fleet",
        &["p50", "p99", "wall time", "CPU time", "share of a CPU", "memory, at most", "memory"],
        "A fleet",
    ),
];

/// The content of results.md.
pub(crate) fn markdown(results: &Results, targets: &str) -> String {
    let Machine { cpu, cpus, kernel, memory_mib, date, commit, rustc, iptables, nft } =
        &results.machine;
    format!(
        "# Results\n\n\
         Written by `cargo xtask bench`; how to read it: [README.md](README.md).\n\n\
         {cpu}, {cpus} CPUs, {memory_mib} MiB of memory · Linux {kernel} · {date} · vipnat {commit} · \
         {rustc} · {iptables} · {nft} · {} rounds\n\n\
         ## What was promised\n\n{targets}{}",
        results.rounds,
        figures(results)
    )
}

/// All tables that have rows.
pub(crate) fn figures(results: &Results) -> String {
    let mut text = String::new();
    for (figure, metrics, title) in FIGURES {
        let chosen = |row: &&Row| row.figure == figure && metrics.contains(&row.metric);
        let rows: Vec<_> = results.all_rows().into_iter().filter(chosen).collect();
        if !rows.is_empty() {
            let _ = write!(text, "\n## {title}\n\n{}", table(results, &rows, metrics.len() > 1));
        }
    }
    text
}

fn table(results: &Results, rows: &[&Row], name_metric: bool) -> String {
    let has = |mode: &Mode| rows.iter().any(|row| results.values(row, *mode).is_some());
    let modes: Vec<_> = Mode::ALL.into_iter().filter(has).collect();
    let mut text = "| what | VIPs | which |".to_owned();
    modes.iter().for_each(|mode| text += &format!(" {mode} |"));
    let compared: Vec<_> = [
        (Mode::Vipnat, Mode::Direct),
        (Mode::Vipnat, Mode::Empty),
        (Mode::Direct, Mode::Untouched),
        (Mode::Vipnat, Mode::Before),
        (Mode::BesideLegacy, Mode::Vipnat),
        (Mode::BesideIptablesNft, Mode::Vipnat),
        (Mode::BesideNft, Mode::Vipnat),
    ]
    .into_iter()
    .filter(|(above, below)| has(above) && has(below))
    .collect();
    compared.iter().for_each(|(above, below)| text += &format!(" {above} ÷ {below} | p |"));
    text += "\n| --- | ---: | --- |";
    text += &" ---: |".repeat(modes.len() + 2 * compared.len());
    text += "\n";
    for row in rows {
        let Row { figure: _, what, metric, unit, shape, position } = row;
        let position = position.map(|position| position.to_string()).unwrap_or_default();
        let metric = if name_metric { format!(", {metric}") } else { String::new() };
        let _ = write!(text, "| {what}{metric} | {shape} | {position} |");
        for mode in &modes {
            match results.values(row, *mode) {
                Some(values) => {
                    let _ = write!(text, " {} |", shown(&Spread::of(values), *unit));
                }
                None => text += " |",
            }
        }
        for (above, below) in &compared {
            // A growth of nothing has no ratio.
            let ratio = results.ratio(row, *above, *below);
            match ratio.filter(|ratio| ratio.spread.median.is_finite()) {
                Some(ratio) => {
                    let Spread { median, low, high } = ratio.spread;
                    let _ = write!(text, " {median:.3} ({low:.3}–{high:.3}) | {:.4} |", ratio.p);
                }
                None => text += " | |",
            }
        }
        text += "\n";
    }
    text
}

/// The median, and the distance between the quartiles in percent of it.
fn shown(spread: &Spread, unit: Unit) -> String {
    let Spread { median, low, high } = *spread;
    let apart = 100.0 * (high - low) / median;
    match unit {
        Unit::Nanoseconds => format!("{} ±{apart:.0} %", time(median)),
        Unit::Bytes => bytes(median),
        Unit::Percent => percent(median),
    }
}

/// Formats a share of a CPU.
pub(super) fn percent(share: f64) -> String {
    if share < 1.0 { format!("{share:.2} %") } else { format!("{share:.1} %") }
}

/// Formats a size: in bytes below 100 MB, otherwise in megabytes.
pub(super) fn bytes(bytes: f64) -> String {
    if bytes < 1e8 { format!("{bytes:.0} B") } else { format!("{:.0} MB", bytes / 1e6) }
}

/// Formats a time with three digits.
pub(super) fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = 2_usize.saturating_sub(value.log10().floor().max(0.0) as usize);
    format!("{value:.digits$} {unit}")
}

pub(crate) fn grouped(number: u32) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", number / 1000, number % 1000)
    }
}
