//! Crashes at every step: killed at each operation, or failed there, and what the next command makes
//! of it. What comes out has to be what a fresh apply leaves.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal::Signal};
use similar::TextDiff;
use vipnat_tests::{
    App, Cgroup, Outcome, Vipnat,
    faults::{self, Operation, Stopped, Traced},
    state,
};

use crate::scene::{DB, PORT, Scene, list, table};

/// What four connects see where nothing translates: there is no route to a VIP.
const NOTHING: &str = "ENETUNREACH ENETUNREACH ENETUNREACH ENETUNREACH";

/// Apps on one host, and four backends for them all.
struct Stage {
    scene: Scene,
    others: Vec<App>,
}

impl Stage {
    fn new(apps: usize) -> Self {
        let scene = Scene::new(4);
        let others = (1..apps).map(|_| App::new(scene.app.host.clone())).collect();
        Self { scene, others }
    }

    fn apps(&self) -> impl Iterator<Item = &App> {
        [&self.scene.app].into_iter().chain(&self.others)
    }

    fn cgroups(&self) -> Vec<&Cgroup> {
        self.apps().map(|app| &app.cgroup).collect()
    }

    /// A table of apps: name, number of the cgroup, the backends of its `db`, more lines for that.
    fn table(&self, apps: &[(&str, usize, String, &str)], sees: &[&'static str]) -> Table {
        let cgroups = self.cgroups();
        let apps: Vec<_> = apps
            .iter()
            .map(|(name, cgroup, backends, lines)| {
                (*name, cgroups[*cgroup].relative(), backends.as_str(), *lines)
            })
            .collect();
        Table { text: table(&apps), sees: sees.to_vec() }
    }

    fn apply(&self, table: &Table) -> String {
        self.scene.vipnat.apply(&table.text)
    }

    fn apply_command(&self, table: &Table) -> Command {
        let file = self.scene.vipnat.table(&table.text);
        self.scene.vipnat.command(["apply".as_ref(), file.as_os_str()])
    }

    fn dump(&self) -> String {
        state::dump(&self.scene.vipnat, &self.cgroups())
    }

    /// What a new instance leaves, while ours has nothing on the cgroups.
    fn fresh(&self, table: &Table) -> String {
        let vipnat = Vipnat::new();
        vipnat.apply(&table.text);
        state::dump(&vipnat, &self.cgroups())
    }

    /// What each app sees of the VIP of `db` now.
    fn sees(&self) -> Vec<String> {
        self.apps().map(sees).collect()
    }

    /// Every app sees what one of the tables says for it, or one of the exceptions: by number of the
    /// app, what it may see in addition.
    #[track_caller]
    fn works(&self, tables: &[&Table], exceptions: &[(usize, &str)], context: &str) {
        for (number, seen) in self.sees().into_iter().enumerate() {
            let mut allowed = tables.iter().map(|table| table.sees[number]);
            let exception = (number, seen.as_str());
            assert!(
                allowed.any(|sees| sees == seen) || exceptions.contains(&exception),
                "{context}: app {number} sees {seen}"
            );
        }
    }

    /// One more apply leaves what a fresh one does, and the one after that nothing to change.
    #[track_caller]
    fn is_repaired(&self, table: &Table, fresh: &str, context: &str) {
        self.apply(table);
        same(&self.dump(), fresh, context);
        assert_eq!(self.apply(table), "nothing to change\n", "{context}");
    }
}

/// A table, and what four connects of each app see under it, by number of the cgroup.
struct Table {
    text: String,
    sees: Vec<&'static str>,
}

/// Who answers four connects to `db`, or why nobody does.
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
fn same(found: &str, expected: &str, context: &str) {
    assert!(
        found == expected,
        "{context}:\n{}",
        TextDiff::from_lines(expected, found).unified_diff().header("expected", "found")
    );
}

/// What happens at an operation.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Error(Errno),
}

