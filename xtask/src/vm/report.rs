//! The results of the tests, kernel by kernel, as a table and as JSON.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

/// The results of one run.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) kernels: Vec<KernelReport>,
    pub(super) not_run: Vec<NotRun>,
}

/// A kernel whose tests were not run.
#[derive(Serialize)]
pub(super) struct NotRun {
    pub(super) kernel: String,
    pub(super) why: String,
}

/// The results on one kernel.
#[derive(Serialize)]
pub(super) struct KernelReport {
    /// The name from the command line.
    pub(super) kernel: String,
    /// The release that the kernel reports.
    pub(super) release: String,
    /// `KVM` or `emulation`.
    pub(super) by: String,
    /// Problems of machines whose tests did not begin. Another machine replaced each.
    pub(super) failed_starts: Vec<String>,
    pub(super) seconds: f64,
    pub(super) groups: Vec<Group>,
    /// A problem of the machine itself.
    pub(super) problem: Option<String>,
}

/// Tests that belong together.
#[derive(Serialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) seconds: Option<f64>,
    pub(super) tests: Vec<Test>,
    /// Its standard error, if a test failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) error: String,
}

#[derive(Serialize)]
pub(super) struct Test {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// The outcome of a test.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "why")]
pub(super) enum Outcome {
    Passed,
    /// Its output.
    Failed(String),
    /// The part that it left out.
    InPart(String),
    /// The reason.
    Skipped(String),
    /// It may have begun; the reason.
    Unfinished(String),
}

impl Test {
    pub(super) fn new(name: &str, outcome: Outcome) -> Self {
        Self { name: name.to_owned(), outcome }
    }
}

impl Group {
    pub(super) fn new(name: &str, tests: Vec<Test>, seconds: Option<f64>) -> Self {
        Self { name: name.to_owned(), seconds, tests, error: String::new() }
    }

    /// Failed tests.
    pub(super) fn failed(&self) -> Vec<&Test> {
        let failed =
            |test: &&Test| matches!(test.outcome, Outcome::Failed(_) | Outcome::Unfinished(_));
        self.tests.iter().filter(failed).collect()
    }

    /// Tests that left out a part, and the part; tests that did not run, and the reason.
    fn left_out(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tests.iter().filter_map(|test| match &test.outcome {
            Outcome::InPart(what) | Outcome::Skipped(what) => {
                Some((test.name.as_str(), what.as_str()))
            }
            _ => None,
        })
    }

    /// A cell of the table.
    pub(super) fn summary(&self) -> String {
        let count =
            |is: fn(&Outcome) -> bool| self.tests.iter().filter(|test| is(&test.outcome)).count();
        let counts = [
            (count(|outcome| *outcome == Outcome::Passed), "ok"),
            (count(|outcome| matches!(outcome, Outcome::InPart(_))), "in part"),
            (count(|outcome| matches!(outcome, Outcome::Failed(_))), "FAILED"),
            (count(|outcome| matches!(outcome, Outcome::Unfinished(_))), "NOT DONE"),
            (count(|outcome| matches!(outcome, Outcome::Skipped(_))), "skipped"),
        ];
        let parts = counts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts.map(|(count, what)| format!("{count} {what}")).collect();
        parts.join(", ")
    }
}

impl KernelReport {
    pub(super) fn is_good(&self) -> bool {
        self.problem.is_none() && self.groups.iter().all(|group| group.failed().is_empty())
    }

    /// Every failure, with its output.
    pub(super) fn failures(&self) -> String {
        let mut text = String::new();
        let mut say = |line: String| text.push_str(&(line + "\n"));
        for group in &self.groups {
            for test in group.failed() {
                let (Outcome::Failed(what) | Outcome::Unfinished(what)) = &test.outcome else {
                    continue;
                };
                say(format!("==== {}: {}\n{what}", self.release, test.name));
            }
            if !group.error.is_empty() {
                let (release, name) = (&self.release, &group.name);
                say(format!("==== {release}: standard error of {name}\n{}", group.error));
            }
        }
        if let Some(problem) = &self.problem {
            say(format!("==== {}: {problem}", self.release));
        }
        text
    }
}

impl Report {
    pub(super) fn is_good(&self) -> bool {
        self.kernels.iter().all(KernelReport::is_good)
    }

