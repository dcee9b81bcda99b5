//! Pending disconnects: the clock that they follow, and damage to their file.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use vipnat_testkit::{not_run, outcome};

use crate::{
    reconcile::policy::{KILL, connect, db, shop, works},
    scene::{DB, Scene, ip, strace},
    sockets::Sockets,
};

const DRAIN: &str = "on-backend-removed = \"drain\"\ndrain-seconds = 3600";

/// A scene in which a connection drains for an hour.
fn draining() -> (Scene, Sockets) {
    let scene = Scene::new(2);
    scene.vipnat.apply(&shop(&scene, [0], DRAIN));
    let mut sockets = Sockets::of(&scene.app);
    connect(&mut sockets, "a", "tcp4", &db().0, 0);
    let printed = scene.vipnat.apply(&shop(&scene, [1], DRAIN));
    assert!(printed.contains("1 connection to"), "{printed}");
    (scene, sockets)
}

fn ended() -> String {
    format!("x shop db {DB}: ended 1 connection to {}\n", ip(0))
}

/// This clock also counts suspended time, and no user can set it. It can be put ahead for one process.
#[test]
fn what_drains_follows_the_clock_since_boot_and_not_the_one_on_the_wall() {
    let (scene, mut sockets) = draining();
    let file = scene.vipnat.table(&shop(&scene, [1], DRAIN));
    let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let since_boot = |ahead: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--time", "--boottime", ahead]);
        outcome(unshare.arg(apply.get_program()).args(apply.get_args()))
    };
    let before = since_boot("3000");
    if before.stderr.contains("unshare") {
        return not_run(&format!("no clock of one's own here: {before}"));
    }
    assert_eq!(before.stdout, "nothing to change\n", "{before}");
    assert!(works(&mut sockets, "a"));
    let after = since_boot("3601");
    assert_eq!(after.stdout, ended(), "{after}");
    assert_eq!(sockets.call("recv a"), "ECONNABORTED");
}

#[test]
fn drains_that_an_earlier_build_noted_by_the_wall_end_in_time_and_those_of_another_start_are_dropped()
 {
    for (boot, due_in, expected, warned) in [
        (None, -1, ended(), false),
        (None, 60, "nothing to change\n".to_owned(), false),
        (Some("another"), -1, "nothing to change\n".to_owned(), true),
    ] {
        let (scene, _sockets) = draining();
        let path = scene.vipnat.beside("drains.json");
        let text = fs::read(&path).expect("what drains is noted");
        let mut file: Value = serde_json::from_slice(&text).expect("it is JSON");
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        file["drains"][0]["due"] = json!(wall.checked_add_signed(due_in));
        let file = match boot {
            Some(boot) => json!({ "boot": boot, "drains": file["drains"] }),
            None => file["drains"].clone(),
        };
        fs::write(&path, file.to_string()).expect("write what drains");
        let table = scene.vipnat.table(&shop(&scene, [1], DRAIN));
        let applied = scene.vipnat.run(["apply".as_ref(), table.as_os_str()]);
        assert_eq!(applied.stdout, expected, "{boot:?} {due_in}: {applied}");
        assert_eq!(applied.stderr.contains("has been restarted since"), warned, "{applied}");
        assert_eq!(path.exists(), due_in > 0);
    }
}