/// The errors that an operation may come to.
fn errors(operation: &Operation) -> Vec<Errno> {
    let Operation { what, object, .. } = operation;
    match what.as_str() {
        // Cannot fail: unlocking needs no memory (`flock_lock_inode` in fs/locks.c).
        "flock LOCK_UN" => vec![],
        "flock LOCK_EX|LOCK_NB" => vec![Errno::ENOLCK],
        "openat" | "write" => vec![Errno::ENOSPC],
        "bpf BPF_MAP_UPDATE_ELEM" if object == "vips" => vec![Errno::ENOMEM, Errno::E2BIG],
        _ => vec![Errno::ENOMEM],
    }
}

/// Every operation with every fault of it.
fn points(operations: &[Operation], kill: bool) -> Vec<(usize, Fault)> {
    let faults = |operation: &Operation| match kill {
        true => vec![Fault::Kill],
        false => errors(operation).into_iter().map(Fault::Error).collect(),
    };
    let points = operations.iter().enumerate();
    points.flat_map(|(i, operation)| faults(operation).into_iter().map(move |it| (i, it))).collect()
}

/// Runs a command with a fault at one of its operations.
#[track_caller]
fn strike(command: &Command, operations: &[Operation], at: usize, fault: Fault) -> String {
    let context = format!("{fault:?} at {at}, {}", operations[at]);
    match fault {
        Fault::Kill => {
            let Traced { outcome, operations: done } = faults::killed(command, &operations[at]);
            assert_eq!(outcome.status.signal(), Some(Signal::SIGKILL as i32), "{context}: {outcome}");
            let what = |operations: &[Operation]| -> Vec<_> {
                operations.iter().map(|operation| operation.what.clone()).collect()
            };
            assert_eq!(what(&done), what(&operations[..at]), "{context}: it is always the same");
        }
        Fault::Error(errno) => {
            let Traced { outcome, .. } =
                faults::failed(command, &operations[at], &format!("{errno:?}"));
            is_reported(&outcome, &operations[at], errno, &context);
        }
    }
    context
}

/// What failed is named, with the reason, unless it did no harm.
#[track_caller]
fn is_reported(outcome: &Outcome, operation: &Operation, errno: Errno, context: &str) {
    assert!(!outcome.stderr.contains("panicked"), "{context}: {outcome}");
    if outcome.code() == Some(0) {
        println!("{context}: did no harm: {}", outcome.stderr.trim_end());
        return;
    }
    assert_eq!(outcome.code(), Some(1), "{context}: {outcome}");
    println!("{context}: {}", outcome.stderr.trim_end());
    let error = &outcome.stderr;
    let reason = io::Error::from(errno).to_string();
    assert!(error.starts_with("vipnat: cannot ") && error.contains(&reason), "{context}: {error}");
    // For one of many files, the directory with all of them will do.
    let object = Path::new(&operation.object);
    let named = |path: &Path| error.contains(&*path.to_string_lossy());
    let named = match object.is_absolute() {
        true => object.ancestors().take_while(|path| path.components().count() > 3).any(named),
        false => named(object),
    };
    assert!(named, "{context}: {} in {error}", operation.object);
}

/// The faults of each operation of `apply`, from the first table to the second and back.
fn to_and_fro(stage: &Stage, tables: [&Table; 2], exceptions: &[(usize, &str)], kill: bool) {
    let began = Instant::now();
    let fresh = tables.map(|table| stage.fresh(table));
    for (table, fresh) in tables.iter().zip(&fresh) {
        stage.is_repaired(table, fresh, "without a fault");
        assert_eq!(stage.sees(), table.sees);
    }
    stage.apply(tables[0]);
    // Whose directions are alike every time from now on.
    let operations = [1, 0].map(|to| {
        let Traced { outcome, operations } = faults::traced(&stage.apply_command(tables[to]));
        assert!(outcome.status.success(), "{outcome}");
        operations
    });
    let points = [0, 1].map(|from| points(&operations[from], kill));
    for step in 0..points[0].len().max(points[1].len()) {
        for (from, to) in [(0, 1), (1, 0)] {
            let Some((at, fault)) = points[from].get(step) else {
                stage.apply(tables[to]);
                continue;
            };
            let command = stage.apply_command(tables[to]);
            let context = strike(&command, &operations[from], *at, *fault);
            stage.works(&tables, exceptions, &context);
            stage.is_repaired(tables[to], &fresh[to], &context);
        }
    }
    let count = points[0].len() + points[1].len();
    println!("{count} points in {:?}", began.elapsed());
}

