//! The tests that run in a machine, by groups, and the reader of libtest's output.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use vipnat_testkit::vm::{End, Event, LEFT_OUT, NOT_RUN, Step};
use xshell::cmd;

use super::report::{Group, Outcome, Test};
use crate::{
    build,
    command::{CmdExt as _, cargo, root, shell},
};

/// Time limit of a group, in seconds. In emulation on an idle host, the slowest groups take one minute.
const LIMIT: u64 = 600;

/// Slow groups, and their time limit in seconds.
const LONG: [&str; 3] = ["reconcile::crash_points", "dataplane::churn", "conformance"];
const LONG_LIMIT: u64 = 1800;

/// The packages that have tests to run in a machine.
const PACKAGES: [&str; 3] = ["vipnat-testkit", "vipnat-conformance", "vipnat-integration"];

/// A test binary.
#[derive(Clone, Debug)]
struct Binary {
    path: PathBuf,
    /// The folder of its package, where it runs.
    folder: PathBuf,
}

/// A group of tests of one binary: a module of it, or all of it.
#[derive(Debug)]
pub(super) struct Suite {
    name: String,
    binary: Binary,
    tests: Vec<String>,
}

/// Builds the tests, puts their binaries into a folder, and lists the tests that match one of `filters`.
///
/// A filter is a part of a test's name, or `GROUP::`. That may be a group of groups. Without filters, all
/// tests match.
pub(super) fn list(folder: &Path, filters: &[String]) -> Result<Vec<Suite>> {
    let (sh, cargo) = (shell(), cargo());
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    let built =
        cmd!(sh, "{cargo} test {packages...} --no-run --message-format json").read_stdout()?;
    let mut suites = Vec::new();
    for (target, built) in test_binaries(&built) {
        let binary = Binary { path: folder.join(&target), folder: built.folder };
        build::link_or_copy(&built.path, &binary.path)?;
        let program = &binary.path;
        let list = cmd!(sh, "{program} --list --format terse").read_stdout()?;
        suites.extend(group(&target, &binary, &list, filters));
    }
    // The slowest groups run last.
    suites.sort_by_key(|suite| LONG.iter().position(|name| *name == suite.name));
    for filter in filters {
        let names = || suites.iter().flat_map(|suite| &suite.tests);
        let known = match filter.strip_suffix("::") {
            Some(name) => suites.iter().any(|suite| is_in(&suite.name, name)),
            None => names().any(|test| test.contains(filter)),
        };
        ensure!(known, "no test has {filter} in its name, and no group is called so");
    }
    Ok(suites)
}

/// The test binaries in cargo's messages, by name.
fn test_binaries(messages: &str) -> BTreeMap<String, Binary> {
    let mut binaries = BTreeMap::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let target = &message["target"];
        if target["kind"][0] == "test"
            && let (Some(name), Some(path), Some(manifest)) = (
                target["name"].as_str(),
                message["executable"].as_str(),
                message["manifest_path"].as_str(),
            )
            && let Some(folder) = Path::new(manifest).parent()
        {
            let binary = Binary { path: path.into(), folder: folder.to_owned() };
            binaries.insert(name.to_owned(), binary);
        }
    }
    binaries
}

/// The suites of a binary that lists these tests.
fn group(target: &str, binary: &Binary, list: &str, filters: &[String]) -> Vec<Suite> {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for test in list.lines().filter_map(|line| line.strip_suffix(": test")) {
        let group = group_of(test).unwrap_or(target);
        let wanted = |filter: &String| match filter.strip_suffix("::") {
            Some(name) => is_in(group, name),
            None => test.contains(filter),
        };
        if filters.is_empty() || filters.iter().any(wanted) {
            groups.entry(group).or_default().push(test.to_owned());
        }
    }
    let suite =
        |(name, tests): (&str, _)| Suite { name: name.to_owned(), binary: binary.clone(), tests };
    groups.into_iter().map(suite).collect()
}

/// The group of a test: the first two modules of its path, such as `dataplane::connect`.
fn group_of(test: &str) -> Option<&str> {
    let (modules, _) = test.rsplit_once("::")?;
    let end = modules.match_indices("::").nth(1).map_or(modules.len(), |(second, _)| second);
    Some(&modules[..end])
}