#[test]
fn a_file_of_drains_that_can_not_be_read_is_put_aside_and_that_is_said() {
    let unreadable = |what: &str, spoil: &dyn Fn(&std::path::Path)| {
        let (scene, mut sockets) = draining();
        let path = scene.vipnat.beside("drains.json");
        spoil(&path);
        let table = scene.vipnat.table(&shop(&scene, [1], DRAIN));
        let applied = scene.vipnat.run(["apply".as_ref(), table.as_os_str()]);
        assert_eq!(applied.code(), Some(0), "{what}: {applied}");
        let says = format!("cannot read {}", path.display());
        assert!(applied.stderr.contains(&says), "{what}: {applied}");
        assert!(applied.stderr.contains("ss --kill dst"), "{what}: {applied}");
        let aside = scene.vipnat.beside("drains.json.unreadable");
        assert!(aside.exists() && !path.exists(), "{what}");
        assert!(works(&mut sockets, "a"));
        // vipnat warns once, and notes the next removal again.
        let again = scene.vipnat.run(["apply".as_ref(), table.as_os_str()]);
        assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("nothing to change\n", ""));
        scene.vipnat.apply(&shop(&scene, [0], DRAIN));
        if aside.is_dir() {
            fs::remove_dir(&aside).expect("remove a directory");
        }
    };
    unreadable("no JSON", &|path| fs::write(path, "{\"boot\": \"x\", \"dra").expect("write"));
    unreadable("empty", &|path| fs::write(path, "").expect("write"));
    unreadable("a directory", &|path| {
        fs::remove_file(path).and_then(|()| fs::create_dir(path)).expect("make a directory");
    });
}

#[test]
fn an_error_of_the_disk_is_not_taken_for_no_drains_or_for_no_one_who_manages_the_state() {
    let (scene, _sockets) = draining();
    let table = scene.vipnat.table(&shop(&scene, [1], DRAIN));
    let apply = scene.vipnat.command(["apply".as_ref(), table.as_os_str()]);
    let failing = |extension: &str| {
        let path = scene.vipnat.beside(extension).display().to_string();
        let options = ["-P", &path, "-e", "trace=openat", "-e", "inject=openat:error=EIO"];
        outcome(&mut strace(&apply, &options))
    };
    let applied = failing("drains.json");
    assert!(applied.stderr.contains("the list of pending disconnects"), "{applied}");
    let _run = scene.vipnat.follow(&shop(&scene, [1], DRAIN), &[]);
    let applied = failing("run");
    assert_eq!(applied.code(), Some(1), "{applied}");
    assert!(applied.stderr.contains("cannot tell whether a `vipnat run` manages"), "{applied}");
}

/// A sandbox may cover parts of /proc.
#[test]
fn which_start_of_the_machine_this_is_only_matters_if_something_is_noted() {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    let (scene, mut sockets) = draining();
    let without = |table: &str| {
        let file = scene.vipnat.table(table);
        let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
        let options = ["-P", BOOT_ID, "-e", "trace=openat", "-e", "inject=openat:error=ENOENT"];
        outcome(&mut strace(&apply, &options))
    };
    let noted = fs::read_to_string(scene.vipnat.beside("drains.json")).expect("it is noted");
    let applied = without(&shop(&scene, [1], DRAIN));
    assert_eq!(applied.code(), Some(1), "{applied}");
    assert!(applied.stderr.contains(&format!("cannot read {BOOT_ID}")), "{applied}");
    assert!(applied.stderr.contains("where all of /proc is mounted"), "{applied}");
    let still = fs::read_to_string(scene.vipnat.beside("drains.json")).expect("it is noted");
    assert_eq!(still, noted);
    // The backend is back, so nothing is noted.
    let keep = shop(&scene, [0], "on-backend-removed = \"keep\"");
    scene.vipnat.apply(&keep);
    assert!(works(&mut sockets, "a"));
    let applied = without(&keep);
    assert_eq!(applied.code(), Some(0), "{applied}");
    // vipnat ends connections that are due at once. It can't note those that are due later.
    let applied = without(&shop(&scene, [1], KILL));
    assert_eq!(applied.code(), Some(0), "{applied}");
    assert!(applied.stderr.contains(&format!("cannot read {BOOT_ID}")), "{applied}");
    assert_eq!(sockets.call("recv a"), "ECONNABORTED");
}