    /// A Markdown table: a column for each kernel, a row for each group. Omitted parts and reasons follow.
    pub(super) fn table(&self) -> String {
        let mut groups: Vec<&str> = Vec::new();
        for group in self.kernels.iter().flat_map(|kernel| &kernel.groups) {
            if !groups.contains(&group.name.as_str()) {
                groups.push(&group.name);
            }
        }
        let cell = |kernel: &KernelReport, name: &str| {
            let group = kernel.groups.iter().find(|group| group.name == name);
            group.map_or_else(|| "–".to_owned(), Group::summary)
        };
        let mut rows = vec![self.row("", |kernel| kernel.release.clone())];
        for name in groups {
            rows.push(self.row(name, |kernel| cell(kernel, name)));
        }
        rows.push(self.row("the machine", |kernel| {
            let outcome = if kernel.problem.is_some() { "FAILED" } else { "ok" };
            match kernel.failed_starts.len() {
                0 => outcome.to_owned(),
                failed => format!("{outcome}, at start {}", failed + 1),
            }
        }));
        rows.push(self.row("time", |kernel| format!("{:.0} s, {}", kernel.seconds, kernel.by)));
        for (row, cells) in rows.iter_mut().enumerate() {
            let cell =
                |one: &NotRun| if row == 0 { one.kernel.clone() } else { "NOT RUN".to_owned() };
            cells.extend(self.not_run.iter().map(cell));
        }
        let why = |one: &NotRun| format!("\nNOT RUN: {}: {}\n", one.kernel, one.why);
        markdown(&rows) + &self.left_out() + &self.not_run.iter().map(why).collect::<String>()
    }

    fn row(&self, head: &str, cell: impl Fn(&KernelReport) -> String) -> Vec<String> {
        [head.to_owned()].into_iter().chain(self.kernels.iter().map(cell)).collect()
    }

    /// The parts that were left out, each once, with the kernels.
    fn left_out(&self) -> String {
        let mut all: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for kernel in &self.kernels {
            for left_out in kernel.groups.iter().flat_map(Group::left_out) {
                all.entry(left_out).or_default().push(&kernel.kernel);
            }
        }
        let mut text = String::new();
        if !all.is_empty() {
            text += "\nSkipped, or run in part:\n\n";
        }
        for ((name, reason), kernels) in all {
            let everywhere = kernels.len() == self.kernels.len();
            let place =
                if everywhere { String::new() } else { format!(" ({})", kernels.join(", ")) };
            writeln!(text, "- `{name}`{place}: {reason}").expect("a string takes everything");
        }
        text
    }
}

/// A table with columns of the least width.
fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!("| {cell:width$} "));
        cells.collect::<String>() + "|\n"
    };
    let rule: Vec<_> = widths.iter().map(|&width| "-".repeat(width)).collect();
    let body: String = rows.iter().skip(1).map(|row| line(row)).collect();
    rows.first().map(|row| line(row)).unwrap_or_default() + &line(&rule) + &body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str, outcome: Outcome) -> KernelReport {
        let tests = vec![Test::new("apply::a", Outcome::Passed), Test::new("apply::b", outcome)];
        KernelReport {
            kernel: name.to_owned(),
            release: format!("{name}.0"),
            by: "emulation".to_owned(),
            failed_starts: Vec::new(),
            seconds: 12.3,
            groups: vec![Group::new("apply", tests, Some(2.0))],
            problem: None,
        }
    }

    #[test]
    fn nothing_is_skipped_silently_and_nothing_fails_so() {
        let skipped = kernel("6.1", Outcome::Skipped("no sun".to_owned()));
        let failed = kernel("7.2", Outcome::Failed("it rained".to_owned()));
        let why = "the archive can't be reached".to_owned();
        let not_run = vec![NotRun { kernel: "6.12".to_owned(), why }];
        let report = Report { kernels: vec![skipped, failed], not_run };
        assert!(!report.is_good());
        assert_eq!(
            report.table(),
            "\
|             | 6.1.0           | 7.2.0           | 6.12    |
| ----------- | --------------- | --------------- | ------- |
| apply       | 1 ok, 1 skipped | 1 ok, 1 FAILED  | NOT RUN |
| the machine | ok              | ok              | NOT RUN |
| time        | 12 s, emulation | 12 s, emulation | NOT RUN |

Skipped, or run in part:

- `apply::b` (6.1): no sun

NOT RUN: 6.12: the archive can't be reached
"
        );
        assert!(report.kernels[1].failures().contains("==== 7.2.0: apply::b\nit rained"));
    }

    #[test]
    fn a_machine_that_fails_is_a_failure() {
        let mut kernel = kernel("6.1", Outcome::Passed);
        assert!(kernel.is_good());
        kernel.problem = Some("panic".to_owned());
        assert!(!kernel.is_good());
        let report = Report { kernels: vec![kernel], not_run: Vec::new() };
        assert!(report.kernels[0].failures().contains("panic"));
    }
}