/// The faults of each operation of the first `apply`.
fn first_apply(kill: bool) {
    let began = Instant::now();
    let stage = Stage::new(1);
    let vipnat = &stage.scene.vipnat;
    let nothing = Table { text: String::new(), sees: vec![NOTHING] };
    let table = stage.table(&[("a", 0, list([0, 1]), "")], &["0 0 1 1"]);
    let (empty, fresh) = (stage.dump(), stage.fresh(&table));
    assert_eq!(empty, "");
    let Traced { outcome, operations } = faults::traced(&stage.apply_command(&table));
    assert!(outcome.status.success(), "{outcome}");
    let points = points(&operations, kill);
    for (at, fault) in &points {
        vipnat.ok(["flush"]);
        same(&stage.dump(), &empty, "flush");
        let context = strike(&stage.apply_command(&table), &operations, *at, *fault);
        stage.works(&[&nothing, &table], &[], &context);
        stage.is_repaired(&table, &fresh, &context);
    }
    println!("{} points in {:?}", points.len(), began.elapsed());
}

#[test]
fn killed_in_the_first_apply() {
    first_apply(true);
}

#[test]
fn failed_in_the_first_apply() {
    first_apply(false);
}

/// An app that gets another name, and one that gets its cgroup; limits and backends change as well.
///
/// A kill between the directory of a new app and its entries once left entries that the next apply
/// could neither use nor make room for.
fn cgroups_change_hands(kill: bool) {
    let stage = Stage::new(2);
    let before = stage.table(
        &[("a", 0, list([0]), ""), ("b", 1, list([2]), "")],
        &["0 0 0 0", "2 2 2 2"],
    );
    let after = stage.table(
        &[("a", 1, list([0, 1]), ""), ("c", 0, list([3]), "port = 5432")],
        &["3 3 3 3", "0 0 1 1"],
    );
    // Where an app was, it is for a moment with the backends that it is to have where it will be.
    let exceptions = [(0, "0 0 1 1"), (1, "0 0 0 0")];
    to_and_fro(&stage, [&before, &after], &exceptions, kill);
}

#[test]
fn killed_while_cgroups_change_hands() {
    cgroups_change_hands(true);
}

#[test]
fn failed_while_cgroups_change_hands() {
    cgroups_change_hands(false);
}

/// An app goes, another one comes, and one gets other backends with weights.
fn apps_come_and_go(kill: bool) {
    let stage = Stage::new(3);
    let weights = format!(
        "[{{ ip = \"{}\", weight = 3 }}, {{ ip = \"{}\", port = {PORT} }}]",
        crate::scene::ip(1),
        crate::scene::ip(2)
    );
    let before = stage.table(
        &[("a", 0, list([0, 1]), ""), ("b", 1, list([2]), "")],
        &["0 0 1 1", "2 2 2 2", NOTHING],
    );
    let after = stage.table(
        &[("a", 0, weights, ""), ("c", 2, list([3]), "protocol = \"tcp\"")],
        &["1 1 1 2", NOTHING, "3 3 3 3"],
    );
    to_and_fro(&stage, [&before, &after], &[], kill);
}

#[test]
fn killed_while_apps_come_and_go() {
    apps_come_and_go(true);
}

#[test]
fn failed_while_apps_come_and_go() {
    apps_come_and_go(false);
}
