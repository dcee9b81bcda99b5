//! The output of `apply`, its changes, and the state after it. Also `flush`.

use std::{fs, process::Command, time::Instant};

use vipnat_common::abi::LAYOUT;
use vipnat_testkit::{App, Cgroup, outcome};

use crate::scene::{DB, PORT, Scene, banner, ip, list, table};

#[test]
fn the_difference_is_printed_and_only_that_is_changed() {
    let scene = Scene::new(3);
    let cgroup = scene.app.cgroup.relative();
    let [a, b, c] = [ip(0), ip(1), ip(2)];
    assert_eq!(
        scene.apply_first(2),
        format!("+ app shop in cgroup {cgroup}\n+ shop db {DB} -> {a} {b}\n")
    );
    assert_eq!(scene.apply_first(2), "nothing to change\n");
    assert_eq!(
        scene.vipnat.apply(&scene.table(&list(1..3))),
        format!("~ shop db {DB} -> {b} {c}, was {a} {b}\n")
    );
    assert_eq!(
        scene.vipnat.apply(&scene.table_with("[]", "port = 5432\nprotocol = \"tcp\"")),
        format!("~ shop db {DB}:5432/tcp -> no backend, was {DB} -> {b} {c}\n")
    );
    let none = format!("[apps.shop]\ncgroup = \"{cgroup}\"\n");
    assert_eq!(scene.vipnat.apply(&none), format!("- shop db {DB}:5432/tcp -> no backend\n"));
    let other = Cgroup::new();
    let renamed = format!("[apps.other]\ncgroup = \"{}\"\n", other.relative());
    assert_eq!(
        scene.vipnat.apply(&renamed),
        format!("- app shop\n+ app other in cgroup {}\n", other.relative())
    );
}

#[test]
fn a_dry_run_prints_the_difference_and_changes_nothing() {
    let scene = Scene::new(2);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let dry =
        |scene: &Scene| scene.vipnat.ok(["apply".as_ref(), "--dry-run".as_ref(), file.as_os_str()]);
    assert!(dry(&scene).contains(&format!("+ shop db {DB} -> {}", ip(0))));
    assert!(!scene.vipnat.bpffs().exists(), "a dry run makes no state");

    scene.vipnat.apply(&scene.table(&list([1])));
    let before = dump(&scene);
    scene.vipnat.table(&scene.table(&list([0])));
    let printed = dry(&scene);
    assert!(printed.contains(&format!("~ shop db {DB} -> {}, was {}", ip(0), ip(1))), "{printed}");
    assert_eq!(dump(&scene), before);
    assert_eq!(scene.who(), "1");
}

#[test]
fn an_apply_that_changes_nothing_writes_to_no_map() {
    let scene = Scene::new(2);
    scene.apply_first(1);
    let writes = |backends: u8| {
        let file = scene.vipnat.table(&scene.table(&list(0..backends)));
        let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-e", "trace=bpf"]).arg(apply.get_program()).args(apply.get_args());
        let traced = outcome(&mut strace);
        assert!(traced.status.success(), "{traced}");
        assert!(traced.stderr.contains("BPF_OBJ_GET"), "strace sees it: {traced}");
        let write = |line: &&str| {
            ["UPDATE", "DELETE", "MAP_CREATE", "PROG_LOAD", "LINK_CREATE", "OBJ_PIN"]
                .iter()
                .any(|command| line.contains(command))
        };
        traced.stderr.lines().filter(write).count()
    };
    assert_eq!(writes(1), 0);
    assert!(writes(2) > 0, "the test sees writes when there are any");
}

#[test]
fn a_thousand_relationships_in_a_hundred_apps() {
    let scene = Scene::new(1);
    let cgroups: Vec<Cgroup> = (0..100).map(|_| Cgroup::new()).collect();
    let mut text = format!("[services.s]\nbackends = {}\n", list([0]));
    for (number, cgroup) in cgroups.iter().enumerate() {
        text += &format!("[apps.app{number}]\ncgroup = \"{}\"\n", cgroup.relative());
        for relationship in 0..10 {
            text += &format!("[apps.app{number}.relationships.r{relationship}]\nservice = \"s\"\n");
        }
    }
    let begun = Instant::now();
    let printed = scene.vipnat.apply(&text);
    let took = begun.elapsed();
    assert_eq!(printed.lines().count(), 100 + 1000);
    println!("1,000 relationships in 100 apps: {took:?}");
    assert_eq!(scene.vipnat.apply(&text), "nothing to change\n");

    let last = App { host: scene.app.host.clone(), cgroup: cgroups.into_iter().last().unwrap() };
    let vip = scene.vipnat.ok(["vip", "r9"]);
    let vip = vip.split_whitespace().next().unwrap();
    assert_eq!(banner(&last.probe(&format!("tcp {vip}:{PORT}"))), "0");
    scene.vipnat.ok(["flush"]);
}

