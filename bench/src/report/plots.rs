//! Draws the results as plots.

use std::{ops::Range, path::Path};

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::tables::{grouped, time};
use crate::{
    modes::Mode,
    protocol::{Operation, Position},
    results::{Results, Row},
};

const SIZE: (u32, u32) = (820, 460);
const FONT: &str = "sans-serif";

/// Time over the number of VIPs, with a line for each mode.
struct Plot<'a> {
    file: &'a str,
    title: &'a str,
    rows: Vec<&'a Row>,
}

/// Draws each plot that has at least two points.
pub(crate) fn draw(results: &Results, directory: &Path) -> Result<()> {
    let choose = |choice: &dyn Fn(&Row) -> bool| {
        results.all_rows().into_iter().filter(|row| choice(row)).collect::<Vec<_>>()
    };
    let random = |operation: Operation| {
        choose(&|row| {
            row.what == operation.to_string()
                && row.metric == "p50"
                && row.position == Some(Position::Random)
        })
    };
    let plots = [
        Plot {
            file: "connect-time.svg",
            title: "TCP connect() to any of the VIPs, median",
            rows: random(Operation::TcpConnect),
        },
        Plot {
            file: "udp-time.svg",
            title: "UDP: socket, connect, send, close, to any of the VIPs, median",
            rows: random(Operation::UdpFlow),
        },
        Plot {
            file: "apply-time.svg",
            title: "Loading all VIPs",
            rows: choose(&|row| row.what == "from nothing"),
        },
        Plot {
            file: "change-time.svg",
            title: "Changing one of the VIPs",
            rows: choose(&|row| row.what == "one change"),
        },
    ];
    for plot in plots.iter().filter(|plot| plot.rows.len() > 1) {
        plot.draw(results, &directory.join(plot.file))
            .map_err(|error| anyhow!("draw {}: {error}", plot.file))?;
    }
    Ok(())
}

impl Plot<'_> {
    fn draw(&self, results: &Results, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let lines: Vec<(Mode, Vec<(f64, f64)>)> = Mode::ALL
            .into_iter()
            .map(|mode| (mode, self.points(results, mode)))
            .filter(|(_, points)| !points.is_empty())
            .collect();
        let all = || lines.iter().flat_map(|(_, points)| points);
        let across = span(all().map(|(vips, _)| *vips));
        let up = span(all().map(|(_, time)| *time));

        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, (FONT, 20))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(72)
            // Room for the names of the lines.
            .margin_right(150)
            .build_cartesian_2d(
                across.clone().log_scale(),
                // The axis starts at a power of ten, because only those have labels.
                (10_f64.powf((up.start / 1.1).log10().floor())..up.end * 1.3).log_scale(),
            )?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_desc("VIPs")
            .label_style((FONT, 14))
            .x_label_formatter(&|vips| grouped(vips.round() as u32))
            .y_label_formatter(&|nanoseconds| time(*nanoseconds))
            .draw()?;
        let mut ends = Vec::new();
        for (mode, points) in &lines {
            let color = color(*mode);
            let width = if *mode == Mode::Vipnat { 3 } else { 2 };
            chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(width)))?;
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
            let (x, y) = chart.backend_coord(points.last().expect("a line has points"));
            ends.push((y, x, *mode));
        }
        // Writes each name at the end of its line, in the order of the lines.
        ends.sort_unstable_by_key(|(y, ..)| *y);
        let heights = apart(ends.iter().map(|(y, ..)| *y).collect());
        for ((_, x, mode), height) in ends.iter().zip(heights) {
            let style = (FONT, 14).into_font().color(&color(*mode));
            area.draw(&Text::new(mode.to_string(), (x + 10, height - 7), style))?;
        }
        area.present()?;
        Ok(())
    }

    fn points(&self, results: &Results, mode: Mode) -> Vec<(f64, f64)> {
        let point = |row: &&Row| Some((f64::from(row.shape.vips), results.median(row, mode)?));
        let mut points: Vec<_> = self.rows.iter().filter_map(point).collect();
        points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        points
    }
}

/// Moves heights apart until names fit, and keeps their order. Two heights that are too close share the
/// distance.
fn apart(mut heights: Vec<i32>) -> Vec<i32> {
    const NAME: i32 = 15;
    for _ in 0..100 {
        for i in 1..heights.len() {
            let missing = NAME - (heights[i] - heights[i - 1]);
            if missing > 0 {
                heights[i - 1] -= missing / 2;
                heights[i] += missing - missing / 2;
            }
        }
    }
    heights
}

fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    low..high.max(low * 1.01)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_order_and_do_not_overlap() {
        let heights = apart(vec![10, 100, 101, 101, 300]);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= 15), "{heights:?}");
        assert_eq!((heights[0], heights[4]), (10, 300));
        assert!((heights[2] - 101).abs() <= 2, "{heights:?}");
    }
}
