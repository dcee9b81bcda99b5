//! Apps with tables, and the checks after a fault.

use std::process::Command;

use similar::TextDiff;
use vipnat_common::abi::capacity;
use vipnat_testkit::{App, Cgroup, Vipnat, state};

use crate::scene::{DB, PORT, Scene, table};

/// The results of four connects without translation: there is no route to a VIP.
pub(super) const NOTHING: &str = "ENETUNREACH ENETUNREACH ENETUNREACH ENETUNREACH";

/// Apps on one host, and four backends for them all.
pub(super) struct Stage {
    pub(super) scene: Scene,
    others: Vec<App>,
}

impl Stage {
    pub(super) fn new(apps: usize) -> Self {
        let scene = Scene::new(4);
        let others = (1..apps).map(|_| App::new(scene.app.host.clone())).collect();
        Self { scene, others }
    }

    pub(super) fn apps(&self) -> impl Iterator<Item = &App> {
        [&self.scene.app].into_iter().chain(&self.others)
    }

    fn cgroups(&self) -> Vec<&Cgroup> {
        self.apps().map(|app| &app.cgroup).collect()
    }

    /// A table of apps: name, number of the cgroup, the backends of its `db`, more lines for that.
    pub(super) fn table(
        &self,
        apps: &[(&str, usize, String, &str)],
        sees: &[&'static str],
    ) -> Table {
        let cgroups = self.cgroups();
        let apps: Vec<_> = apps
            .iter()
            .map(|(name, cgroup, backends, lines)| {
                (*name, cgroups[*cgroup].relative(), backends.as_str(), *lines)
            })
            .collect();
        Table { text: table(&apps), sees: sees.to_vec() }
    }

    pub(super) fn apply(&self, table: &Table) -> String {
        self.scene.vipnat.apply(&table.text)
    }

    pub(super) fn apply_command(&self, table: &Table) -> Command {
        let file = self.scene.vipnat.table(&table.text);
        self.scene.vipnat.command(["apply".as_ref(), file.as_os_str()])
    }

    pub(super) fn dump(&self) -> String {
        state::dump(&self.scene.vipnat, &self.cgroups())
    }

    /// The same, beside a `run` that may change it.
    pub(super) fn dump_beside_run(&self) -> String {
        state::dump_beside_run(&self.scene.vipnat, &self.cgroups())
    }

    /// The state that a new instance leaves, while ours has no links on the cgroups.
    pub(super) fn fresh(&self, table: &Table) -> String {
        let vipnat = Vipnat::new();
        vipnat.apply(&table.text);
        state::dump(&vipnat, &self.cgroups())
    }

    /// The backends that answer each app at the VIP of `db` now.
    pub(super) fn sees(&self) -> Vec<String> {
        self.apps().map(sees).collect()
    }

    /// Checks that every app sees what one of the tables gives it, or one of the exceptions. An exception is
    /// the number of an app, and a further result that it may see.
    #[track_caller]
    pub(super) fn works(&self, tables: &[&Table], exceptions: &[(usize, &str)], context: &str) {
        for (number, seen) in self.sees().into_iter().enumerate() {
            let mut allowed = tables.iter().map(|table| table.sees[number]);
            let exception = (number, seen.as_str());
            assert!(
                allowed.any(|sees| sees == seen) || exceptions.contains(&exception),
                "{context}: app {number} sees {seen}"
            );
        }
    }

    /// An apply reclaims the retired slots if they are a sixteenth of all. In tests of other things, all
    /// applies should do the same, so this keeps the number small.
    pub(super) fn keep_rested_slots_few(&self, tables: [&Table; 2]) {
        if state::resting(&self.scene.vipnat) > capacity::BACKENDS as usize / 20 {
            self.scene.vipnat.ok(["flush"]);
            // Give links to all cgroups, as before.
            for table in tables.iter().rev().chain(&tables) {
                self.apply(table);
            }
        }
    }

    /// Checks that one more apply leaves the same state as a fresh one. The next one must have nothing to
    /// change.
    #[track_caller]
    pub(super) fn is_repaired(&self, table: &Table, fresh: &str, context: &str) {
        self.apply(table);
        same(&self.dump(), fresh, context);
        assert_eq!(self.apply(table), "nothing to change\n", "{context}");
    }
}

/// A table, and the results of four connects of each app under it, by number of the cgroup.
pub(super) struct Table {
    pub(super) text: String,
    pub(super) sees: Vec<&'static str>,
}

/// The backends that answer four connects to `db`, or the error.
fn sees(app: &App) -> String {
    let reports = app.probes(&format!("tcp {DB}:{PORT} --count 4"));
    let mut seen = Vec::new();
    for report in &reports {
        if report.ok {
            assert_eq!(report.peer(), format!("{DB}:{PORT}"), "{report:?}");
        }
        seen.push(if report.ok { report.banner() } else { report.error() });
    }
    seen.sort_unstable();
    seen.join(" ")
}

#[track_caller]
pub(super) fn same(found: &str, expected: &str, context: &str) {
    assert!(
        found == expected,
        "{context}:\n{}",
        TextDiff::from_lines(expected, found).unified_diff().header("expected", "found")
    );
}
