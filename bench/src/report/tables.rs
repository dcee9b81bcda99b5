//! The results as Markdown.

use std::fmt::Write as _;

use crate::{
    modes::Mode,
    results::{Results, Row, Unit},
    stats::Spread,
};

/// What each table is headed by.
const FIGURES: [(&str, &str); 7] = [
    ("connect", "Connecting"),
    ("traffic", "Once there is a connection"),
    ("hooks", "Time in the hooks"),
    ("cpus", "Several CPUs at once"),
    ("apply", "Loading and changing"),
    ("follow", "Following a file"),
    ("memory", "Memory"),
];

pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    for (figure, title) in FIGURES {
        let rows = results.rows(figure);
        if !rows.is_empty() {
            let _ = write!(text, "\n## {title}\n\n{}", table(results, &rows));
        }
    }
    text
}

fn table(results: &Results, rows: &[&Row]) -> String {
    let has = |mode: &Mode| rows.iter().any(|row| results.values(row, *mode).is_some());
    let modes: Vec<_> = Mode::ALL.into_iter().filter(has).collect();
    let mut text = "| what | VIPs | which |".to_owned();
    modes.iter().for_each(|mode| text += &format!(" {mode} |"));
    let compared = [Mode::Direct, Mode::Empty]
        .into_iter()
        .filter(|other| has(&Mode::Vipnat) && modes.contains(other))
        .collect::<Vec<_>>();
    compared.iter().for_each(|mode| text += &format!(" vipnat ÷ {mode} | p |"));
    text += "\n| --- | ---: | --- |";
    text += &" ---: |".repeat(modes.len() + 2 * compared.len());
    text += "\n";
    for row in rows {
        let Row { figure: _, what, metric, unit, vips, position } = row;
        let position = position.map(|position| position.to_string()).unwrap_or_default();
        let _ = write!(text, "| {what}, {metric} | {} | {position} |", grouped(*vips));
        for mode in &modes {
            match results.values(row, *mode) {
                Some(values) => {
                    let _ = write!(text, " {} |", shown(&Spread::of(values), *unit));
                }
                None => text += " |",
            }
        }
        for other in &compared {
            match results.ratio(row, Mode::Vipnat, *other) {
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

/// The median, and how far the quartiles are apart.
fn shown(spread: &Spread, unit: Unit) -> String {
    let Spread { median, low, high } = *spread;
    let apart = 100.0 * (high - low) / median;
    match unit {
        Unit::Nanoseconds => format!("{} ±{apart:.0} %", time(median)),
        Unit::Bytes => format!("{median:.0} B"),
    }
}

/// With three digits.
fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = 2_usize.saturating_sub(value.log10().floor().max(0.0) as usize);
    format!("{value:.digits$} {unit}")
}

fn grouped(number: u32) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}
