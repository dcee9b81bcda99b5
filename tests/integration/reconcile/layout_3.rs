//! A state of layout 3, in which two maps had other names. vipnat takes it over without a gap, and open
//! sockets keep their records.

use std::{fs, process::Command};

use serde_json::Value;
use vipnat_common::abi::{LAYOUT, Layout};
use vipnat_testkit::{Load, emulated, left_out, outcome, program};

use crate::{
    scene::{DB, PORT, Scene, list, strace},
    sockets::Sockets,
};

/// The present names, and those of layout 3. The values are the same.
const RENAMED: [(&str, &str); 2] = [("conns", "flows"), ("udp_flows", "datagrams")];

/// Turns a state into one of layout 3.
fn to_layout_3(scene: &Scene) {
    let maps = scene.vipnat.bpffs().join("maps");
    for (now, before) in RENAMED {
        fs::rename(maps.join(now), maps.join(before)).unwrap();
    }
    let layout = Layout { version: 3, build: [1, 2, 3, 4], last_app: 1 };
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["map", "update", "pinned"]).arg(maps.join("layout"));
    bpftool.args(["key", "0", "0", "0", "0", "value"]);
    let updated = outcome(bpftool.args(layout.to_bytes().map(|byte| byte.to_string())));
    assert!(updated.status.success(), "{updated}");
}

/// The ids of the maps with records of sockets, by their present names.
fn ids(scene: &Scene) -> [u64; 2] {
    RENAMED.map(|(name, _)| {
        let mut bpftool = Command::new("bpftool");
        let pin = scene.vipnat.bpffs().join("maps").join(name);
        bpftool.args(["--json", "map", "show", "pinned"]).arg(pin);
        let shown: Value = serde_json::from_str(&outcome(&mut bpftool).stdout).unwrap();
        shown["id"].as_u64().unwrap()
    })
}

#[test]
fn open_sockets_keep_their_records_and_no_connect_fails() {
    let scene = Scene::new(2);
    scene.apply_first(2);
    let hold = |how: &str| scene.app.hold(&format!("{how} {DB}:{PORT}"));
    let mut sessions = [hold(""), hold("--mapped"), hold("--udp")];
    let mut datagrams = Sockets::of(&scene.app);
    datagrams.call("socket a udp4");
    let source = |backend: &str| format!("\"{backend}\" from {DB}:{PORT}");
    let first = datagrams.ask("a", PORT);
    let backend =
        ["0", "1"].into_iter().find(|backend| first == source(backend)).expect("a backend");
    let mut load = scene.app.command(program("load"));
    load.args(["--expect", "", "--tcp", "1", "--udp", "1"]).arg(format!("{DB}:{PORT}"));
    let load = Load::start(load);
    let before = ids(&scene);
    for _ in 0..if emulated() { 2 } else { 10 } {
        to_layout_3(&scene);
        let printed = scene.apply_first(2);
        assert!(
            printed.starts_with("~ state of another layout taken over: version 3"),
            "{printed}"
        );
        assert_eq!(printed.lines().count(), 1, "{printed}");
        for session in &mut sessions {
            let report = session.ask();
            let peer = report.peer().replace("[::ffff:", "").replace(']', "");
            assert_eq!((report.ok, peer), (true, format!("{DB}:{PORT}")));
        }
        assert_eq!(datagrams.ask("a", PORT), source(backend));
        assert_eq!(ids(&scene), before, "the maps are the same");
        assert_eq!(scene.apply_first(2), "nothing to change\n");
    }
    load.stop().assert_flawless();
    for (_, name) in RENAMED {
        assert!(!scene.vipnat.bpffs().join("maps").join(name).exists(), "{name} is left");
    }
}

#[test]
fn until_it_is_taken_over_list_names_the_layout_and_flush_removes_it() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    to_layout_3(&scene);
    let listed = scene.vipnat.run(["list"]);
    assert_eq!(listed.code(), Some(1), "{listed}");
    let expected = format!("version 3, this vipnat has {LAYOUT}");
    assert!(listed.stderr.contains(&expected), "{listed}");
    assert_eq!(scene.who(), "0", "what is attached translates");
    let flushed = scene.vipnat.run(["flush"]);
    assert_eq!(flushed.code(), Some(0), "{flushed}");
    assert!(!scene.vipnat.bpffs().exists());
}

#[test]
fn killed_anywhere_while_it_takes_over_the_next_apply_completes_it() {
    let scene = Scene::new(2);
    scene.apply_first(2);
    let mut session = scene.app.hold(&format!("{DB}:{PORT}"));
    let before = ids(&scene);
    let step = if emulated() { 24 } else { 6 };
    if emulated() {
        left_out("too slow in emulation: of the calls at which it is killed, three of four");
    }
    for nth in (1..).step_by(step) {
        to_layout_3(&scene);
        let file = scene.vipnat.table(&scene.table(&list([0, 1])));
        let command = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
        let calls = "bpf,rename,renameat2,mkdir,unlink,unlinkat,rmdir";
        let inject = format!("inject={calls}:signal=KILL:when={nth}");
        let killed =
            outcome(&mut strace(&command, &["-e", &format!("trace={calls}"), "-e", &inject]));
        let report = scene.app.probe(&format!("tcp {DB}:{PORT}"));
        assert!(report.ok, "kill {nth}: {report:?}");
        scene.apply_first(2);
        let report = session.ask();
        assert_eq!(
            (report.ok, report.peer().to_owned()),
            (true, format!("{DB}:{PORT}")),
            "kill {nth}"
        );
        assert_eq!(ids(&scene), before, "kill {nth}: the maps are the same");
        if killed.status.success() {
            assert!(nth > 60, "{nth}");
            break;
        }
    }
}

#[test]
fn maps_of_layout_3_whose_version_was_lost_are_still_ours() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    to_layout_3(&scene);
    let maps = scene.vipnat.bpffs().join("maps");
    fs::remove_file(maps.join("layout")).unwrap();
    let printed = scene.apply_first(1);
    assert!(printed.starts_with("~ state of another layout taken over: it has no"), "{printed}");
    assert_eq!(scene.who(), "0");
    to_layout_3(&scene);
    fs::remove_file(maps.join("layout")).unwrap();
    scene.vipnat.ok(["flush"]);
    assert!(!scene.vipnat.bpffs().exists());
}

#[test]
fn what_an_interrupted_command_of_layout_3_left_is_removed() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    to_layout_3(&scene);
    // The state of a command that was killed while it pinned its maps. It pins `layout` last but two.
    let (bpffs, new) = (scene.vipnat.bpffs(), scene.vipnat.bpffs().join("new"));
    let pins = scene.vipnat.bpffs().join("maps");
    fs::create_dir(&new).unwrap();
    for name in ["layout", "scope", "vips"] {
        fs::remove_file(pins.join(name)).unwrap();
    }
    fs::rename(&pins, new.join("maps")).unwrap();
    for name in ["progs", "apps"] {
        fs::rename(bpffs.join(name), new.join(name)).ok();
    }
    let _ = fs::remove_dir_all(new.join("apps"));
    scene.apply_first(1);
    assert_eq!(scene.who(), "0");
    assert!(!new.exists());
}
