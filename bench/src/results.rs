//! The measured values.

use serde::Serialize;

use crate::{
    machine::Machine,
    modes::Mode,
    protocol::Position,
    shape::Shape,
    stats::{Ratio, Spread},
};

/// The subject of a row of values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// The heading above the row.
    pub(crate) figure: &'static str,
    pub(crate) what: String,
    /// Such as `p50`, `p99` or `mean`.
    pub(crate) metric: &'static str,
    pub(crate) unit: Unit,
    #[serde(flatten)]
    pub(crate) shape: Shape,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<Position>,
}

/// The unit of values. Smaller values are always better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    /// In percent of one CPU.
    Percent,
}

/// The values of a mode, one for each round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    #[serde(flatten)]
    pub(crate) row: Row,
    pub(crate) mode: Mode,
    pub(crate) spread: Option<Spread>,
    pub(crate) rounds: Vec<f64>,
}

/// All results of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) notes: Vec<String>,
    pub(crate) series: Vec<Series>,
}

impl Results {
    /// Adds the value of a round.
    pub(crate) fn add(&mut self, row: &Row, mode: Mode, value: f64) {
        match self.series.iter_mut().find(|series| series.mode == mode && series.row == *row) {
            Some(series) => series.rounds.push(value),
            None => self.series.push(Series {
                row: row.clone(),
                mode,
                spread: None,
                rounds: vec![value],
            }),
        }
    }

    /// Computes the spread of each series, once all values are there.
    pub(crate) fn finish(&mut self) {
        for series in &mut self.series {
            series.spread = Some(Spread::of(&series.rounds));
        }
    }

    /// All rows, in the order of their first measurement.
    pub(crate) fn all_rows(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = Vec::new();
        for series in &self.series {
            if !rows.contains(&&series.row) {
                rows.push(&series.row);
            }
        }
        rows
    }

    pub(crate) fn median(&self, row: &Row, mode: Mode) -> Option<f64> {
        Some(Spread::of(self.values(row, mode)?).median)
    }

    pub(crate) fn values(&self, row: &Row, mode: Mode) -> Option<&[f64]> {
        let series = self.series.iter().find(|series| series.mode == mode && series.row == *row)?;
        Some(&series.rounds)
    }

    /// The ratio of one mode to another in a row.
    pub(crate) fn ratio(&self, row: &Row, above: Mode, below: Mode) -> Option<Ratio> {
        Some(Ratio::of(self.values(row, above)?, self.values(row, below)?))
    }
}
