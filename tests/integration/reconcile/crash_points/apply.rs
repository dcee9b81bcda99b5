//! Crashes in `apply` and `attach`: the first apply, changes of the table, and take-over from another build.

use std::{collections::HashSet, fs, path::Path, process::Command, time::Instant};

use vipnat_common::abi::{LAYOUT, Layout, capacity};
use vipnat_testkit::{faults::Operation, outcome, state};

use super::{
    points::{Fault, asks_the_kernel, operations, points, sample, strike, to_and_fro},
    stage::{NOTHING, Stage, Table, same},
};
use crate::scene::{PORT, ip, list, table};

/// The first apply, in two parts: it loads and pins the object, and then does the rest. The second part does
/// not load the object each time.
#[test]
fn killed_and_failed_in_the_first_apply() {
    let began = Instant::now();
    let stage = Stage::new(1);
    let vipnat = &stage.scene.vipnat;
    let nothing = Table { text: String::new(), sees: vec![NOTHING] };
    let table = stage.table(&[("a", 0, list([0, 1]), "")], &["0 0 1 1"]);
    let fresh = stage.fresh(&table);
    let command = stage.apply_command(&table);
    // Many faults leave the same state, and this repairs each state once.
    let mut repaired = HashSet::new();
    let mut count = 0;
    let mut strike_all = |operations: &[Operation], reset: &dyn Fn()| {
        let all = [points(operations, true), points(operations, false)].concat();
        for (at, fault) in sample(all) {
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

    // The pinned state without the name index, which is written last.
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

/// An app is renamed, and another app gets its cgroup. Limits and backends change as well.
///
/// A kill between the directory of a new app and its entries once left entries behind. The next apply
/// could neither use them nor make room for them.
fn cgroups_change_hands(kill: bool) {
    let stage = Stage::new(2);
    let before =
        stage.table(&[("a", 0, list([0]), ""), ("b", 1, list([2]), "")], &["0 0 0 0", "2 2 2 2"]);
    let after = stage.table(
        &[("a", 1, list([0, 1]), ""), ("c", 0, list([3]), "port = 5432")],
        &["3 3 3 3", "0 0 1 1"],
    );
    // In its old cgroup, an app for a moment has the backends that it will have in its new one.
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

/// One app is removed, another one is added, and one gets other backends with weights.
fn apps_come_and_go(kill: bool) {
    let stage = Stage::new(3);
    let weights =
        format!("[{{ ip = \"{}\", weight = 3 }}, {{ ip = \"{}\", port = {PORT} }}]", ip(1), ip(2));
    let before = stage.table(
        &[("a", 0, list([0, 1]), ""), ("b", 1, list([2]), "")],
        &["0 0 1 1", "2 2 2 2", NOTHING],
    );
    let after = stage.table(
        &[("a", 0, weights, ""), ("c", 2, list([3]), "protocol = \"tcp\"")],
        &["1 1 1 2", NOTHING, "3 3 3 3"],
    );
    // The way back makes changes of the same kinds.
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

/// A kill at each operation of the `apply` of a table that outgrows the maps, except those that only load.
#[test]
fn killed_while_maps_grow() {
    let stage = Stage::new(1);
    let small = stage.table(&[("a", 0, list([0, 1]), "")], &["0 0 1 1"]);
    let mut large = stage.table(&[("a", 0, list([2, 3]), "")], &["2 2 3 3"]);
    large.text += "[services.many]\nbackends = [\"247.221.81.0\"]\n";
    for n in 0..capacity::VIPS {
        large.text += &format!(
            "[apps.a.relationships.many{n}]\nservice = \"many\"\nvip = \"169.254.{}.{}\"\n",
            1 + n / 256,
            n % 256
        );
    }
    let fresh = stage.fresh(&large);
    let prepare = || {
        stage.scene.vipnat.ok(["flush"]);
        stage.apply(&small);
    };
    prepare();
    let operations = operations(&stage.apply_command(&large));
    // Leave out those that come last, as in any apply: the number of files opened before them depends on the
    // cgroups of the machine.
    let leaves = |(at, _): &(usize, Fault)| {
        let operation = &operations[*at];
        !is_fleeting(operation) && !["openat", "write"].contains(&operation.what.as_str())
    };
    for (at, fault) in points(&operations, true).into_iter().filter(leaves) {
        prepare();
        let context = strike(&stage.apply_command(&large), &operations, at, fault);
        stage.works(&[&small, &large], &[], &context);
        stage.is_repaired(&large, &fresh, &context);
    }
}

/// A service with a list of turns so long that each apply reclaims the old one.
fn slots_are_reclaimed(kill: bool) {
    let stage = Stage::new(1);
    let many = |first: u8| {
        let [a, b] = [first, first + 1].map(ip);
        format!("[{{ ip = \"{a}\", weight = 204 }}, {{ ip = \"{b}\", weight = 205 }}]")
    };
    let before = stage.table(&[("a", 0, many(0), "")], &["0 0 1 1"]);
    let after = stage.table(&[("a", 0, many(2), "")], &["2 2 3 3"]);
    let fresh = stage.fresh(&after);
    // One list still has to be emptied, and another one to be freed.
    let prepare = || {
        for table in [&before, &after, &before] {
            stage.apply(table);
        }
        assert_eq!(state::resting(&stage.scene.vipnat), 2 * 409);
    };
    prepare();
    let operations = operations(&stage.apply_command(&after));
    for (at, fault) in points(&operations, kill) {
        prepare();
        let context = strike(&stage.apply_command(&after), &operations, at, fault);
        stage.works(&[&before, &after], &[], &context);
        stage.is_repaired(&after, &fresh, &context);
    }
}

#[test]
fn killed_while_slots_are_reclaimed() {
    slots_are_reclaimed(true);
}

#[test]
fn failed_while_slots_are_reclaimed() {
    slots_are_reclaimed(false);
}

/// Whether the operation only makes or fills an object without a pin. The object ends with the process.
fn is_fleeting(operation: &Operation) -> bool {
    let makes = ["bpf BPF_BTF_LOAD", "bpf BPF_PROG_LOAD", "bpf BPF_MAP_CREATE"];
    // vipnat makes, fills and freezes the map of a section.
    makes.contains(&operation.what.as_str()) || operation.object.starts_with('.')
}

/// A kill at each operation of the `apply` that takes over the state of another vipnat. VIPs answer all
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
    // Apply once without a check, so that all later applies are alike.
    stage.apply(&table);
    of_another();
    let operations = operations(&command);
    let mut points = points(&operations, kill);
    points.retain(|(at, _)| !kill || !is_fleeting(&operations[*at]));
    let points = sample(points);
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
    taking_over(Layout { version: LAYOUT, build: [1, 2, 3, 4], last_app: 1 }, true);
}

#[test]
fn failed_while_it_takes_over_from_another_build() {
    taking_over(Layout { version: LAYOUT, build: [1, 2, 3, 4], last_app: 1 }, false);
}

#[test]
fn killed_while_it_takes_over_another_layout() {
    taking_over(Layout { version: LAYOUT + 1, build: [1, 2, 3, 4], last_app: 1 }, true);
}

#[test]
fn failed_while_it_takes_over_another_layout() {
    taking_over(Layout { version: LAYOUT + 1, build: [1, 2, 3, 4], last_app: 1 }, false);
}

/// After a kill at any operation of `attach`, a second `attach` does the rest. The state is then the same as
/// after one that was not killed.
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
    for at in sample(0..operations.len()) {
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

/// After a crash, the earlier table may be applied too.
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
    let points = (0..operations.len()).filter(|at| !asks_the_kernel(&operations[*at]));
    for at in sample(points) {
        let context = strike(&stage.apply_command(&after), &operations, at, Fault::Kill);
        stage.works(&[&before, &after], &[(0, "0 0 3 3")], &context);
        stage.is_repaired(&before, &fresh, &context);
    }
    println!("{} operations in {:?}", operations.len(), began.elapsed());
}
