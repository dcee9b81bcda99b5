//! Draws one plot: time over the number of VIPs of one app, with a line for each mode.

use std::{error::Error, ops::Range};

use plotters::{coord::Shift, prelude::*};

use super::{
    axis::{axis, label},
    names::apart,
};
use crate::{report::grouped, shape::Shape};

const FONT: &str = "sans-serif";
/// The size of all text but the title.
const SIZE: i32 = 14;

/// A line and its name.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) color: RGBColor,
    pub(super) width: u32,
    /// Numbers of VIPs of one app, ascending, with their times.
    pub(super) points: Vec<(f64, f64)>,
    /// The time with [`Shape::MACHINE`], drawn as a square.
    pub(super) machine: Option<f64>,
}

/// A plot.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) lines: Vec<Line>,
}

impl Panel {
    pub(super) fn has_lines(&self) -> bool {
        !self.lines.is_empty()
    }

    pub(super) fn draw(
        &self,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
    ) -> Result<(), Box<dyn Error>> {
        let Self { title, lines } = self;
        let points = || lines.iter().flat_map(|line| &line.points);
        let machines = || lines.iter().filter_map(|line| line.machine);
        let across = span(points().map(|(vips, _)| *vips));
        let (up, labels) = axis(&span(points().map(|(_, time)| *time).chain(machines())));
        let mut chart = ChartBuilder::on(area)
            .caption(title, (FONT, 18))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(64)
            // Room for the names of the lines.
            .margin_right(120)
            .build_cartesian_2d(
                across.log_scale().with_key_points(measured(lines)),
                up.log_scale().with_key_points(labels),
            )?;
        let mut below = "VIPs of one app".to_owned();
        if machines().next().is_some() {
            below += &format!(" (squares: {})", Shape::MACHINE);
        }
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_desc(below)
            .label_style((FONT, SIZE))
            .x_label_formatter(&|vips| grouped(vips.round() as u32))
            .y_label_formatter(&|nanoseconds| label(*nanoseconds))
            .draw()?;
        let mut ends = Vec::new();
        for Line { name, color, width, points, machine } in lines {
            chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(*width)))?;
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
            chart.draw_series(machine.iter().map(|time| {
                EmptyElement::at((f64::from(Shape::MACHINE.vips), *time))
                    + Rectangle::new([(-4, -4), (4, 4)], color.filled())
            }))?;
            let (x, y) = chart.backend_coord(points.last().expect("a line has points"));
            ends.push((y, x, name, color));
        }
        // Writes each name at the end of its line, in the order of the lines.
        ends.sort_by_key(|(y, ..)| *y);
        let heights = apart(ends.iter().map(|(y, ..)| *y).collect());
        let (left, top) = area.get_base_pixel();
        for ((_, x, name, color), height) in ends.into_iter().zip(heights) {
            let style = (FONT, SIZE).into_font().color(color);
            area.draw(&Text::new(name.clone(), (x + 10 - left, height - 7 - top), style))?;
        }
        Ok(())
    }
}

/// The numbers of VIPs that were measured.
fn measured(lines: &[Line]) -> Vec<f64> {
    let mut all: Vec<_> =
        lines.iter().flat_map(|line| &line.points).map(|(vips, _)| *vips).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    low..high.max(low * 1.01)
}
