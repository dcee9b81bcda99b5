//! The plots of a report, and their lines.

use std::{error::Error, path::Path};

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::panel::{Line, Panel};
use crate::{
    modes::Mode,
    protocol::{Operation, Position},
    results::{Results, Row},
    shape::Shape,
};

/// The size of a plot alone.
const ALONE: (u32, u32) = (820, 460);
/// The size of two plots side by side.
const BESIDE: (u32, u32) = (1000, 400);

/// The modes in the first picture that a reader sees.
const FEW: [Mode; 5] =
    [Mode::Direct, Mode::Vipnat, Mode::IptablesLegacy, Mode::IptablesNft, Mode::NftMap];

/// The colour of `vipnat apply` beside `vipnat run`.
const APPLY: RGBColor = RGBColor(86, 180, 233);

/// Selects rows.
type Choice<'a> = &'a dyn Fn(&Row) -> bool;

/// Draws each plot that has a line.
pub(crate) fn draw(results: &Results, directory: &Path) -> Result<()> {
    let tcp = random(Operation::TcpConnect);
    let udp = random(Operation::UdpFlow);
    let loading = |row: &Row| row.what == "from nothing";
    let change = |row: &Row| row.what == "one change";
    let panel = |title: &str, modes: &[Mode], choice: Choice<'_>| Panel {
        title: title.to_owned(),
        lines: modes.iter().filter_map(|mode| line(results, *mode, choice)).collect(),
    };
    let mut changing = panel("One change until it takes effect, median", &FEW, &change);
    let apply = changing.lines.iter_mut().find(|line| line.color == color(Mode::Vipnat));
    if let Some(apply) = apply {
        (apply.name, apply.color) = ("vipnat apply".to_owned(), APPLY);
    }
    changing.lines.extend(run(results));
    let pictures = [
        (
            "connect-time.svg",
            vec![panel("TCP connect() to any of the VIPs, median", &Mode::ALL, &tcp)],
        ),
        (
            "udp-time.svg",
            vec![panel(
                "UDP: socket, connect, send, close, to any of the VIPs, median",
                &Mode::ALL,
                &udp,
            )],
        ),
        ("apply-time.svg", vec![panel("Loading all VIPs", &Mode::ALL, &loading)]),
        ("change-time.svg", vec![panel("Changing one of the VIPs", &Mode::ALL, &change)]),
        (
            "connect-and-change.svg",
            vec![panel("TCP connect() to any of the VIPs, median", &FEW, &tcp), changing],
        ),
    ];
    for (file, panels) in &pictures {
        if panels.iter().all(Panel::has_lines) {
            picture(panels, &directory.join(file))
                .map_err(|error| anyhow!("draw {file}: {error}"))?;
        }
    }
    Ok(())
}

/// Draws plots side by side.
fn picture(panels: &[Panel], path: &Path) -> Result<(), Box<dyn Error>> {
    let size = if panels.len() == 1 { ALONE } else { BESIDE };
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(area.split_evenly((1, panels.len()))) {
        panel.draw(&area)?;
    }
    area.present()?;
    Ok(())
}

fn random(operation: Operation) -> impl Fn(&Row) -> bool {
    move |row| {
        row.what == operation.to_string()
            && row.metric == "p50"
            && row.position == Some(Position::Random)
    }
}

/// The line of a mode through the medians of rows, if there is more than one point.
fn line(results: &Results, mode: Mode, choice: Choice<'_>) -> Option<Line> {
    let rows = results.all_rows().into_iter().filter(|row| choice(row));
    let (mut points, mut machine) = (Vec::new(), None);
    for row in rows {
        let Some(median) = results.median(row, mode) else { continue };
        if row.shape.is_one_app() {
            points.push((f64::from(row.shape.vips), median));
        } else if row.shape == Shape::MACHINE {
            machine = Some(median);
        }
    }
    points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let width = if mode == Mode::Vipnat { 3 } else { 2 };
    let (name, color) = (mode.to_string(), color(mode));
    (points.len() > 1).then_some(Line { name, color, width, points, machine })
}

/// The line of `vipnat run`, up to the first connect that goes to the new place.
fn run(results: &Results) -> Option<Line> {
    let follow = |row: &Row| row.figure == "follow" && row.metric == "p50";
    let line = line(results, Mode::Vipnat, &follow)?;
    Some(Line { name: "vipnat run".to_owned(), ..line })
}

/// Colours that colour-blind readers can distinguish too (Okabe and Ito).
fn color(mode: Mode) -> RGBColor {
    match mode {
        Mode::Untouched => RGBColor(120, 120, 120),
        Mode::Before => RGBColor(90, 90, 200),
        Mode::Direct => BLACK,
        Mode::Empty => RGBColor(150, 150, 150),
        Mode::Vipnat => RGBColor(0, 114, 178),
        Mode::IptablesLegacy => RGBColor(213, 94, 0),
        Mode::IptablesNft => RGBColor(204, 121, 167),
        Mode::NftMap => RGBColor(0, 158, 115),
        Mode::Conntrack => RGBColor(190, 150, 0),
        Mode::BesideLegacy | Mode::BesideIptablesNft | Mode::BesideNft => RGBColor(86, 180, 233),
    }
}
