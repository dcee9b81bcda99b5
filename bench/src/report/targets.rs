//! The targets, and whether the results meet them.

mod change;
mod fleet;

use std::fmt::Write as _;

use serde::Serialize;

use super::tables::{bytes, percent, time};
use crate::{
    figures::FLEET,
    modes::Mode,
    protocol::{Operation, Position},
    results::{Results, Row},
    shape::Shape,
    stats::{Ratio, Spread},
};

/// A target, that is, a promise about figures, with the worst measured value.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    line: String,
    limit: Limit,
    value: Option<f64>,
    /// The row with the worst value.
    at: String,
    /// The p-value of the permutation test for that row.
    p: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// In nanoseconds.
    Within(f64),
    /// In bytes.
    Bytes(f64),
    /// In percent of one CPU.
    Percent(f64),
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit)
            | Self::Within(limit)
            | Self::Bytes(limit)
            | Self::Percent(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::AtMost(_) | Self::AtLeast(_) => format!("{value:.3}"),
            Self::Within(_) => time(value),
            Self::Bytes(_) => bytes(value),
            Self::Percent(_) => percent(value),
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
            Self::Within(limit) => format!("≤ {}", time(limit)),
            Self::Bytes(limit) => format!("≤ {}", bytes(limit)),
            Self::Percent(limit) => format!("≤ {limit} %"),
        }
    }
}

/// Selects rows.
type Choice<'a> = &'a dyn Fn(&Row) -> bool;

pub(crate) fn all(results: &Results) -> Vec<Target> {
    use Limit::{AtLeast, AtMost, Bytes, Within};
    use Mode::{Direct, Empty, IptablesLegacy, IptablesNft, NftMap, Vipnat};
    use Operation as O;

    let judge = Judge { results };
    let is = |row: &Row, operation: O| row.what == operation.to_string() && row.metric == "p50";
    let hot = |row: &Row| row.position != Some(Position::Cold);
    let same_vip = |row: &Row| matches!(row.position, Some(Position::First | Position::Last));
    let rules = [IptablesLegacy, IptablesNft];
    let faster = |vips| {
        move |row: &Row| {
            is(row, O::TcpConnect)
                && row.shape.vips == vips
                && row.position == Some(Position::Random)
        }
    };
    let any_traffic = |row: &Row| {
        let other = [O::UdpReconnect, O::UdpFresh, O::UdpFreshElsewhere, O::UdpFreshNoVip];
        let connects = other.iter().any(|operation| row.what == operation.to_string());
        ["connect", "traffic", "bulk"].contains(&row.figure)
            && row.metric == "p50"
            && !connects
            && hot(row)
    };
    vec![
        judge.ratio(
            "TCP connect() through vipnat ÷ direct",
            AtMost(1.04),
            Vipnat,
            &[Direct],
            &|r| is(r, O::TcpConnect) && hot(r),
        ),
        judge.ratio(
            "rate of connect, request, response, close through vipnat ÷ direct",
            AtLeast(0.98),
            Direct,
            &[Vipnat],
            &|r| is(r, O::TcpCrr),
        ),
        judge.ratio(
            "rate of request, response through vipnat ÷ direct",
            AtLeast(0.99),
            Direct,
            &[Vipnat],
            &|r| is(r, O::TcpRr),
        ),
        judge.ratio("bulk through vipnat ÷ direct", AtLeast(0.99), Direct, &[Vipnat], &|r| {
            is(r, O::TcpBulk)
        }),
        judge.slower(
            "vipnat ÷ rules, in any row in which both do something, lower quartile",
            AtMost(1.0),
            &[IptablesLegacy, IptablesNft, NftMap],
            &any_traffic,
        ),
        judge.ratios(
            "TCP connect(): one rule of iptables ÷ vipnat",
            AtLeast(1.15),
            &rules,
            &faster(1),
        ),
        judge.ratios("10,000 rules ÷ vipnat", AtLeast(2.0), &rules, &faster(10_000)),
        judge.ratios("60,000 rules ÷ vipnat", AtLeast(10.0), &rules, &faster(60_000)),
        judge.ratio(
            "UDP connect() again, to one VIP ÷ empty programs",
            AtMost(1.15),
            Vipnat,
            &[Empty],
            &|r| is(r, O::UdpReconnect) && same_vip(r),
        ),
        judge.ratio(
            "UDP connect() again, to another VIP each time ÷ empty programs",
            AtMost(1.15),
            Vipnat,
            &[Empty],
            &|r| is(r, O::UdpReconnect) && r.position == Some(Position::Hot),
        ),
        judge.ratio(
            "UDP socket, connect, close ÷ empty programs",
            AtMost(1.18),
            Vipnat,
            &[Empty],
            &|r| is(r, O::UdpFresh),
        ),
        judge.ratio(
            "the same to an address elsewhere ÷ empty programs",
            AtMost(1.05),
            Vipnat,
            &[Empty],
            &|r| is(r, O::UdpFreshElsewhere),
        ),
        judge.ratio(
            "the same to 169.254/16, no VIP ÷ empty programs",
            AtMost(1.05),
            Vipnat,
            &[Empty],
            &|r| is(r, O::UdpFreshNoVip),
        ),
        judge.ratio(
            "UDP send(), connected ÷ empty programs",
            AtMost(1.01),
            Vipnat,
            &[Empty],
            &|r| is(r, O::UdpSend),
        ),
        judge.ratio(
            "UDP sendto() in a flow ÷ empty programs",
            AtMost(1.08),
            Vipnat,
            &[Empty],
            &|r| is(r, O::UdpSendto),
        ),
        judge.hooks(AtMost(1.3)),
        judge.value("apply of 60,000 from nothing", Within(1e9), &|r| {
            r.what == "from nothing" && r.shape == Shape::one_app(60_000)
        }),
        judge.ratio(
            "apply of 60,000 from nothing ÷ iptables-restore",
            AtMost(1.0),
            Vipnat,
            &rules,
            &|r| r.what == "from nothing" && r.shape == Shape::one_app(60_000),
        ),
        judge.value("memory for each of 60,000 VIPs with one backend", Bytes(160.0), &|r| {
            r.what == "maps, for each VIP with one backend" && r.shape == Shape::one_app(60_000)
        }),
        judge.sockets(Bytes(200.0)),
    ]
    .into_iter()
    .chain(change::all(&judge))
    .chain(fleet::all(&judge))
    .collect()
}

