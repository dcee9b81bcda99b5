//! The targets for a fleet.

use super::{Judge, Limit, Target};
use crate::{figures::FLEET, results::Row};

/// The targets for a fleet.
///
/// Where no user waits, a target limits CPU time. The fleet of a smoke run is smaller.
pub(super) fn all(judge: &Judge<'_>) -> Vec<Target> {
    use Limit::{AtMost, Bytes, Percent, Within};

    fn with<'a>(parts: &'a [&'a str], metric: &'a str) -> impl Fn(&Row) -> bool {
        move |row| {
            row.figure == FLEET
                && row.metric == metric
                && parts.iter().all(|part| row.what.contains(part))
        }
    }
    let (wall, cpu, share) = ("wall time", "CPU time", "share of a CPU");
    let list = "4,000 apps: list";
    vec![
        judge.value(
            "1,000 apps lose a backend: apply",
            Within(1e9),
            &with(&["1,000 apps with", "lose a backend: apply"], wall),
        ),
        judge.value(
            "an attach meanwhile",
            Within(1e9),
            &with(&["1,000 apps with", "lose a backend: an attach"], wall),
        ),
        judge.value(
            "apply of one app with 2,000 cgroups by a pattern, CPU time",
            Within(1e9),
            &with(&["one app with 2,000"], cpu),
        ),
        judge.apart(
            "apply without a change, CPU time: 3,000 apps with a pattern each ÷ 1,000",
            AtMost(4.0),
            &with(&["of 3,000 apps", "without"], cpu),
            &with(&["of 1,000 apps", "without"], cpu),
        ),
        judge.value("list of 240,000 VIPs, CPU time", Within(2e9), &with(&[list], cpu)),
        judge.value(
            "list of 240,000 VIPs, memory",
            Bytes(200e6),
            &with(&[list], "memory, at most"),
        ),
        judge.apart(
            "an attach beside it, the longest ÷ one with nothing beside it",
            AtMost(3.0),
            &with(&[list, "an attach meanwhile"], wall),
            &with(&["4,000 apps: an attach with nothing"], wall),
        ),
        judge.apart(
            "run, a container starts, CPU time: beside 5,000 apps ÷ beside 50",
            AtMost(2.0),
            &with(&["run, 5,000 apps: a container"], cpu),
            &with(&["run, 50 apps: a container"], cpu),
        ),
        judge.value(
            "run, a container starts beside 1,000 or 5,000 apps, mkdir to last hook, p99",
            Within(5e6),
            &with(&[",000 apps: a container"], "p99"),
        ),
        judge.value(
            "run while 20 cgroups of others come or go a second, 5,000 apps",
            Percent(0.5),
            &with(&["run, 5,000 apps: 20 cgroups"], share),
        ),
        judge.value(
            "run at rest, 5,000 apps",
            Percent(0.5),
            &with(&["5,000 apps, at rest"], share),
        ),
        judge.value(
            "run while cgroups of others come and go, 5,000 apps",
            Percent(5.0),
            &with(&["run, 5,000 apps: 200 cgroups"], share),
        ),
        judge.value(
            "run while they do beside 20,000 of theirs",
            Percent(5.0),
            &with(&["beside 20,000 cgroups"], share),
        ),
        judge.value(
            "run while one does a second, 1,000 apps with a pattern each",
            Percent(5.0),
            &with(&["run, 1,000 apps with a pattern"], share),
        ),
    ]
}