#[test]
fn a_cgroup_that_was_removed_and_made_again_is_attached_again() {
    let scene = Scene::new(2);
    let container = scene.app.cgroup.child("container");
    let text = |backends: u8| table(&[("shop", container.relative(), &list(0..backends), "")]);
    scene.vipnat.apply(&text(2));
    let app = App { host: scene.app.host.clone(), cgroup: container };
    let probe = format!("tcp {DB}:{PORT}");
    assert_eq!(banner(&app.probe(&probe)), "0");

    let host = app.host.clone();
    drop(app);
    assert!(scene.vipnat.ok(["list"]).contains("cgroup gone"));
    let container = scene.app.cgroup.child("container");
    assert!(
        scene
            .vipnat
            .apply(&table(&[("shop", container.relative(), &list(0..2), "")]))
            .starts_with("+ app shop")
    );
    let app = App { host, cgroup: container };
    // The VIP did not change, so its round robin goes on.
    assert_eq!(banner(&app.probe(&probe)), "1");
}

#[test]
fn a_missing_cgroup_is_named_and_nothing_changes() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let before = dump(&scene);
    let text = table(&[
        ("shop", scene.app.cgroup.relative(), "[]", ""),
        ("blog", "vipnat-test-nowhere/blog", "[]", ""),
        ("wiki", "vipnat-test-nowhere/wiki", "[]", ""),
    ]);
    let error = scene.vipnat.apply_fails(&text, 1);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("\"blog\"") && error.contains("vipnat-test-nowhere/blog"), "{error}");
    assert!(error.contains("\"wiki\""), "{error}");
    assert_eq!(dump(&scene), before);
    assert_eq!(scene.who(), "0");
}

#[test]
fn flush_removes_everything_and_is_content_with_nothing() {
    let scene = Scene::new(1);
    assert_eq!(scene.vipnat.ok(["flush"]), "nothing to remove\n");
    scene.apply_first(1);
    assert_eq!(scene.vipnat.ok(["flush"]), "removed everything\n");
    assert!(!scene.vipnat.bpffs().exists());
    assert_eq!(scene.app.probe(&format!("tcp {DB}:{PORT}")).error(), "ENETUNREACH");
    let error = scene.vipnat.run(["flush", "--app", "shop"]);
    assert_eq!(error.code(), Some(1));
    assert!(error.stderr.contains("no app \"shop\""), "{error}");
}

#[test]
fn two_applies_at_once_wait_for_each_other() {
    let scene = Scene::new(2);
    let file = scene.vipnat.table(&scene.table(&list(0..2)));
    let mut running: Vec<_> = (0..8)
        .map(|_| scene.vipnat.command(["apply".as_ref(), file.as_os_str()]).spawn().unwrap())
        .collect();
    for apply in &mut running {
        assert!(apply.wait().unwrap().success());
    }
    assert_eq!(scene.who_of(4), ["0", "1", "0", "1"]);
}

