//! Crashes at every step: killed at each operation, or failed there, and what the next command makes
//! of it. What comes out has to be what a fresh apply leaves.

use std::{
    collections::HashSet, fs, io, os::unix::process::ExitStatusExt as _, path::Path,
    process::Command, time::Instant,
};

use nix::{errno::Errno, sys::signal::Signal};
use similar::TextDiff;
use vipnat_common::layout::{LAYOUT, Layout};
use vipnat_tests::{
    App, Cgroup, Outcome, Vipnat,
    faults::{self, Operation, Stopped, Traced},
    outcome, state,
};

use crate::scene::{DB, PORT, Scene, list, strace, table};

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

/// What a command changes that is run to its end.
fn operations(command: &Command) -> Vec<Operation> {
    let Traced { outcome, operations, struck: _ } = faults::traced(command);
    assert!(outcome.status.success(), "{outcome}");
    operations
}

/// Whether it is one of the calls by which aya finds out what the kernel can do. They leave
/// nothing; and if one fails, that is a no to aya, and it does without, or fails later.
fn asks_the_kernel(operation: &Operation) -> bool {
    let Operation { what, object, .. } = operation;
    let load = ["bpf BPF_BTF_LOAD", "bpf BPF_PROG_LOAD"].contains(&what.as_str());
    load && object.is_empty() || object.starts_with("aya_")
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
    let Traced { outcome, operations: done, struck } = match fault {
        Fault::Kill => faults::killed(command, &operations[at]),
        // aya loads a program again, ten times, to hear what the verifier says.
        Fault::Error(errno) if operations[at].what == "bpf BPF_PROG_LOAD" => {
            faults::failed_from(command, &operations[at], &format!("{errno:?}"))
        }
        Fault::Error(errno) => faults::failed(command, &operations[at], &format!("{errno:?}")),
    };
    let struck = struck.unwrap_or_else(|| panic!("nothing came to {}: {outcome}", operations[at]));
    let context = format!("{fault:?} at {at}, {struck}");
    match fault {
        Fault::Kill => {
            let signal = outcome.status.signal();
            assert_eq!(signal, Some(Signal::SIGKILL as i32), "{context}: {outcome}");
            assert_eq!(done.len(), at, "{context}: {done:#?}, before {operations:#?}");
        }
        Fault::Error(errno) => is_reported(&outcome, &struck, errno, &context),
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
    assert!(error.starts_with("vipnat: cannot "), "{context}: {error}");
    // aya opens kept maps in no order, so the fault may come to that. Where it can't open a pin, it tries to
    // make it, and says that it exists.
    if asks_the_kernel(operation) || operation.what == "bpf BPF_OBJ_GET" {
        return;
    }
    assert!(error.contains(&io::Error::from(errno).to_string()), "{context}: {error}");
    let parts: Vec<_> = error.split(": ").collect();
    assert!(parts.windows(2).all(|pair| pair[0] != pair[1]), "{context}: says it once: {error}");
    // For one of many files, the directory with all of them will do; for the record, what it is.
    let object = Path::new(&operation.object);
    let named = |path: &Path| error.contains(&*path.to_string_lossy());
    let named = match object.is_absolute() {
        true if object.starts_with("/run/vipnat") => error.contains("names"),
        true => object.ancestors().take_while(|path| path.components().count() > 4).any(named),
        // A section of the object, which is a map to the kernel.
        false if operation.object.starts_with('.') => error.contains("the eBPF object"),
        false => named(object),
    };
    assert!(named, "{context}: {} in {error}", operation.object);
}

/// The faults of each operation of `apply`, from the first table to the second, and perhaps those on
/// the way back as well.
fn to_and_fro(
    stage: &Stage,
    tables: [&Table; 2],
    also_back: bool,
    exceptions: &[(usize, &str)],
    kill: bool,
) {
    let began = Instant::now();
    let fresh = tables.map(|table| stage.fresh(table));
    for (table, fresh) in tables.iter().zip(&fresh) {
        stage.is_repaired(table, fresh, "without a fault");
        assert_eq!(stage.sees(), table.sees);
    }
    stage.apply(tables[0]);
    // Whose directions are alike every time from now on.
    let operations = [1, 0].map(|to| operations(&stage.apply_command(tables[to])));
    let points = [0, 1].map(|from| {
        let mut points = points(&operations[from], kill);
        points.retain(|(at, _)| !asks_the_kernel(&operations[from][*at]));
        points.retain(|_| from == 0 || also_back);
        points
    });
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

/// The first apply, in two parts: what loads and pins the object, and what comes then, before which it
/// need not be loaded every time.
#[test]
fn killed_and_failed_in_the_first_apply() {
    let began = Instant::now();
    let stage = Stage::new(1);
    let vipnat = &stage.scene.vipnat;
    let nothing = Table { text: String::new(), sees: vec![NOTHING] };
    let table = stage.table(&[("a", 0, list([0, 1]), "")], &["0 0 1 1"]);
    let fresh = stage.fresh(&table);
    let command = stage.apply_command(&table);
    // Much of it leaves nothing, and what is left is repaired once.
    let mut repaired = HashSet::new();
    let mut count = 0;
    let mut strike_all = |operations: &[Operation], reset: &dyn Fn()| {
        for (at, fault) in [points(operations, true), points(operations, false)].concat() {
            reset();
            let context = strike(&command, operations, at, fault);
            stage.works(&[&nothing, &table], &[], &context);
            if repaired.insert(stage.dump()) {
                stage.is_repaired(&table, &fresh, &context);
            }
            count += 1;
        }
    };

    let mut loading = operations(&command);
    let new = vipnat.bpffs().join("new");
    let last = loading.iter().rposition(|operation| Path::new(&operation.object).starts_with(&new));
    let rest = loading.split_off(last.expect("the object is pinned in `new`") + 1);
    strike_all(&loading, &|| {
        vipnat.ok(["flush"]);
        same(&stage.dump(), "", "flush");
    });

    // What is there now, but for the record, which is written last.
    let pinned = |dump: String| dump.split("record ").next().map(str::to_owned);
    vipnat.ok(["flush"]);
    loading.extend(rest);
    strike(&command, &loading, last.unwrap_or_default() + 1, Fault::Kill);
    let loaded = pinned(stage.dump());
    let unload = || {
        vipnat.ok(["flush", "--app", "a"]);
        fs::remove_dir(vipnat.bpffs().join("apps")).unwrap();
        assert_eq!(pinned(stage.dump()), loaded);
    };
    stage.apply(&table);
    unload();
    let rest = operations(&command);
    strike_all(&rest, &|| {
        stage.apply(&table);
        unload();
    });
    println!("{count} points, {} states in {:?}", repaired.len(), began.elapsed());
}

/// An app that gets another name, and one that gets its cgroup; limits and backends change as well.
///
/// A kill between the directory of a new app and its entries once left entries that the next apply
/// could neither use nor make room for.
fn cgroups_change_hands(kill: bool) {
    let stage = Stage::new(2);
    let before =
        stage.table(&[("a", 0, list([0]), ""), ("b", 1, list([2]), "")], &["0 0 0 0", "2 2 2 2"]);
    let after = stage.table(
        &[("a", 1, list([0, 1]), ""), ("c", 0, list([3]), "port = 5432")],
        &["3 3 3 3", "0 0 1 1"],
    );
    // Where an app was, it is for a moment with the backends that it is to have where it will be.
    let exceptions = [(0, "0 0 1 1"), (1, "0 0 0 0")];
    to_and_fro(&stage, [&before, &after], true, &exceptions, kill);
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
    // The way back is of the same kind.
    to_and_fro(&stage, [&before, &after], false, &[], kill);
}

#[test]
fn killed_while_apps_come_and_go() {
    apps_come_and_go(true);
}

#[test]
fn failed_while_apps_come_and_go() {
    apps_come_and_go(false);
}

/// Whether it only makes or fills what has no pin and goes with the process: nothing is left of it.
fn is_fleeting(operation: &Operation) -> bool {
    let makes = ["bpf BPF_BTF_LOAD", "bpf BPF_PROG_LOAD", "bpf BPF_MAP_CREATE"];
    // The map of a section is made, filled and frozen.
    makes.contains(&operation.what.as_str()) || operation.object.starts_with('.')
}

/// A kill at each operation of the `apply` that takes over what another vipnat made. VIPs answer all
/// the time.
fn taking_over(layout: Layout, kill: bool) {
    let began = Instant::now();
    let stage = Stage::new(1);
    let table = stage.table(&[("a", 0, list([0, 1]), "")], &["0 0 1 1"]);
    let fresh = stage.fresh(&table);
    stage.apply(&table);
    let of_another = || {
        let mut bpftool = Command::new("bpftool");
        bpftool
            .args(["map", "update", "pinned"])
            .arg(stage.scene.vipnat.bpffs().join("maps/layout"));
        bpftool.args(["key", "0", "0", "0", "0", "value"]);
        let updated = outcome(bpftool.args(layout.to_bytes().map(|byte| byte.to_string())));
        assert!(updated.status.success(), "{updated}");
    };
    let command = stage.apply_command(&table);
    of_another();
    // Once without looking, so that all that follow are alike.
    stage.apply(&table);
    of_another();
    let operations = operations(&command);
    let points: Vec<_> = points(&operations, kill)
        .into_iter()
        .filter(|(at, _)| !kill || !is_fleeting(&operations[*at]))
        .collect();
    for (at, fault) in &points {
        of_another();
        let context = strike(&command, &operations, *at, *fault);
        stage.works(&[&table], &[], &context);
        stage.is_repaired(&table, &fresh, &context);
    }
    println!("{} points in {:?}", points.len(), began.elapsed());
}

#[test]
fn killed_while_it_takes_over_from_another_build() {
    taking_over(Layout { version: LAYOUT, build: [1, 2, 3, 4], last_scope: 1 }, true);
}

#[test]
fn failed_while_it_takes_over_from_another_build() {
    taking_over(Layout { version: LAYOUT, build: [1, 2, 3, 4], last_scope: 1 }, false);
}

#[test]
fn killed_while_it_takes_over_another_layout() {
    taking_over(Layout { version: LAYOUT + 1, build: [1, 2, 3, 4], last_scope: 1 }, true);
}

#[test]
fn failed_while_it_takes_over_another_layout() {
    taking_over(Layout { version: LAYOUT + 1, build: [1, 2, 3, 4], last_scope: 1 }, false);
}

/// Whatever `attach` had done when it was killed, a second one does the rest, and what is there is what one
/// that was not killed leaves.
#[test]
fn killed_while_it_attaches() {
    let stage = Stage::new(1);
    let cgroup = stage.scene.app.cgroup.relative();
    let text = table(&[("a", cgroup, &list([0, 1]), "")]);
    let text = text.replace(&format!("cgroup = \"{cgroup}\"\n"), "");
    let vipnat = &stage.scene.vipnat;
    let attach = || vipnat.command(["attach", "--app", "a", "--cgroup", cgroup]);
    let begin = || {
        vipnat.ok(["flush"]);
        vipnat.apply(&text);
    };
    begin();
    let operations = operations(&attach());
    vipnat.apply(&text);
    let whole = stage.dump();
    for at in 0..operations.len() {
        begin();
        let context = strike(&attach(), &operations, at, Fault::Kill);
        let seen = stage.sees();
        assert!(seen == ["0 0 1 1"] || seen == [NOTHING], "{context}: {seen:?}");
        let again = outcome(&mut attach());
        assert!(again.status.success(), "{context}: {again}");
        same(&stage.dump(), &whole, &context);
        assert_eq!(vipnat.apply(&text), "nothing to change\n", "{context}");
    }
}

/// After a crash the table before may be applied, too.
#[test]
fn killed_and_applied_back() {
    let began = Instant::now();
    let stage = Stage::new(2);
    let before = stage.table(&[("a", 0, list([0, 1]), "")], &["0 0 1 1", NOTHING]);
    let after = stage.table(
        &[("c", 0, list([2]), ""), ("a", 1, list([0, 3]), "port = 5432")],
        &["2 2 2 2", "0 0 3 3"],
    );
    let fresh = stage.fresh(&before);
    for table in [&before, &after, &before] {
        stage.apply(table);
    }
    let operations = operations(&stage.apply_command(&after));
    stage.apply(&before);
    for at in (0..operations.len()).filter(|at| !asks_the_kernel(&operations[*at])) {
        let context = strike(&stage.apply_command(&after), &operations, at, Fault::Kill);
        stage.works(&[&before, &after], &[(0, "0 0 3 3")], &context);
        stage.is_repaired(&before, &fresh, &context);
    }
    println!("{} operations in {:?}", operations.len(), began.elapsed());
}

/// The faults of each operation of `flush`, which is run again, or is followed by `apply`.
fn flush(apps: usize, kill: bool, again: bool) {
    let began = Instant::now();
    let stage = Stage::new(apps);
    let nothing = Table { text: String::new(), sees: vec![NOTHING; apps] };
    let all = [("a", 0, list([0, 1]), ""), ("b", 1, list([2]), "port = 5432")];
    let table = stage.table(&all[..apps], &["0 0 1 1", "2 2 2 2"][..apps]);
    let fresh = stage.fresh(&table);
    let flush = stage.scene.vipnat.command(["flush"]);
    stage.apply(&table);
    let operations = operations(&flush);
    let points = points(&operations, kill);
    stage.apply(&table);
    for (at, fault) in &points {
        let context = strike(&flush, &operations, *at, *fault);
        stage.works(&[&table, &nothing], &[], &context);
        if again {
            stage.scene.vipnat.ok(["flush"]);
            same(&stage.dump(), "", &context);
            stage.apply(&table);
        } else {
            stage.is_repaired(&table, &fresh, &context);
        }
    }
    println!("{} points in {:?}", points.len(), began.elapsed());
}

/// A kill before the last call once left an empty directory that no flush removed.
#[test]
fn killed_in_flush_and_flushed_again() {
    flush(1, true, true);
}

#[test]
fn killed_in_flush_and_applied_again() {
    flush(2, true, false);
}

#[test]
fn failed_in_flush_and_flushed_again() {
    flush(1, false, true);
}

/// The faults of each operation of `flush --app`, which is run again. What the other app has stays.
fn flush_app(kill: bool) {
    let began = Instant::now();
    let stage = Stage::new(2);
    let other = ("a", 0, list([0, 1]), "");
    let table = stage
        .table(&[other.clone(), ("b", 1, list([2, 3]), "port = 5432")], &["0 0 1 1", "2 2 3 3"]);
    let rest = stage.table(&[other], &["0 0 1 1", NOTHING]);
    let (all, fresh) = (stage.fresh(&table), stage.fresh(&rest));
    let vipnat = &stage.scene.vipnat;
    let flush = vipnat.command(["flush", "--app", "b"]);
    stage.apply(&table);
    let operations = operations(&flush);
    let points = points(&operations, kill);
    for (at, fault) in &points {
        stage.apply(&table);
        same(&stage.dump(), &all, "apply after flush --app");
        let context = strike(&flush, &operations, *at, *fault);
        stage.works(&[&table, &rest], &[], &context);
        let again = vipnat.run(["flush", "--app", "b"]);
        let done = again.code() == Some(1) && again.stderr.contains("no app \"b\"");
        assert!(again.code() == Some(0) || done, "{context}: {again}");
        same(&stage.dump(), &fresh, &context);
    }
    println!("{} points in {:?}", points.len(), began.elapsed());
}

#[test]
fn killed_in_flush_of_an_app() {
    flush_app(true);
}

#[test]
fn failed_in_flush_of_an_app() {
    flush_app(false);
}

/// Every operation of a command after it has locked the state directory.
fn once_locked(operations: &[Operation]) -> impl Iterator<Item = &Operation> {
    operations.iter().skip_while(|operation| !operation.what.starts_with("flock"))
}

/// The file system with the state is unmounted, in a mount namespace of the command's own, so that
/// all is still there for others.
#[test]
fn bpffs_is_lost_on_the_way() {
    let began = Instant::now();
    let stage = Stage::new(3);
    let before = stage.table(
        &[("a", 0, list([0, 1]), ""), ("b", 1, list([2]), "")],
        &["0 0 1 1", "2 2 2 2", NOTHING],
    );
    let after = stage.table(
        &[("a", 0, list([1]), ""), ("c", 2, list([3]), "")],
        &["1 1 1 1", NOTHING, "3 3 3 3"],
    );
    let fresh = stage.fresh(&after);
    let command = || {
        let apply = stage.apply_command(&after);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--"]).arg(apply.get_program()).args(apply.get_args());
        command
    };
    stage.apply(&before);
    let operations = operations(&command());
    // After the lock itself, there is a look at whether the directory is still there: if it is not,
    // all begins from the start, in a new bpffs.
    let points = once_locked(&operations).skip(1).filter(|operation| !asks_the_kernel(operation));
    let mut count = 0;
    for operation in points {
        stage.apply(&before);
        let stopped = Stopped::after(&command(), operation);
        let mut umount = Command::new("nsenter");
        umount.args(["--mount", "--target", &stopped.process().to_string()]);
        umount.args(["umount", "--lazy", "/sys/fs/bpf"]);
        let umounted = outcome(&mut umount);
        assert!(umounted.status.success(), "{umounted}");
        let outcome = stopped.resume();
        let context = format!("lost after {operation}");
        println!("{context}: {}", outcome.stderr.trim_end());
        stage.works(&[&before, &after], &[], &context);
        if outcome.code() == Some(0) {
            same(&stage.dump(), &fresh, &context);
        } else {
            assert_eq!(outcome.code(), Some(1), "{context}: {outcome}");
            let directory = stage.scene.vipnat.bpffs().display().to_string();
            assert!(outcome.stderr.contains(&directory), "{context}: {outcome}");
        }
        stage.is_repaired(&after, &fresh, &context);
        count += 1;
    }
    println!("{count} points in {:?}", began.elapsed());
}

/// The cgroup of an app is removed after each operation of the apply that attaches it.
#[test]
fn a_cgroup_is_removed_on_the_way() {
    let began = Instant::now();
    let stage = Stage::new(1);
    let container = || stage.scene.app.cgroup.child("container");
    let other = ("a", stage.scene.app.cgroup.relative(), list([0, 1]), "");
    let new = container();
    let relative = new.relative().to_owned();
    let before = Table { text: table(&[("a", other.1, &list([2]), "")]), sees: vec!["2 2 2 2"] };
    let text = table(&[("a", other.1, &other.2, ""), ("b", &relative, &list([3]), "")]);
    let after = Table { text, sees: vec!["0 0 1 1"] };
    let dump = |container: &Cgroup| {
        state::dump(&stage.scene.vipnat, &[&stage.scene.app.cgroup, container])
    };
    let fresh = {
        let vipnat = Vipnat::new();
        vipnat.apply(&after.text);
        state::dump(&vipnat, &[&stage.scene.app.cgroup, &new])
    };
    stage.apply(&before);
    let operations = operations(&stage.apply_command(&after));
    let points = once_locked(&operations).filter(|operation| !asks_the_kernel(operation));
    let mut count = 0;
    drop(new);
    for operation in points {
        stage.apply(&before);
        let gone = container();
        let stopped = Stopped::after(&stage.apply_command(&after), operation);
        drop(gone);
        let outcome = stopped.resume();
        let context = format!("removed after {operation}");
        println!("{context}: {}", outcome.stderr.trim_end());
        stage.works(&[&before, &after], &[], &context);
        if outcome.code() != Some(0) {
            assert_eq!(outcome.code(), Some(1), "{context}: {outcome}");
            assert!(outcome.stderr.contains(&relative), "{context}: {outcome}");
        }
        // Without the cgroup, the table cannot be applied.
        let absent = stage.dump();
        let error = stage.scene.vipnat.apply_fails(&after.text, 1);
        assert!(error.contains("does not exist"), "{context}: {error}");
        same(&stage.dump(), &absent, &context);
        let again = container();
        stage.apply(&after);
        same(&dump(&again), &fresh, &context);
        assert_eq!(stage.apply(&after), "nothing to change\n", "{context}");
        count += 1;
    }
    println!("{count} points in {:?}", began.elapsed());
}

/// New lists need room beside the old ones.
#[test]
fn a_table_for_which_a_map_is_too_small_changes_nothing() {
    let stage = Stage::new(1);
    // About as many turns as a service can have: a sixteenth of the map.
    let large = |first: u8| {
        let weight = |n: u8| if n == first { 255 } else { 256 };
        let backend = |n| format!("{{ ip = \"247.221.90.{n}\", weight = {} }}", weight(n));
        let backends: Vec<_> = (first..first + 64).map(backend).collect();
        format!("[services.large]\nbackends = [{}]\n", backends.join(", "))
    };
    let relationships = |count: usize| -> String {
        let relationship = |n| format!("[apps.a.relationships.large{n}]\nservice = \"large\"\n");
        (0..count).map(relationship).collect()
    };
    let table = |first: u8, count: usize| {
        let small = stage.table(&[("a", 0, list([0, 1]), "")], &[]).text;
        small + &large(first) + &relationships(count)
    };
    let vipnat = &stage.scene.vipnat;
    vipnat.apply(&table(0, 9));
    let before = stage.dump();
    for text in [table(0, 17), table(1, 9)] {
        let error = vipnat.apply_fails(&text, 1);
        assert!(error.contains("map `backends`"), "{error}");
        same(&stage.dump(), &before, "a map is full");
        assert_eq!(stage.sees(), ["0 0 1 1"]);
    }
    // What fits is still possible.
    vipnat.apply(&table(0, 2));
    vipnat.apply(&table(1, 3));
    assert_eq!(stage.sees(), ["0 0 1 1"]);
}

/// It once made an apply believe that the state was of another layout, and make everything anew.
#[test]
fn what_cannot_be_read_is_not_taken_for_another_layout() {
    let stage = Stage::new(1);
    let table = stage.table(&[("a", 0, list([0, 1]), "")], &[]);
    stage.apply(&table);
    let before = stage.dump();
    let mut failed = 0;
    for nth in 1.. {
        let inject = format!("inject=bpf:error=ENOMEM:when={nth}");
        let apply = stage.apply_command(&table);
        let applied = outcome(&mut strace(&apply, &["-e", "trace=bpf", "-e", &inject]));
        assert!(!applied.stdout.contains('~'), "{nth}: {applied}");
        if applied.status.success() && !applied.stderr.contains("(INJECTED)") {
            break;
        }
        failed += usize::from(applied.code() == Some(1));
    }
    assert!(failed > 20, "{failed}");
    same(&stage.dump(), &before, "nothing was to be changed");
}
