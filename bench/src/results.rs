//! The measured values.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    machine::Machine,
    modes::Mode,
    protocol::Position,
    shape::Shape,
    stats::{Ratio, Spread},
};

/// A text of the program. Without this name for the type, serde would borrow from the input.
type Literal = &'static str;

/// The subject of a row of values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The heading above the row.
    #[serde(deserialize_with = "leaked")]
    pub(crate) figure: Literal,
    pub(crate) what: String,
    /// Such as `p50`, `p99` or `mean`.
    #[serde(deserialize_with = "leaked")]
    pub(crate) metric: Literal,
    pub(crate) unit: Unit,
    #[serde(flatten)]
    pub(crate) shape: Shape,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<Position>,
}

/// Reads a text that the program otherwise has as a literal.
fn leaked<'de, D: Deserializer<'de>>(from: D) -> Result<Literal, D::Error> {
    String::deserialize(from).map(|text| &*text.leak())
}

/// The unit of values. Smaller values are always better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    /// In percent of one CPU.
    Percent,
}

/// The values of a mode, one for each round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    #[serde(flatten)]
    pub(crate) row: Row,
    pub(crate) mode: Mode,
    pub(crate) spread: Option<Spread>,
    pub(crate) rounds: Vec<f64>,
}

/// All results of a run.
#[derive(Debug, Serialize, Deserialize)]
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