#[test]
fn an_app_that_cannot_be_attached_does_not_keep_the_others_from_it() {
    let scene = Scene::new(2);
    let (blocked, last) = (App::new(scene.app.host.clone()), App::new(scene.app.host.clone()));
    // A program that another tool attached alone excludes all others. Any program will do, such as one of
    // ours.
    let other = Scene::new(0);
    other.vipnat.apply(&other.table("[]"));
    let program = other.vipnat.bpffs().join("progs/getpeername4");
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["cgroup", "attach"]).arg(blocked.cgroup.path());
    bpftool.args(["cgroup_inet4_getpeername", "pinned"]).arg(program);
    assert!(outcome(&mut bpftool).status.success());

    let apps = [("a", &scene.app, list([0])), ("b", &blocked, list([0])), ("c", &last, list([1]))];
    let apps: Vec<_> = apps
        .iter()
        .map(|(name, app, backends)| (*name, app.cgroup.relative(), backends.as_str(), ""))
        .collect();
    let text = table(&apps);
    let file = scene.vipnat.table(&text);
    let applied = scene.vipnat.run(["apply".as_ref(), file.as_os_str()]);
    assert_eq!(applied.code(), Some(1), "{applied}");
    assert!(applied.stdout.contains("+ c db"), "says what was done: {applied}");
    assert!(!applied.stdout.contains("+ app b"), "and not what was not: {applied}");
    assert!(applied.stderr.contains("getpeername4"), "{applied}");
    assert!(applied.stderr.contains("1 app not attached"), "{applied}");
    let probe = format!("tcp {DB}:{PORT}");
    assert_eq!(scene.who(), "0");
    assert_eq!(banner(&last.probe(&probe)), "1");
    assert_eq!(blocked.probe(&probe).error(), "ENETUNREACH");

    // Other apps lose what the table removes, and the output lists only what was done.
    let without_db = text.replace("[apps.c.relationships.db]\nservice = \"c\"\n", "");
    let narrowed = scene.vipnat.table(&without_db);
    let applied = scene.vipnat.run(["apply".as_ref(), narrowed.as_os_str()]);
    assert_eq!(applied.code(), Some(1), "{applied}");
    assert_eq!(applied.stdout, format!("- c db {DB} -> {}\n", ip(1)), "{applied}");
    assert_eq!(last.probe(&probe).error(), "ENETUNREACH");
    assert_eq!(
        scene.vipnat.run(["apply".as_ref(), narrowed.as_os_str()]).stdout,
        "nothing to change\n"
    );
    let file = scene.vipnat.table(&text);
    assert_eq!(scene.vipnat.run(["apply".as_ref(), file.as_os_str()]).code(), Some(1));

    // After the other program is detached, the same table attaches the rest.
    bpftool = Command::new("bpftool");
    bpftool.args(["cgroup", "detach"]).arg(blocked.cgroup.path());
    bpftool.args(["cgroup_inet4_getpeername", "pinned"]);
    bpftool.arg(other.vipnat.bpffs().join("progs/getpeername4"));
    assert!(outcome(&mut bpftool).status.success());
    assert_eq!(scene.vipnat.ok(["apply".as_ref(), file.as_os_str()]).lines().count(), 1);
    assert_eq!(banner(&blocked.probe(&probe)), "0");
}

#[test]
fn programs_of_another_build_are_replaced() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let layout = scene.vipnat.bpffs().join("maps/layout");
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["map", "update", "pinned"]).arg(layout);
    let stamp = format!("key 0 0 0 0 value {LAYOUT} 0 0 0 1 2 3 4 1 0 0 0");
    bpftool.args(stamp.split(' '));
    assert!(outcome(&mut bpftool).status.success());
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let applied = scene.vipnat.run(["apply".as_ref(), file.as_os_str()]);
    assert_eq!(applied.code(), Some(0));
    assert_eq!(applied.stdout, "~ programs replaced by those of this build\n", "{applied}");
    assert_eq!(scene.who(), "0");
    assert_eq!(scene.apply_first(1), "nothing to change\n");
}

#[test]
fn what_an_interrupted_apply_left_is_put_in_order() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    // A killed command has written a slot with an owner, and no entry points to it.
    let pin = scene.vipnat.bpffs().join("maps/backends");
    let pin = pin.to_str().unwrap();
    let key = "key 100 0 0 0";
    let value = "value 9 0 0 0 169 254 1 1 0 0 0 0 240 0 0 1 0 0 0 0 7 0 0 0";
    let bpftool = |arguments: String| {
        let outcome = outcome(Command::new("bpftool").args(arguments.split(' ')));
        assert!(outcome.status.success(), "{outcome}");
        outcome.stdout
    };
    bpftool(format!("map update pinned {pin} {key} {value}"));
    fs::create_dir(scene.vipnat.bpffs().join("maps/changing")).unwrap();
    assert!(bpftool(format!("map lookup pinned {pin} {key}")).contains("\"app\": 9"));
    assert_eq!(scene.apply_first(1), "~ repaired an interrupted change\n");
    assert!(bpftool(format!("map lookup pinned {pin} {key}")).contains("\"flags\": 16"), "retired");
    assert_eq!(scene.apply_first(1), "nothing to change\n");
    assert_eq!(scene.who(), "0");
}

#[test]
fn a_table_from_standard_input() {
    use std::{io::Write as _, process::Stdio};

    let scene = Scene::new(1);
    let mut apply = scene.vipnat.command(["apply", "-"]);
    let mut apply = apply.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    apply.stdin.take().unwrap().write_all(scene.table(&list([0])).as_bytes()).unwrap();
    assert!(apply.wait().unwrap().success());
    assert_eq!(scene.who(), "0");
}

/// All contents of the maps and of the directory.
fn dump(scene: &Scene) -> String {
    let bpffs = scene.vipnat.bpffs();
    let mut text = scene.vipnat.ok(["list", "--json"]);
    for map in ["vips", "scope"] {
        let mut bpftool = Command::new("bpftool");
        bpftool.args(["--json", "map", "dump", "pinned"]).arg(bpffs.join("maps").join(map));
        text += &outcome(&mut bpftool).stdout;
    }
    for app in fs::read_dir(bpffs.join("apps")).unwrap() {
        text += &format!("{:?}\n", app.unwrap().path());
    }
    text
}