struct Judge<'a> {
    results: &'a Results,
}

impl Judge<'_> {
    /// Judges the worst ratio of `above` to any mode of `below`, among the chosen rows.
    fn ratio(
        &self,
        line: &str,
        limit: Limit,
        above: Mode,
        below: &[Mode],
        choice: Choice<'_>,
    ) -> Target {
        let pairs: Vec<_> = below.iter().map(|below| (above, *below)).collect();
        self.worst(line, limit, &pairs, |spread| spread.median, choice)
    }

    /// Judges the worst ratio of any mode of `above` to vipnat.
    fn ratios(&self, line: &str, limit: Limit, above: &[Mode], choice: Choice<'_>) -> Target {
        let pairs: Vec<_> = above.iter().map(|above| (*above, Mode::Vipnat)).collect();
        self.worst(line, limit, &pairs, |spread| spread.median, choice)
    }

    /// Judges whether vipnat is slower than another mode in three of four rounds.
    ///
    /// It uses the lower quartile: among this many rows, the median of one is above the limit by chance.
    fn slower(&self, line: &str, limit: Limit, below: &[Mode], choice: Choice<'_>) -> Target {
        let pairs: Vec<_> = below.iter().map(|below| (Mode::Vipnat, *below)).collect();
        self.worst(line, limit, &pairs, |spread| spread.low, choice)
    }

    fn worst(
        &self,
        line: &str,
        limit: Limit,
        pairs: &[(Mode, Mode)],
        figure: impl Fn(Spread) -> f64,
        choice: Choice<'_>,
    ) -> Target {
        let rows = self.rows(choice);
        let all = rows.iter().flat_map(|row| pairs.iter().map(move |pair| (row, pair)));
        let found = all.filter_map(|(row, &(above, below))| {
            let ratio = self.results.ratio(row, above, below)?;
            let mut at = place(row);
            if pairs.len() > 1 {
                let other = if above == Mode::Vipnat { below } else { above };
                at += &format!(", {other}");
            }
            Some((figure(ratio.spread), at, Some(ratio.p)))
        });
        Target::new(line, limit, found)
    }

    /// Judges the worst median of vipnat.
    fn value(&self, line: &str, limit: Limit, choice: Choice<'_>) -> Target {
        let rows = self.rows(choice);
        let found = rows
            .iter()
            .filter_map(|row| Some((self.results.median(row, Mode::Vipnat)?, place(row), None)));
        Target::new(line, limit, found)
    }

    /// Judges the worst ratio of the values of rows to those of another row.
    fn apart(&self, line: &str, limit: Limit, above: Choice<'_>, below: Choice<'_>) -> Target {
        let (rows, below) = (self.rows(above), self.rows(below));
        let values = |row: &Row| self.results.values(row, Mode::Vipnat);
        let found = rows.iter().filter_map(|row| {
            let ratio = Ratio::of(values(row)?, values(below.first()?)?);
            Some((ratio.spread.median, place(row), Some(ratio.p)))
        });
        Target::new(line, limit, found)
    }

    /// Judges the time in hooks beyond an empty program: the ratio of the most VIPs to the fewest.
    fn hooks(&self, limit: Limit) -> Target {
        let rows = self.rows(&|row| row.figure == "hooks");
        let net = |row: &Row| -> Option<Vec<f64>> {
            let vipnat = self.results.values(row, Mode::Vipnat)?;
            let empty = self.results.values(row, Mode::Empty)?;
            Some(vipnat.iter().zip(empty).map(|(vipnat, empty)| vipnat - empty).collect())
        };
        let found = rows.iter().filter(|row| row.shape.vips > 10).filter_map(|most| {
            let few = rows.iter().find(|row| row.shape.vips == 10 && row.what == most.what)?;
            let ratio = Ratio::of(&net(most)?, &net(few)?);
            Some((ratio.spread.median, place(most), Some(ratio.p)))
        });
        let line = "time in a hook beyond the empty program, most VIPs ÷ 10 VIPs, hot";
        Target::new(line, limit, found)
    }

    /// Judges the memory of a connected socket, beyond that of a socket behind empty programs.
    fn sockets(&self, limit: Limit) -> Target {
        let rows = self.rows(&|row| row.what == "each connected UDP socket");
        let found = rows.iter().filter_map(|row| {
            let median = |mode| self.results.median(row, mode);
            Some((median(Mode::Vipnat)? - median(Mode::Empty)?, place(row), None))
        });
        Target::new("memory for each connected socket", limit, found)
    }

    fn rows(&self, choice: Choice<'_>) -> Vec<&Row> {
        self.results.all_rows().into_iter().filter(|row| choice(row)).collect()
    }
}

