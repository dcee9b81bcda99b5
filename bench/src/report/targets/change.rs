//! The targets for one change.

use super::{Judge, Limit, Target};
use crate::{results::Row, shape::Shape};

/// The largest table of one app.
const MOST: Shape = Shape::one_app(60_000);

/// The targets for one change: inside an agent, through its file, and by `apply`.
pub(super) fn all(judge: &Judge<'_>) -> Vec<Target> {
    use Limit::{Bytes, Within};

    fn with<'a>(
        figure: &'a str,
        what: &'a str,
        metric: &'a str,
        shape: Shape,
    ) -> impl Fn(&Row) -> bool {
        move |row| {
            row.figure == figure
                && row.what.contains(what)
                && row.metric == metric
                && row.shape == shape
        }
    }
    let machine = Shape::MACHINE;
    let (decoded, file) = ("to the last write: one VIP", "to the first connect");
    vec![
        judge.value(
            "decoded change to last write, 300 apps × 3",
            Within(0.2e6),
            &with("change", decoded, "p50", machine),
        ),
        judge.value(
            "decoded change to last write, 300 apps × 3, p99",
            Within(1e6),
            &with("change", decoded, "p99", machine),
        ),
        judge.value(
            "decoded change to last write, 60,000 VIPs",
            Within(1e6),
            &with("change", decoded, "p50", MOST),
        ),
        judge.value(
            "file change to first connect, 300 apps × 3",
            Within(2e6),
            &with("follow", file, "p50", machine),
        ),
        judge.value(
            "file change to first connect, 300 apps × 3, p99",
            Within(5e6),
            &with("follow", file, "p99", machine),
        ),
        judge.value(
            "file change to first connect, 60,000 VIPs",
            Within(25e6),
            &with("follow", file, "p50", MOST),
        ),
        judge.value("apply of one change in 60,000", Within(30e6), &|row| {
            row.what == "one change" && row.shape == MOST
        }),
        judge.value("growth of memory over 100,000 changes", Bytes(1e6), &|row| {
            row.what.contains("growth over 100,000 changes")
        }),
    ]
}
