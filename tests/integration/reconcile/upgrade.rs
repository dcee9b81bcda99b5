//! Another build takes over, with the same or another layout, up and down, while applications connect.

use std::{ffi::OsStr, path::Path, process::Command, time::Duration};

use serde_json::Value;
use vipnat_testkit::{Churn, Held, Load, Outcome, emulated, left_out, outcome};

use crate::{
    scene::{DB, PORT, Scene, list, strace, table},
    sockets::Sockets,
};

const BUILDS: [&str; 3] = ["vipnat", "other-build", "other-layout"];

fn apply(scene: &Scene, build: &str, table: &str) -> Outcome {
    let file = scene.vipnat.table(table);
    let arguments = [OsStr::new("apply"), file.as_os_str()];
    let outcome = match build {
        "vipnat" => scene.vipnat.run(arguments),
        other => outcome(&mut scene.vipnat.command_of(other, arguments)),
    };
    assert_eq!(outcome.code(), Some(0), "{build}: {outcome}");
    outcome
}

/// The build whose programs run. All hooks are of one build, and other builds refuse with another error.
fn programs_of(scene: &Scene, vip: &str) -> &'static str {
    match scene.app.probe(&format!("tcp {vip}:{PORT}")).error() {
        "EHOSTUNREACH" => "vipnat",
        "ENETUNREACH" => "other",
        other => panic!("{other}"),
    }
}

#[test]
fn every_build_takes_over_from_every_other() {
    let scene = Scene::new(2);
    // Besides db, there is a VIP without backends.
    let with_none = |table: String| {
        table
            + "[services.none]\nbackends = []\n[apps.shop.relationships.none]\nservice = \"none\"\n\
                 vip = \"169.254.9.9\"\n"
    };
    let text = with_none(scene.table(&list([0, 1])));
    apply(&scene, "vipnat", &text);
    let hold = |how: &str| scene.app.hold(&format!("{how} {DB}:{PORT}"));
    let mut turns = 0;
    let mut sessions = vec![hold(""), hold("--mapped"), hold("--udp")];
    let seen = |session: &mut Held| -> (bool, String) {
        let report = session.ask();
        (report.ok, report.peer().replace("[::ffff:", "").replace(']', ""))
    };
    // A UDP flow of a socket without connect, which keeps its backend.
    let mut datagrams = Sockets::of(&scene.app);
    datagrams.call("socket a udp4");
    let from_db = format!("\"0\" from {DB}:{PORT}");
    assert_eq!(datagrams.ask("a", PORT), from_db);
    // Two TCP connections and the flow took one turn each.
    turns += 3;
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1), (1, 2), (2, 0)] {
        let printed = apply(&scene, BUILDS[to], &text).stdout;
        let same_layout = from < 2 && to < 2;
        let expected = if same_layout {
            "~ programs replaced"
        } else {
            "~ state of another layout taken over"
        };
        assert!(printed.starts_with(expected), "{from} to {to}: {printed}");
        assert_eq!(printed.lines().count(), 1, "{from} to {to}: {printed}");
        assert_eq!(apply(&scene, BUILDS[to], &text).stdout, "nothing to change\n");
        let runs = if to == 0 { "vipnat" } else { "other" };
        assert_eq!(programs_of(&scene, "169.254.9.9"), runs, "{from} to {to}");
        // Earlier connections still show the VIP, and the next turn is the right one.
        for session in &mut sessions {
            assert_eq!(seen(session), (true, format!("{DB}:{PORT}")), "{from} to {to}");
        }
        assert_eq!(datagrams.ask("a", PORT), from_db, "{from} to {to}");
        assert_eq!(scene.who(), (turns % 2).to_string(), "{from} to {to}");
        turns += 1;
        // This one connects under the present build, for the next builds to keep.
        sessions.push(hold(""));
        turns += 1;
    }
    // No program, map or link of earlier builds is left.
    assert_eq!(leftover_programs(&scene), 0);
}

/// The programs of vipnat that run in the app's cgroup and are not pinned.
fn leftover_programs(scene: &Scene) -> usize {
    let id = |program: &Value| program["id"].as_u64().unwrap();
    let json = |command: &mut Command| -> Value {
        serde_json::from_str(&outcome(command).stdout).unwrap()
    };
    let pinned: Vec<u64> = std::fs::read_dir(scene.vipnat.bpffs().join("progs"))
        .unwrap()
        .map(|pin| {
            let pin = pin.unwrap().path();
            id(&json(Command::new("bpftool").args(["-j", "prog", "show", "pinned"]).arg(pin)))
        })
        .collect();
    let attached =
        json(Command::new("bpftool").args(["-j", "cgroup", "show"]).arg(scene.app.cgroup.path()));
    let attached = attached.as_array().unwrap().iter().map(id);
    attached.filter(|id| !pinned.contains(id)).count()
}