impl Target {
    fn new(
        line: &str,
        limit: Limit,
        found: impl Iterator<Item = (f64, String, Option<f64>)>,
    ) -> Self {
        let worse = |value: f64| if matches!(limit, Limit::AtLeast(_)) { -value } else { value };
        let worst = found.max_by(|(a, ..), (b, ..)| worse(*a).total_cmp(&worse(*b)));
        let (value, at, p) =
            worst.map_or((None, String::new(), None), |(v, at, p)| (Some(v), at, p));
        Self { line: line.to_owned(), limit, value, at, p }
    }

    /// Whether a value was measured for it.
    pub(super) fn is_measured(&self) -> bool {
        self.value.is_some()
    }
}

fn place(row: &Row) -> String {
    let Row { figure, what, metric: _, unit: _, shape, position } = row;
    let mut text = match shape {
        Shape { apps: 1, vips: 1 } => "1 VIP".to_owned(),
        Shape { apps: 1, .. } => format!("{shape} VIPs"),
        many => many.to_string(),
    };
    if let Some(position) = position {
        text += &format!(", {position}");
    }
    // These figures have several kinds of rows, so the place names the kind.
    if ["connect", "traffic", "bulk", "hooks", FLEET].contains(figure) {
        text = format!("{what}, {text}");
    }
    text
}

/// Formats the targets as a table.
pub(crate) fn table(targets: &[Target]) -> String {
    let mut text = "| what | worst | limit | holds | where | p |\n\
                    | --- | ---: | ---: | --- | --- | ---: |\n"
        .to_owned();
    for Target { line, limit, value, at, p } in targets {
        let (shown, holds) = match value {
            Some(value) if limit.holds(*value) => (limit.show(*value), "yes"),
            Some(value) => (limit.show(*value), "**no**"),
            None => (String::new(), "not measured"),
        };
        let p = p.map_or(String::new(), |p| format!("{p:.4}"));
        let _ = writeln!(text, "| {line} | {shown} | {} | {holds} | {at} | {p} |", limit.text());
    }
    text
}