/// Whether a group is `name` or belongs to it: `dataplane` contains `dataplane::connect`.
fn is_in(group: &str, name: &str) -> bool {
    group.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl Suite {
    /// The step that a machine runs.
    pub(super) fn step(&self) -> Step {
        Step {
            name: self.name.clone(),
            program: self.binary.path.clone(),
            arguments: ["--exact"]
                .map(str::to_owned)
                .into_iter()
                .chain(self.tests.clone())
                .collect(),
            folder: self.binary.folder.clone(),
            seconds: if LONG.contains(&&*self.name) { LONG_LIMIT } else { LIMIT },
        }
    }

    /// The outcome of the suite.
    pub(super) fn results(&self, events: &[Event]) -> Group {
        let mut lines = Lines::default();
        let begins = |event: &Event| matches!(event, Event::Begins(name) if *name == self.name);
        let Some(start) = events.iter().position(begins) else {
            let why = "the machine ended before".to_owned();
            let test = |name: &String| Test::new(name, Outcome::Unfinished(why.clone()));
            return Group::new(&self.name, self.tests.iter().map(test).collect(), None);
        };
        let mut ended = None;
        for event in &events[start + 1..] {
            match event {
                Event::Output(line) => lines.output.push(line),
                Event::Error(line) => lines.error.push(line),
                Event::Ends { end, seconds } => {
                    ended = Some((*end, *seconds));
                    break;
                }
                Event::Alive => {}
                Event::Begins(_) | Event::Done { .. } => break,
            }
        }
        let why = match ended {
            None => "the machine ended meanwhile".to_owned(),
            Some((End::TimedOut, seconds)) => format!("not done after {seconds:.0} s"),
            Some((end, _)) => format!("the tests ended: {end:?}"),
        };
        let mut tests: Vec<_> =
            self.tests.iter().map(|name| Test::new(name, lines.outcome(name, &why))).collect();
        // Parts that a test leaves out, which it reports under another name.
        type Kind = fn(String) -> Outcome;
        for (prefix, outcome) in [(NOT_RUN, Outcome::Skipped as Kind), (LEFT_OUT, Outcome::InPart)]
        {
            for line in lines.error.iter().filter_map(|line| line.strip_prefix(prefix)) {
                if let Some((name, reason)) = line.split_once(": ")
                    && !self.tests.iter().any(|test| test == name)
                {
                    tests.push(Test::new(name, outcome(reason.to_owned())));
                }
            }
        }
        // The program may fail after all its tests have passed.
        let fine =
            |test: &Test| !matches!(test.outcome, Outcome::Failed(_) | Outcome::Unfinished(_));
        if !matches!(ended, Some((End::Exited(0), _))) && tests.iter().all(fine) {
            tests.push(Test::new(&self.name, Outcome::Unfinished(why)));
        }
        let mut group = Group::new(&self.name, tests, ended.map(|(_, seconds)| seconds));
        if !group.failed().is_empty() {
            group.error = lines.error.join("\n");
        }
        group
    }
}

/// The output of a test binary.
#[derive(Default)]
struct Lines<'a> {
    output: Vec<&'a str>,
    error: Vec<&'a str>,
}

impl Lines<'_> {
    /// The outcome of a test. If the test has not ended, `why` is the reason.
    fn outcome(&self, name: &str, why: &str) -> Outcome {
        let said = |line: &&str| -> Option<String> {
            let rest = line.strip_prefix("test ")?.strip_prefix(name)?;
            // "test NAME - should panic ... ok"
            let result =
                rest.strip_prefix(" - should panic").unwrap_or(rest).strip_prefix(" ... ")?;
            Some(result.to_owned())
        };
        let reasons = |prefix: &str| -> Option<String> {
            let reason = |line: &&str| -> Option<String> {
                let rest = line.strip_prefix(prefix)?.strip_prefix(name)?.strip_prefix(": ")?;
                Some(rest.to_owned())
            };
            let reasons: Vec<_> = self.error.iter().filter_map(reason).collect();
            (!reasons.is_empty()).then(|| reasons.join("; "))
        };
        match self.output.iter().find_map(said).as_deref() {
            Some("ok") => match (reasons(NOT_RUN), reasons(LEFT_OUT)) {
                (Some(why), _) => Outcome::Skipped(why),
                (None, Some(what)) => Outcome::InPart(what),
                (None, None) => Outcome::Passed,
            },
            Some(result) if result.starts_with("ignored") => {
                let reason = result.trim_start_matches("ignored").trim_start_matches(", ");
                Outcome::Skipped(if reason.is_empty() { "ignored" } else { reason }.to_owned())
            }
            Some(_) => Outcome::Failed(self.output_of(name)),
            None => Outcome::Unfinished(why.to_owned()),
        }
    }

    /// The output of a failed test, which libtest shows at the end.
    fn output_of(&self, name: &str) -> String {
        let head = format!("---- {name} stdout ----");
        let from = self.output.iter().skip_while(|line| **line != head).skip(1);
        let own = from.take_while(|line| !line.starts_with("---- ") && **line != "failures:");
        own.copied().collect::<Vec<_>>().join("\n").trim().to_owned()
    }
}

/// A step without a test binary: vipnat must refuse this command with exactly these words.
pub(super) struct Refusal {
    pub(super) test: &'static str,
    pub(super) script: String,
    pub(super) says: String,
}

/// The group of these steps.
const REFUSAL: &str = "refusal";

