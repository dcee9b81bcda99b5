//! Reports each problem and warning once, although `vipnat run` meets it again and again.

use std::{collections::HashSet, mem};

use anyhow::Error;

use super::report::Report;
use crate::input::with_reasons;
use crate::reconcile::{Applied, Connections};

/// The largest number of problems to report between two reconciliations.
const MAX_PROBLEMS: usize = 32;

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Remembers what was reported.
pub(crate) struct Reporter {
    report: Box<dyn Report>,
    /// The reason why the table of the source is not in force, if it is not.
    refusal: Option<String>,
    /// A warning that other users can read the passwords of the table, if they can.
    exposed: Option<String>,
    /// The problems that were reported last.
    problems: Vec<String>,
    /// What other programs changed, as it was reported.
    named: HashSet<String>,
    /// The warnings of the present reconciliation, and of the changes since.
    warnings: Vec<String>,
    /// The warnings of the reconciliation before.
    former_warnings: Vec<String>,
}

impl Reporter {
    pub(crate) fn new(report: Box<dyn Report>) -> Self {
        Self {
            report,
            refusal: None,
            exposed: None,
            problems: Vec::new(),
            named: HashSet::new(),
            warnings: Vec::new(),
            former_warnings: Vec::new(),
        }
    }

    /// Reports that the table of this source is followed from now on.
    pub(crate) fn following(&self, source: &str) {
        self.report.following(source);
    }

    /// Reports what an apply did.
    pub(crate) fn applied(&self, applied: &Applied) {
        self.report.applied(applied);
    }

    /// Reports connections that were ended.
    pub(crate) fn ended(&self, ended: &[Connections]) {
        self.report.ended(ended);
    }

    /// Notes the reason why the table of the source is not used.
    pub(crate) fn refuse(&mut self, error: &Error) {
        self.refuse_for(&with_reasons(error));
    }

    /// Notes the reason, which is escaped already.
    pub(crate) fn refuse_for(&mut self, reason: &str) {
        self.refusal = Some(format!("{reason}\n    the previous table stays in force"));
    }

    /// Notes that the table of the source is used.
    pub(crate) fn accept(&mut self) {
        // The next refusal for the same reason is reported again.
        if let Some(refusal) = self.refusal.take() {
            self.problems.retain(|problem| *problem != refusal);
        }
    }

    /// Notes whether other users can read the passwords of the table.
    pub(crate) fn set_exposed(&mut self, exposed: Option<String>) {
        self.exposed = exposed;
    }

    /// Begins a reconciliation. Its warnings are not reported if the one before had them.
    pub(crate) fn begin(&mut self) {
        self.former_warnings = mem::take(&mut self.warnings);
    }

    /// Reports the warnings that the reconciliation before did not have.
    pub(crate) fn warn(&mut self, warnings: &[String]) {
        for warning in warnings {
            if self.warnings.contains(warning) {
                continue;
            }
            if !self.former_warnings.contains(warning) {
                self.report.warning(warning);
            }
            // Many changes may come between two reconciliations.
            if self.warnings.len() < MAX_PROBLEMS {
                self.warnings.push(warning.clone());
            }
        }
    }

    /// Reports what another program changed in the state. It is repaired, and named once.
    pub(crate) fn repairs(&mut self, differences: &[String], count: u64) {
        let new = differences.iter().filter(|what| !self.named.contains(*what));
        let new: Vec<_> = new.take(MAX_PROBLEMS).cloned().collect();
        if new.is_empty() {
            return;
        }
        self.report.warning(&format!(
            "another program changed the state, and vipnat repairs it ({} so far): {}",
            times(count),
            new.join("; ")
        ));
        self.named.extend(new);
        if self.named.len() > 10 * MAX_PROBLEMS {
            self.named.clear();
        }
    }

    /// Reports a problem between two reconciliations.
    pub(crate) fn problem(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&problem) {
            self.report.problem(&problem);
            self.problems.push(problem);
        }
    }

    /// Reports problems beside those that are known: a change looks at a part of the state alone. Returns the
    /// first line of the first one, if there is one.
    pub(crate) fn more_problems(&mut self, problems: Vec<String>) -> Option<String> {
        let more = self.refusal.iter().cloned().chain(problems).chain(self.exposed.clone());
        more.collect::<Vec<_>>().into_iter().for_each(|problem| self.problem(problem));
        let exposed = self.exposed.as_ref();
        let first = self.problems.iter().find(|problem| Some(*problem) != exposed)?;
        first.lines().next().map(str::to_owned)
    }

    /// Reports the problems of a reconciliation that were not reported before. Returns the first line of
    /// the first one, if there is one.
    pub(crate) fn problems(&mut self, problems: Vec<String>) -> Option<String> {
        let mut all: Vec<_> = self.refusal.iter().cloned().collect();
        for problem in problems {
            if !all.contains(&problem) {
                all.push(problem);
            }
        }
        let first = all.first().and_then(|problem| problem.lines().next()).map(str::to_owned);
        // Exposed passwords are reported too, but the table is in force.
        all.extend(self.exposed.clone());
        for new in all.iter().filter(|problem| !self.problems.contains(problem)) {
            self.report.problem(new);
        }
        self.problems = all;
        first
    }
}
