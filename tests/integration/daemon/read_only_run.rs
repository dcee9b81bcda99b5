//! The data path works with a read-only `/run`.

use std::{ffi::OsStr, process::Command};

use vipnat_testkit::{Following, Outcome, Vipnat, outcome};

use crate::scene::{DB, PORT, Scene, list};

/// Shell commands that make `/run` read-only.
const READ_ONLY: &str = "mount --bind /run /run && mount -o remount,bind,ro /run";
const ABSENT: &str = "mount -t tmpfs -o ro none /run";
const FULL: &str = "mount -t tmpfs -o nr_inodes=1 none /run";

/// A command of vipnat in a mount namespace of its own, in which `/run` is in this condition.
fn command(
    vipnat: &Vipnat,
    run: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Command {
    let inner = vipnat.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{run} && exec \"$@\""), "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

fn error(scene: &Scene) -> String {
    scene.app.probe(&format!("tcp {DB}:{PORT}")).error().to_owned()
}

/// `flush` once removed the links and nothing else.
#[test]
fn flush_removes_the_data_path_and_says_what_is_left() {
    let scene = Scene::new(1);
    let vipnat = &scene.vipnat;
    let flush = |run: &str| outcome(&mut command(vipnat, run, ["flush"]));
    for run in [ABSENT, FULL] {
        scene.apply_first(1);
        let flushed = flush(run);
        assert_eq!(flushed.code(), Some(0), "{run}: {flushed}");
        assert_eq!(flushed.stdout, "removed everything\n", "{run}: {flushed}");
        assert!(!vipnat.bpffs().exists(), "{run}");
    }
    scene.apply_first(1);
    let flushed = flush(READ_ONLY);
    assert_eq!(flushed.code(), Some(1), "{flushed}");
    assert_eq!(flushed.stdout, "removed everything\n", "{flushed}");
    let left = "cannot remove the list of names in /run/vipnat: Read-only file system";
    assert!(flushed.stderr.contains(left), "{flushed}");
    assert!(!vipnat.bpffs().exists());
    assert_eq!(error(&scene), "ENETUNREACH");
    // The next step that the message names.
    assert!(vipnat.beside("names").exists());
    assert_eq!(vipnat.ok(["flush"]), "removed everything\n");
    assert!(!vipnat.beside("names").exists());
    assert_eq!(vipnat.ok(["flush"]), "nothing to remove\n");
}

#[test]
fn flush_of_an_app_removes_it_and_says_what_is_left() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let flush = ["flush", "--app", "shop"];
    let flushed = outcome(&mut command(&scene.vipnat, READ_ONLY, flush));
    assert_eq!(flushed.code(), Some(1), "{flushed}");
    assert_eq!(flushed.stdout, "- app shop\n", "{flushed}");
    assert!(flushed.stderr.contains("remove its names from the list"), "{flushed}");
    assert_eq!(error(&scene), "ENETUNREACH");
    assert!(scene.vipnat.ok(["list"]).contains("no apps"));
}

#[test]
fn apply_and_run_make_the_table_so_and_warn() {
    let scene = Scene::new(2);
    for (round, run) in [READ_ONLY, ABSENT, FULL].into_iter().enumerate() {
        let backend = round as u8 % 2;
        let file = scene.vipnat.table(&scene.table(&list([backend])));
        let apply = || -> Outcome {
            outcome(&mut command(&scene.vipnat, run, ["apply".as_ref(), file.as_os_str()]))
        };
        let applied = apply();
        assert_eq!(applied.code(), Some(0), "{run}: {applied}");
        assert!(applied.stderr.contains("cannot keep the names"), "{run}: {applied}");
        assert_eq!(scene.who(), backend.to_string(), "{run}");
        assert_eq!(apply().stdout, "nothing to change\n", "{run}");

        let other = 1 - backend;
        let file = scene.vipnat.table(&scene.table(&list([other])));
        let arguments = ["run".as_ref(), file.as_os_str()];
        let mut following = Following::start(command(&scene.vipnat, run, arguments));
        following.wait_for(|line| line.starts_with("following "));
        assert_eq!(scene.who(), other.to_string(), "{run}");
    }
}