impl Refusal {
    pub(super) fn step(&self) -> Step {
        Step {
            name: format!("{REFUSAL}::{}", self.test),
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), self.script.clone()],
            folder: root().to_owned(),
            seconds: 120,
        }
    }

    pub(super) fn results(&self, events: &[Event]) -> Group {
        let name = self.step().name;
        let own =
            events.iter().skip_while(|event| !matches!(event, Event::Begins(one) if *one == name));
        let mut said = Vec::new();
        let mut ended = None;
        for event in own.skip(1) {
            match event {
                Event::Output(line) | Event::Error(line) => said.push(line.as_str()),
                Event::Ends { end, seconds } => {
                    ended = Some((*end, *seconds));
                    break;
                }
                Event::Alive => {}
                Event::Begins(_) | Event::Done { .. } => break,
            }
        }
        let said = said.join("\n");
        let outcome = match ended {
            None => Outcome::Unfinished("the machine ended before".to_owned()),
            Some((End::Exited(1), _)) if said == self.says => Outcome::Passed,
            Some((end, _)) => {
                Outcome::Failed(format!("{end:?}, and said\n{said}\nnot\n{}", self.says))
            }
        };
        Group::new(REFUSAL, vec![Test::new(self.test, outcome)], ended.map(|(_, seconds)| seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary() -> Binary {
        Binary { path: "binary".into(), folder: "folder".into() }
    }

    fn suite(tests: &[&str]) -> Suite {
        let tests = tests.iter().map(ToString::to_string).collect();
        Suite { name: "apply".to_owned(), binary: binary(), tests }
    }

    fn events(lines: &[&str], end: Option<End>) -> Vec<Event> {
        let mut events = vec![Event::Begins("apply".to_owned())];
        for line in lines {
            events.push(match line.strip_prefix("! ") {
                Some(line) => Event::Error(line.to_owned()),
                None => Event::Output(line.to_string()),
            });
        }
        events.extend(end.map(|end| Event::Ends { end, seconds: 1.5 }));
        events
    }

    fn outcomes(group: &Group) -> Vec<(&str, &Outcome)> {
        group.tests.iter().map(|test| (test.name.as_str(), &test.outcome)).collect()
    }

    #[test]
    fn what_libtest_says_is_understood() {
        let suite =
            suite(&["apply::a", "apply::aa", "apply::b", "apply::c", "apply::d", "apply::e"]);
        let lines = [
            "running 4 tests",
            "test apply::aa ... ok",
            "test apply::a ... FAILED",
            "! NOT RUN: apply::c: there is no sun",
            "test apply::c ... ok",
            "! LEFT OUT: apply::e: the end",
            "test apply::e ... ok",
            "! NOT RUN: case: no time",
            "test apply::b ... ignored, too hot",
            "failures:",
            "---- apply::a stdout ----",
            "thread panicked",
            "",
            "failures:",
            "    apply::a",
        ];
        let group = suite.results(&events(&lines, Some(End::Exited(101))));
        let text = str::to_owned;
        assert_eq!(
            outcomes(&group),
            [
                ("apply::a", &Outcome::Failed(text("thread panicked"))),
                ("apply::aa", &Outcome::Passed),
                ("apply::b", &Outcome::Skipped(text("too hot"))),
                ("apply::c", &Outcome::Skipped(text("there is no sun"))),
                ("apply::d", &Outcome::Unfinished(text("the tests ended: Exited(101)"))),
                ("apply::e", &Outcome::InPart(text("the end"))),
                ("case", &Outcome::Skipped(text("no time"))),
            ]
        );
        assert_eq!(group.failed().len(), 2);
    }

    #[test]
    fn tests_of_a_machine_that_ends_or_hangs_have_failed() {
        let suite = suite(&["apply::a", "apply::b"]);
        for (events, reason) in [
            (events(&["test apply::a ... ok"], None), "the machine ended meanwhile"),
            (events(&["test apply::a ... ok"], Some(End::TimedOut)), "not done after 2 s"),
        ] {
            let group = suite.results(&events);
            assert_eq!(group.tests[0].outcome, Outcome::Passed);
            assert_eq!(group.tests[1].outcome, Outcome::Unfinished(reason.to_owned()));
        }
        assert_eq!(suite.results(&[]).failed().len(), 2);
    }

    #[test]
    fn groups_are_the_first_two_modules() {
        let list = "cli::apply::a: test\ncli::apply::deep::b: test\ncli::flush::c: test\n\
                    climb::apply::d: test\nd: test\n";
        let names = |filters: &[&str]| -> Vec<(String, usize)> {
            let filters: Vec<_> = filters.iter().map(ToString::to_string).collect();
            let suites = group("integration", &binary(), list, &filters);
            suites.into_iter().map(|suite| (suite.name, suite.tests.len())).collect()
        };
        let text = str::to_owned;
        let [apply, flush, climb] =
            [("cli::apply", 2), ("cli::flush", 1), ("climb::apply", 1)].map(|(n, c)| (text(n), c));
        let rest = (text("integration"), 1);
        assert_eq!(names(&[]), [apply.clone(), flush.clone(), climb, rest.clone()]);
        assert_eq!(names(&["apply::deep", "integration::"]), [(text("cli::apply"), 1), rest]);
        // A group of groups.
        assert_eq!(names(&["cli::"]), [apply.clone(), flush]);
        // A group, but not one of the same name inside another group.
        assert_eq!(names(&["cli::apply::"]), [apply]);
        assert_eq!(names(&["apply::"]), []);
    }
}