/// The name index also has the policy for connections of a removed relationship.
#[test]
fn a_record_of_names_that_can_not_be_read_is_not_taken_for_the_policy_to_keep_connections() {
    let scene = Scene::new(1);
    let without = format!("[apps.shop]\ncgroup = \"{}\"\n", scene.app.cgroup.relative());
    let names = scene.vipnat.beside("names");
    let removed = |spoil: &dyn Fn()| {
        scene.vipnat.apply(&shop(&scene, [0], KILL));
        spoil();
        let table = scene.vipnat.table(&without);
        let applied = scene.vipnat.run(["apply".as_ref(), table.as_os_str()]);
        assert_eq!(applied.code(), Some(0), "{applied}");
        applied.stderr
    };
    assert_eq!(removed(&|| {}), "");
    let said = removed(&|| fs::write(&names, [0xff, 0xfe]).expect("write"));
    assert!(said.contains(&format!("cannot read {}", names.display())), "{said}");
    let said = removed(&|| fs::remove_file(&names).expect("remove"));
    assert!(said.contains("policy of 1 VIPs that lose backends is lost"), "{said}");
    assert_eq!(removed(&|| {}), "");
}

/// Reads strace's output for one thread, and checks that each change of the file was made with the lock.
/// Returns the number of changes.
fn changes_under_the_lock(log: &str) -> usize {
    let (mut locked, mut changes) = (HashSet::new(), 0);
    for line in log.lines() {
        let Some((call, rest)) = line.split_once(' ').and_then(|it| it.1.trim().split_once('('))
        else {
            continue;
        };
        let descriptor = rest.split([',', ')']).next().unwrap_or_default().to_owned();
        match call {
            "flock" if rest.contains("LOCK_EX") && rest.ends_with("= 0") => {
                locked.insert(descriptor);
            }
            "flock" | "close" if !rest.contains("LOCK_EX") => {
                locked.remove(&descriptor);
            }
            "rename" | "renameat2" | "unlink" | "unlinkat" if rest.contains("drains.json\"") => {
                assert!(!locked.is_empty(), "without the lock: {line}\n{log}");
                changes += 1;
            }
            _ => {}
        }
    }
    changes
}

#[test]
fn nothing_changes_what_is_noted_without_the_lock() {
    let scene = Scene::new(2);
    let file = scene.vipnat.table("");
    let log = file.with_file_name("strace");
    let log_name = log.display().to_string();
    let calls = "trace=flock,close,rename,renameat2,unlink,unlinkat";
    let traced = |arguments: &[&str], answer: &str, table: &str| {
        let file = scene.vipnat.table(table);
        let arguments: Vec<_> =
            arguments.iter().map(OsStr::new).chain([file.as_os_str()]).collect();
        let arguments =
            if answer == "alone" { &arguments[..arguments.len() - 1] } else { &arguments };
        let command = scene.vipnat.command(arguments.iter().copied());
        let mut strace = strace(&command, &["-o", &log_name, "-e", calls]);
        let mut child = strace.stdin(Stdio::piped()).spawn().expect("start strace");
        let mut input = child.stdin.take().expect("stdin is piped");
        // The command may end before it asks.
        let _ = input.write_all(answer.as_bytes());
        drop(input);
        child.wait().expect("wait for strace");
        changes_under_the_lock(&fs::read_to_string(&log).expect("read the log of strace"))
    };
    let (before, after) = (shop(&scene, [0], KILL), shop(&scene, [1], KILL));
    scene.vipnat.apply(&before);
    let confirm = ["apply", "--confirm-timeout", "30s"];
    assert!(traced(&confirm, "n\n", &after) > 1, "noted, and forgotten");
    assert!(traced(&confirm, "y\n", &after) > 1, "noted, and done");
    assert!(traced(&["apply"], "", &before) > 1);
    scene.vipnat.apply(&shop(&scene, [0], DRAIN));
    scene.vipnat.apply(&shop(&scene, [1], DRAIN));
    assert!(traced(&["flush", "--app", "shop"], "alone", "") > 0);
}