#[test]
fn a_change_of_the_table_and_of_the_layout_at_once() {
    let scene = Scene::new(3);
    scene.apply_first(2);
    let printed = apply(&scene, "other-layout", &scene.table(&list([2]))).stdout;
    assert!(printed.starts_with("~ state of another layout"), "{printed}");
    assert_eq!(scene.who_of(2), ["2", "2"]);
    // Take over again, with another name of the app.
    let renamed = scene.table(&list([1])).replace("shop]", "store]").replace("shop.", "store.");
    apply(&scene, "vipnat", &renamed.replace("\"shop\"", "\"store\""));
    assert_eq!(scene.who_of(2), ["1", "1"]);
}

/// An app that was renamed while the layout changed once had no VIPs for a moment. If the command ended
/// there, it had none for good.
#[test]
fn killed_while_an_app_gets_another_name_in_another_layout() {
    let scene = Scene::new(2);
    let cgroup = scene.app.cgroup.relative();
    let [before, after] = [("shop", 0), ("store", 1)]
        .map(|(app, backend)| table(&[(app, cgroup, &list([backend]), "")]));
    let step = if emulated() { 24 } else { 6 };
    if emulated() {
        left_out("too slow in emulation: of the calls at which it is killed, three of four");
    }
    for nth in (1..).step_by(step) {
        apply(&scene, "vipnat", &before);
        let file = scene.vipnat.table(&after);
        let command = scene.vipnat.command_of("other-layout", ["apply".as_ref(), file.as_os_str()]);
        let calls = "bpf,rename,renameat2,mkdir,unlink,unlinkat,rmdir";
        let inject = format!("inject={calls}:signal=KILL:when={nth}");
        let killed =
            outcome(&mut strace(&command, &["-e", &format!("trace={calls}"), "-e", &inject]));
        let report = scene.app.probe(&format!("tcp {DB}:{PORT}"));
        assert!(report.ok, "kill {nth}: {report:?}");
        if killed.status.success() {
            assert!(nth > 60, "{nth}");
            break;
        }
        apply(&scene, "other-layout", &after);
        assert_eq!(scene.who(), "1", "kill {nth}");
    }
}

#[test]
fn links_of_hooks_that_this_build_does_not_have_are_removed() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let apps = scene.vipnat.bpffs().join("apps");
    let only = |dir: &Path| std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    let links = only(&only(&apps));
    // The state is as another build may leave it.
    let bpftool = |arguments: &[&str]| {
        let outcome = outcome(Command::new("bpftool").args(arguments));
        assert!(outcome.status.success(), "{outcome}");
        outcome.stdout
    };
    let link = links.join("connect6");
    let shown = bpftool(&["-j", "link", "show", "pinned", link.to_str().unwrap()]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let other = links.join("sendmsg6");
    bpftool(&["link", "pin", "id", &shown["id"].to_string(), other.to_str().unwrap()]);
    assert!(other.exists());
    assert_eq!(scene.apply_first(1), "~ programs replaced by those of this build\n");
    assert!(!other.exists() && link.exists());
    assert_eq!(scene.apply_first(1), "nothing to change\n");
}

/// Containers may start after another build was installed, and before its first apply.
#[test]
fn hooks_attach_whatever_the_layout() {
    let scene = Scene::new(1);
    let text = format!(
        "[services.s]\nbackends = {}\n[apps.shop]\n[apps.shop.relationships.db]\nservice = \"s\"\n",
        list([0])
    );
    scene.vipnat.apply(&text);
    let attach = ["attach", "--app", "shop", "--cgroup", scene.app.cgroup.relative()];
    let attached = outcome(&mut scene.vipnat.command_of("other-layout", attach));
    assert_eq!(attached.code(), Some(0), "{attached}");
    assert_eq!(scene.who(), "0");
}

#[test]
fn nothing_fails_while_builds_take_over_under_load() {
    let mut churn = Churn::new(250);
    let loads = churn.loads();
    let rounds = if emulated() { 6 } else { 12 };
    if emulated() {
        left_out("too slow in emulation: half of the changes from one build to another");
    }
    for round in 0..rounds {
        let table = if round % 2 == 0 { churn.next_table() } else { churn.table() };
        let file = churn.vipnat.table(&table);
        let arguments = ["apply".as_ref(), file.as_os_str()];
        let build = BUILDS[(round + 1) % 3];
        let mut command = match build {
            "vipnat" => churn.vipnat.command(arguments),
            other => churn.vipnat.command_of(other, arguments),
        };
        let applied = outcome(&mut command);
        assert_eq!(applied.code(), Some(0), "{build}: {applied}");
        std::thread::sleep(Duration::from_millis(50));
    }
    for tally in loads.into_iter().map(Load::stop) {
        tally.assert_flawless();
        println!("{} connections", tally.total());
    }
}
