//! Bad input ends with status 2. The message has place, object, reason and remedy, and nothing changes.

use std::{fs, path::Path, process::Command};

use vipnat_testkit::{CommandExt as _, Vipnat, outcome};

use crate::scene::{Scene, ip, list};

/// A good table with a place for each mistake.
fn table(cgroup: &str) -> String {
    format!(
        r#"[services.s]
backends = [{{ ip = "{}", port = 5432 }}]
[apps.shop]
cgroup = "{cgroup}"
[apps.shop.relationships.db]
service = "s"
vip = "169.254.37.209"
"#,
        ip(0)
    )
}

#[test]
fn broken_tables_exit_2_with_their_place_and_change_nothing() {
    let scene = Scene::new(1);
    let cgroup = scene.app.cgroup.relative();
    let good = table(cgroup);
    scene.vipnat.apply(&good);
    let backend = format!("\"{}\"", ip(0));
    let vip = "169.254.37.209";
    let two = "[apps.shop.relationships.two]\nservice = \"s\"\nvip = \"169.254.37.209\"\nport = 1\n[apps.shop.relationships.db]";
    let twin = format!("[apps.twin]\ncgroup = \"{cgroup}\"\n[apps.shop.relationships.db]");
    let cases: &[(&str, &str, &str, &str)] = &[
        ("syntax", "[apps.shop]", "[apps.shop", ":3:11: "),
        (
            "unknown key",
            "service =",
            "sevrice =",
            ":6:1: apps.shop.relationships.db.sevrice: unknown field `sevrice`",
        ),
        (
            "unknown service",
            "service = \"s\"",
            "service = \"t\"",
            ":6:11: apps.shop.relationships.db.service: ",
        ),
        ("no IPv4 address", &backend, "\"db.internal\"", ":2:20: services.s.backends[0].ip: "),
        ("IPv6", &backend, "\"fd00::1\"", "is an IPv6 address"),
        ("port 0", "port = 5432", "port = 0", "services.s.backends[0].port: port 0"),
        ("port 70000", "port = 5432", "port = 70000", "services.s.backends[0].port: port 70000"),
        (
            "VIP outside",
            vip,
            "10.0.0.1",
            ":7:7: apps.shop.relationships.db.vip: VIP 10.0.0.1 is outside",
        ),
        ("VIP reserved", vip, "169.254.169.254", "VIP 169.254.169.254 belongs to instance"),
        ("one VIP twice", "[apps.shop.relationships.db]", two, "have the same VIP 169.254.37.209"),
        ("backend in VIP range", &backend, "\"169.254.1.2\"", "is in the range of VIPs"),
        ("multicast", &backend, "\"224.0.0.251\"", "is a multicast address"),
        ("0.0.0.0", &backend, "\"0.0.0.0\"", "is in 0.0.0.0/8"),
        ("broadcast", &backend, "\"255.255.255.255\"", "is the broadcast address"),
        ("one cgroup twice", "[apps.shop.relationships.db]", &twin, "have the same cgroup"),
        ("cgroup outside", cgroup, "a/../../..", "is not below the cgroup v2 mount"),
        ("cgroup elsewhere", cgroup, "/etc", ":4:10: apps.shop.cgroup: "),
        ("all levels", cgroup, "a/**/b", "would match any number of levels"),
        ("all cgroups", cgroup, "*", "is the whole machine"),
        ("broken pattern", cgroup, "lxc/[a", ":4:10: apps.shop.cgroup: "),
        ("duplicate table", "[apps.shop.relationships.db]", "[apps.shop]", ":5:7: duplicate key"),
        ("no apps", &good, "[services.s]\nbackends = []\n", "the table has no apps"),
        ("nothing", &good, "", "the table has no apps"),
    ];
    for (what, part, instead, expected) in cases {
        let text = good.replacen(part, instead, 1);
        assert_ne!(text, good, "{what}");
        refused(&scene, what, text.as_bytes(), expected);
    }
    refused(&scene, "binary garbage", &[0x7f, b'E', b'L', b'F', 0xff, 0, 1], ":1:5: not UTF-8");
    let random: Vec<u8> =
        (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    refused(&scene, "more garbage", &random, ":1:");
    refused(
        &scene,
        "JSON",
        b"{\"apps\": {\"a\": {\"relationships\": {\"r\": {}}}}}",
        ":1:41: apps.a.relationships.r: missing field `service`",
    );

    // The good table is still in force, in every detail.
    assert_eq!(scene.vipnat.apply(&good), "nothing to change\n");
    assert_eq!(scene.who(), "0");
}

#[track_caller]
fn refused(scene: &Scene, what: &str, text: &[u8], expected: &str) {
    let file = scene.vipnat.table("");
    fs::write(&file, text).unwrap();
    for verb in ["check", "apply"] {
        let outcome = scene.vipnat.run([verb.as_ref(), file.as_os_str()]);
        assert_eq!(outcome.code(), Some(2), "{what}, {verb}: {outcome}");
        let error = &outcome.stderr;
        assert!(error.contains(expected), "{what}, {verb}: {expected} in {error}");
        assert!(error.starts_with(&format!("vipnat: {}:", file.display())), "{what}: {error}");
        assert!(error.lines().count() >= 2, "{what}: says what to do: {error}");
        assert_eq!(outcome.stdout, "", "{what}");
    }
}

#[test]
fn wrong_usage_exits_2() {
    let scene = Scene::new(0);
    let missing = scene.vipnat.bpffs().join("nothing.toml");
    for arguments in [
        &["apply"][..],
        &["frobnicate"],
        &["apply", "--no-such-option", "x"],
        &["vip"],
        &["exec", "--app", "shop"],
        &["env", "x"],
        &["apply", missing.to_str().unwrap()],
        &["check", "/"],
    ] {
        let outcome = scene.vipnat.run(arguments);
        assert_eq!(outcome.code(), Some(2), "{arguments:?}: {outcome}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    }
}

/// Runs `apply` of a good table inside another program. It must fail with one sentence.
#[track_caller]
fn fails_under(scene: &Scene, wrapper: &[&str], expected: &str) {
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(apply.get_program()).args(apply.get_args());
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code(), Some(1), "{outcome}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert!(outcome.stderr.contains(expected), "{outcome}");
    assert!(!scene.vipnat.bpffs().exists());
}

#[test]
fn missing_privileges_are_one_clear_sentence() {
    let scene = Scene::new(0);
    let drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    fails_under(
        &scene,
        &drop,
        "missing privileges: to load its programs, vipnat needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
    );
}

#[test]
fn a_kernel_too_old_is_one_clear_sentence() {
    // This personality makes the kernel report version 2.6.
    let scene = Scene::new(0);
    fails_under(&scene, &["setarch", "--uname-2.6"], "is too old; vipnat needs Linux 6.1 or later");
}

#[test]
fn a_kernel_without_btf_is_one_clear_sentence() {
    let scene = Scene::new(0);
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
    fails_under(&scene, &["unshare", "--mount", "sh", "-c", hide, "sh"], "this kernel has no BTF");
}

#[test]
fn a_state_directory_outside_bpffs_is_refused() {
    let scene = Scene::new(0);
    let directory = tempdir(&scene);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let mut command = Command::new(scene.vipnat.command([""]).get_program());
    command.arg("--bpffs").arg(directory).arg("apply").arg(file);
    let outcome = outcome(command.limited_to(std::time::Duration::from_secs(20)));
    assert_eq!(outcome.code(), Some(1), "{outcome}");
    assert!(outcome.stderr.contains("is not on a BPF file system"), "{outcome}");
}

fn tempdir(scene: &Scene) -> std::path::PathBuf {
    let file = scene.vipnat.table("");
    file.parent().unwrap_or(Path::new("/")).join("state")
}

fn bpftool(arguments: &str) {
    let outcome = outcome(Command::new("bpftool").args(arguments.split(' ')));
    assert!(outcome.status.success(), "bpftool {arguments}: {outcome}");
}

#[test]
fn state_of_another_layout_is_taken_over_by_apply_alone() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let maps = scene.vipnat.bpffs().join("maps");
    let maps = maps.to_str().unwrap();
    bpftool(&format!("map update pinned {maps}/layout key 0 0 0 0 value 99 0 0 0 0 0 0 0 0 0 0 0"));
    let list_fails = || {
        let outcome = scene.vipnat.run(["list"]);
        assert_eq!(outcome.code(), Some(1), "{outcome}");
        outcome.stderr
    };
    let error = list_fails();
    assert!(error.contains("version 99") && error.contains("vipnat apply"), "{error}");
    // The old state stays in force.
    assert_eq!(scene.who(), "0");
    let taken_over = "~ state of another layout taken over: ";
    let printed = scene.vipnat.apply(&scene.table(&list([0])));
    assert_eq!(printed, format!("{taken_over}version 99, this vipnat has 4\n"));
    assert_eq!(scene.who(), "0");

    // The same for a map of another size.
    bpftool(&format!("map update pinned {maps}/layout key 0 0 0 0 value 4 0 0 0 0 0 0 0 0 0 0 0"));
    fs::remove_file(format!("{maps}/cursors")).unwrap();
    bpftool(&format!("map create {maps}/cursors type array key 4 value 8 entries 7 name cursors"));
    assert!(list_fails().contains("map cursors"));
    let printed = scene.vipnat.apply(&scene.table(&list([0])));
    assert!(printed.starts_with(taken_over) && printed.contains("map cursors"), "{printed}");
    assert_eq!(scene.who(), "0");
    assert_eq!(scene.apply_first(1), "nothing to change\n");
}

/// The kernel copies as many bytes as the map's sizes say, even if the caller's buffer is smaller.
#[test]
fn a_foreign_map_of_large_values_does_not_overrun_the_stack() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let scope = scene.vipnat.bpffs().join("maps/scope");
    fs::remove_file(&scope).unwrap();
    let scope = scope.to_str().unwrap();
    bpftool(&format!("map create {scope} type hash key 8 value 4096 entries 100 name scope"));
    let listed = scene.vipnat.run(["list"]);
    assert_eq!(listed.code(), Some(1), "{listed}");
    assert!(listed.stderr.contains("scope"), "{listed}");
    // vipnat finds the right map through the programs that use it.
    scene.apply_first(1);
    assert_eq!(scene.who(), "0");
    assert_eq!(scene.vipnat.ok(["flush"]), "removed everything\n");
}

#[test]
fn a_directory_that_holds_anything_else_is_neither_used_nor_flushed() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let foreign = scene.vipnat.bpffs().join("theirs");
    bpftool(&format!(
        "map create {} type array key 4 value 4 entries 1 name theirs",
        foreign.display()
    ));
    for arguments in [&["flush"][..], &["list"]] {
        let outcome = scene.vipnat.run(arguments);
        assert_eq!(outcome.code(), Some(1), "{outcome}");
        assert!(outcome.stderr.contains("/theirs"), "{outcome}");
    }
    scene.vipnat.apply_fails(&scene.table(&list([0])), 1);
    assert!(foreign.exists());
    assert_eq!(scene.who(), "0");
    fs::remove_file(foreign).unwrap();

    // The same if only the names of its directories are vipnat's, as tools may make them.
    let theirs = Vipnat::new();
    for place in ["maps", "progs", "apps", "new"] {
        let directory = theirs.bpffs().join(place);
        fs::create_dir_all(&directory).unwrap();
        let pin = directory.join("theirs");
        bpftool(&format!(
            "map create {} type array key 4 value 4 entries 1 name theirs",
            pin.display()
        ));
        for arguments in
            [&["flush"][..], &["apply", scene.vipnat.table(&scene.table("[]")).to_str().unwrap()]]
        {
            let outcome = theirs.run(arguments);
            assert_eq!(outcome.code(), Some(1), "{place}: {outcome}");
            assert!(
                outcome.stderr.contains("does not belong to vipnat alone"),
                "{place}: {outcome}"
            );
        }
        assert!(pin.exists());
        fs::remove_file(pin).unwrap();
        fs::remove_dir(directory).unwrap();
    }

    // The state directory is inside that of another instance, or is the whole of bpffs.
    let inner = scene.vipnat.bpffs().join("maps");
    for directory in [inner.as_path(), Path::new("/sys/fs/bpf")] {
        let mut flush = Command::new(scene.vipnat.command([""]).get_program());
        let outcome = outcome(flush.arg("--bpffs").arg(directory).arg("flush"));
        assert_eq!(outcome.code(), Some(1), "{outcome}");
        assert!(outcome.stderr.contains("does not belong to vipnat alone"), "{outcome}");
    }
    assert_eq!(scene.who(), "0");
}

#[test]
fn a_system_calls_reason_is_given_once() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let run = scene.vipnat.run(["exec", "--app", "shop", "--", "/nonexistent"]);
    let expected = "vipnat: cannot run /nonexistent: No such file or directory (os error 2)\n";
    assert_eq!((run.code(), run.stderr.as_str()), (Some(127), expected));
    let pin = scene.vipnat.bpffs().join("maps/layout");
    let mut apply = Command::new(scene.vipnat.command([""]).get_program());
    let outcome = outcome(apply.arg("--bpffs").arg(&pin).arg("list"));
    let expected =
        format!("vipnat: cannot read {}: Not a directory (os error 20)\n", pin.display());
    assert_eq!((outcome.code(), outcome.stderr), (Some(1), expected));
}

#[test]
fn a_full_standard_output_is_an_error_and_no_panic() {
    let scene = Scene::new(1);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    for arguments in [&["apply", file.to_str().unwrap()][..], &["list"], &["vip", "db"]] {
        let mut command = scene.vipnat.command(arguments);
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("cannot write to standard output: No space left"), "{error}");
    }
    // The change was made, and the names were kept.
    assert!(scene.vipnat.ok(["list"]).contains("db"));
    assert_eq!(scene.who(), "0");
}
