//! Cgroups that can't be seen: what is not in view is not gone.

use std::{
    env,
    ffi::OsStr,
    fs::{self, Permissions},
    iter,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::Path,
    process::Command,
};

use nix::sys::signal::Signal;
use vipnat_testkit::{App, Cgroup, CommandExt as _, Following, Outcome, outcome};

use crate::scene::{DB, PORT, Scene, banner, list};

/// Where cgroup v2 is mounted.
fn mount(scene: &Scene) -> &Path {
    scene.app.cgroup.path().parent().unwrap()
}

/// vipnat in a mount namespace of its own, after a script whose `$1` is where cgroup v2 is mounted and
/// `$2` another directory.
fn after(scene: &Scene, script: &str, arguments: &[&OsStr]) -> Command {
    // Beside its tables, and removed with them.
    let elsewhere =
        env::temp_dir().join(scene.vipnat.bpffs().file_name().unwrap()).join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    let vipnat = scene.vipnat.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &format!("{script}; shift 2; exec \"$@\""), "sh"]);
    command.args([mount(scene), &elsewhere]);
    command.arg(vipnat.get_program()).args(vipnat.get_args());
    command
}

fn run_after(scene: &Scene, script: &str, arguments: &[&OsStr]) -> Outcome {
    outcome(&mut after(scene, script, arguments))
}

/// A table in which `shop` has cgroups by a pattern, and `manual` those that are attached to it.
fn text(scene: &Scene) -> String {
    let name = scene.app.cgroup.relative();
    format!(
        "[services.s]\nbackends = {}\n[apps.shop]\ncgroup = \"{name}/shop-*\"\n\
         [apps.shop.relationships.db]\nservice = \"s\"\n\
         [apps.manual]\n[apps.manual.relationships.db]\nservice = \"s\"\n",
        list([0])
    )
}

/// The scene with containers of both apps.
fn with_containers() -> (Scene, [App; 2]) {
    let scene = Scene::new(1);
    let containers = ["shop-1", "manual"]
        .map(|name| App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child(name) });
    scene.vipnat.apply(&text(&scene));
    let manual = containers[1].cgroup.relative();
    scene.vipnat.ok(["attach", "--app", "manual", "--cgroup", manual]);
    (scene, containers)
}

#[track_caller]
fn all_are_translated(containers: &[App; 2]) {
    for container in containers {
        assert_eq!(banner(&container.probe(&format!("tcp {DB}:{PORT}"))), "0");
    }
}

/// Each way to see no more than a part of the hierarchy, and what is said of it.
const HIDDEN: [(&str, &str); 4] = [
    ("mount -t tmpfs none $1", "hidden by a mount of type tmpfs; unmount that: umount "),
    (
        "mount -t cgroup2 none $2; mount -t tmpfs none $2; mount -t tmpfs none $1",
        "hidden by a mount",
    ),
    ("mount --bind $1/$NAME $2; umount -l $1 || mount -t tmpfs none $1", "shows a part only, /"),
    ("umount -l $1 2>/dev/null || :; while umount -l $1 2>/dev/null; do :; done", "is not mounted"),
];

#[test]
fn living_cgroups_whose_mount_is_hidden_stay_attached() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    for (script, said) in HIDDEN {
        let script = format!("NAME={}; {script}", scene.app.cgroup.relative());
        for verb in [&["apply"][..], &["apply", "--dry-run"], &["run"]] {
            let mut arguments: Vec<&OsStr> = verb.iter().map(OsStr::new).collect();
            arguments.push(file.as_os_str());
            if verb == ["run"] {
                let mut run = Following::start(after(&scene, &script, &arguments));
                run.wait_for(|line| line.contains(said));
                continue;
            }
            let refused = run_after(&scene, &script, &arguments);
            assert_eq!(refused.code(), Some(1), "{script}: {refused}");
            assert!(refused.stderr.contains(said), "{script}: {refused}");
            assert_eq!(refused.stdout, "", "{script}: {refused}");
        }
        all_are_translated(&containers);
        // They are listed all the same, but not as gone, and what is to go goes.
        let listed = run_after(&scene, &script, &["list".as_ref()]);
        assert!(listed.status.success(), "{script}: {listed}");
        assert!(!listed.stdout.contains("gone"), "{script}: {listed}");
        assert!(listed.stderr.contains("not in view"), "{script}: {listed}");
    }
    assert_eq!(scene.vipnat.apply(&text(&scene)), "nothing to change\n");
    let flushed = run_after(&scene, HIDDEN[0].0, &["flush".as_ref()]);
    assert_eq!(flushed.stdout, "removed everything\n", "{flushed}");
}

#[test]
fn living_cgroups_outside_of_an_own_cgroup_namespace_stay_attached() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let script = "umount -l $1 2>/dev/null || mount -t tmpfs none $1; mount -t cgroup2 none $1";
    // What is `other` there is `shop-1/other` to the machine.
    let other = containers[0].cgroup.child("other");
    let attach = ["attach", "--app", "manual", "--cgroup", "other"].map(OsStr::new);
    for arguments in [&["apply".as_ref(), file.as_os_str()][..], &attach] {
        let command = after(&scene, script, arguments);
        let mut inside = Command::new("unshare");
        inside.arg("--cgroup").arg(command.get_program()).args(command.get_args());
        let refused = outcome(inside.in_cgroup(&containers[0].cgroup));
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains("this is a cgroup namespace"), "{refused}");
        assert_eq!(refused.stdout, "", "{refused}");
        all_are_translated(&containers);
    }
    drop(other);
}

#[test]
fn a_second_mount_serves_where_the_first_is_hidden() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let script = "mount -t cgroup2 none $2; mount -t tmpfs none $1";
    let applied = run_after(&scene, script, &["apply".as_ref(), file.as_os_str()]);
    assert_eq!(applied.stdout, "nothing to change\n", "{applied}");
    // Also one that shows less comes first.
    let script = "mount -t cgroup2 none $2; mount -t tmpfs none $1; mkdir $1/a; \
                  mount --bind $2/$NAME $1/a";
    let script = format!("NAME={}; {script}", scene.app.cgroup.relative());
    let applied = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
    assert_eq!(applied.stdout, "nothing to change\n", "{applied}");
    all_are_translated(&containers);
}

#[test]
fn living_cgroups_below_a_directory_that_is_hidden_stay_attached() {
    let (scene, containers) = with_containers();
    let (name, file) = (scene.app.cgroup.relative(), scene.vipnat.table(&text(&scene)));
    // Also where what hides them looks as if they were there.
    for inside in ["", "; mkdir $1/$NAME/shop-1 $1/$NAME/shop-2"] {
        let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME{inside}");
        let refused = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
        assert_eq!(refused.code(), Some(1), "{refused}");
        let said = format!("{name} is hidden by another mount; unmount that");
        assert!(refused.stderr.contains(&said), "{refused}");
        all_are_translated(&containers);
        // `run` goes on with what is in view, and leaves the rest alone.
        let mut run = Following::start(after(&scene, &script, &["run".as_ref(), file.as_os_str()]));
        run.wait_for(|line| line.starts_with("following "));
        for said in ["app \"shop\": which of the cgroups", "app \"manual\" stays attached"] {
            if !run.has_said(|line| line.contains(said)) {
                run.wait_for(|line| line.contains(said));
            }
        }
        assert!(!run.has_said(|line| line.starts_with("- ")));
        all_are_translated(&containers);
    }
    // An app without cgroups in the table has nothing that could be missed.
    let manual = text(&scene).replace("cgroup = ", "# ");
    let file = scene.vipnat.table(&manual);
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME");
    let applied = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
    assert!(applied.status.success(), "{applied}");
    // The table takes a cgroup away, in view or not.
    assert!(applied.stdout.starts_with("- app shop in the cgroup whose id is "), "{applied}");
    assert!(applied.stderr.contains("app \"manual\" stays attached"), "{applied}");
    let manual = banner(&containers[1].probe(&format!("tcp {DB}:{PORT}")));
    assert_eq!(manual, "0");
    assert_eq!(containers[0].probe(&format!("tcp {DB}:{PORT}")).error(), "ENETUNREACH");
}

#[test]
fn living_cgroups_below_a_directory_that_can_not_be_read_stay_attached() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let outer = scene.app.cgroup.path();
    fs::set_permissions(outer, Permissions::from_mode(0o0)).unwrap();
    let without = "--bounding-set=-dac_override,-dac_read_search";
    let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let mut limited = Command::new("setpriv");
    limited.arg(without).arg(apply.get_program()).args(apply.get_args());
    let refused = outcome(&mut limited);
    fs::set_permissions(outer, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("Permission denied"), "{refused}");
    all_are_translated(&containers);
}

/// Changes what a process sees, by a command that is told where.
fn inside(run: &Following, arguments: &[&str], at: &Path) {
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--mount", "--target", &run.pid().to_string()]).args(arguments).arg(at);
    let done = outcome(&mut nsenter);
    assert!(done.status.success(), "{done}");
}

#[test]
fn run_sees_that_its_view_was_hidden_and_keeps_what_it_no_longer_sees() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let mut run = Following::start(after(&scene, ":", &["run".as_ref(), file.as_os_str()]));
    run.wait_for(|line| line.starts_with("following "));
    // A part of it: that something comes there is told all the same, but not what.
    inside(&run, &["mount", "-t", "tmpfs", "none"], scene.app.cgroup.path());
    let new = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-2") };
    run.wait_for(|line| line.contains("is hidden by another mount"));
    all_are_translated(&containers);
    // All of it.
    inside(&run, &["mount", "-t", "tmpfs", "none"], mount(&scene));
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.contains("hidden by a mount of type tmpfs"));
    assert!(!run.has_said(|line| line.starts_with("- ")));
    all_are_translated(&containers);
    // And back again.
    inside(&run, &["umount"], mount(&scene));
    inside(&run, &["umount"], scene.app.cgroup.path());
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    assert_eq!(banner(&new.probe(&format!("tcp {DB}:{PORT}"))), "0");
    assert!(!run.has_said(|line| line.starts_with("- ")));
    all_are_translated(&containers);
}

#[test]
fn run_is_not_deceived_by_a_mount_that_has_the_number_of_the_one_before() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let mut run = Following::start(after(&scene, ":", &["run".as_ref(), file.as_os_str()]));
    run.wait_for(|line| line.starts_with("following "));
    // The kernel gives the lowest number that is free.
    let instead = "umount -l $0; mount -t tmpfs none $0";
    inside(&run, &["sh", "-ec", instead], mount(&scene));
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.contains("cgroup v2 is not mounted"));
    assert!(!run.has_said(|line| line.starts_with("- ")));
    all_are_translated(&containers);
}

#[test]
fn what_a_table_may_still_mean_stays_attached_while_it_is_hidden() {
    let (scene, containers) = with_containers();
    let name = scene.app.cgroup.relative();
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME/shop-1");
    let apply = |cgroup: &str| {
        let pattern = format!("cgroup = \"{name}/shop-*\"");
        let text = text(&scene).replace(&pattern, &format!("cgroup = \"{name}/{cgroup}\""));
        let file = scene.vipnat.table(&text);
        let applied = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
        assert!(applied.status.success(), "{applied}");
        applied
    };
    // Whatever was seen of it when the pattern was looked for, it can't be seen when it is to go.
    let applied = apply("*-2");
    assert!(applied.stderr.contains("app \"shop\" stays attached to the cgroup"), "{applied}");
    assert!(!applied.stdout.contains("- app"), "{applied}");
    all_are_translated(&containers);
    // A path that is found is no other cgroup.
    let other = scene.app.cgroup.child("other");
    let applied = apply("other");
    assert!(applied.stdout.contains("- app shop in the cgroup whose id is "), "{applied}");
    assert_eq!(containers[0].probe(&format!("tcp {DB}:{PORT}")).error(), "ENETUNREACH");
    drop(other);
}

/// Detaches what an app has on a cgroup, as the death of the cgroup does. The pins stay.
fn detach_links(scene: &Scene, container: &App) {
    let id = fs::metadata(container.cgroup.path()).unwrap().ino();
    let apps = fs::read_dir(scene.vipnat.bpffs().join("apps")).unwrap();
    let mut links = apps.flat_map(|app| {
        let app = app.unwrap().path();
        [app.join(format!("+{id}")), app.join(id.to_string())]
    });
    let links = links.find(|links| links.exists()).unwrap();
    for pin in fs::read_dir(links).unwrap() {
        let mut detach = Command::new("bpftool");
        let done = outcome(detach.args(["link", "detach", "pinned"]).arg(pin.unwrap().path()));
        assert!(done.status.success(), "{done}");
    }
}

#[test]
fn a_living_cgroup_whose_links_were_detached_is_not_gone() {
    let (scene, containers) = with_containers();
    let (name, text) = (scene.app.cgroup.relative(), text(&scene));
    let probe = format!("tcp {DB}:{PORT}");
    containers.iter().for_each(|container| detach_links(&scene, container));
    assert_eq!(containers[1].probe(&probe).error(), "ENETUNREACH");
    // Hidden, it is not in view.
    let file = scene.vipnat.table(&text.replace("cgroup = ", "# "));
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME");
    let hidden = run_after(&scene, &script, &["list".as_ref()]);
    assert!(hidden.stdout.contains("which is not in view"), "{hidden}");
    assert!(!hidden.stdout.contains("gone"), "{hidden}");
    let hidden =
        run_after(&scene, &script, &["apply".as_ref(), "--dry-run".as_ref(), file.as_os_str()]);
    assert!(hidden.stderr.contains("app \"manual\" stays attached"), "{hidden}");
    assert!(!hidden.stdout.contains("gone"), "{hidden}");
    // Another one that is attached to its app takes nothing from it.
    let other = scene.app.cgroup.child("manual-2");
    scene.vipnat.ok(["attach", "--app", "manual", "--cgroup", other.relative()]);
    let applied = scene.vipnat.apply(&text);
    for (app, container) in iter::zip(["shop", "manual"], &containers) {
        let said = format!("+ app {app} in cgroup {}\n", container.cgroup.relative());
        assert!(applied.contains(&said), "{applied}");
    }
    all_are_translated(&containers);
    // Of one that is gone, it takes what is left.
    let pins = || {
        let apps = fs::read_dir(scene.vipnat.bpffs().join("apps")).unwrap();
        apps.map(|app| fs::read_dir(app.unwrap().path()).unwrap().count()).sum::<usize>()
    };
    assert_eq!(pins(), 3);
    detach_links(&scene, &App { host: scene.app.host.clone(), cgroup: other });
    let third = scene.app.cgroup.child("manual-3");
    scene.vipnat.ok(["attach", "--app", "manual", "--cgroup", third.relative()]);
    assert_eq!(pins(), 3);
    assert_eq!(scene.vipnat.apply(&text), "nothing to change\n");
}

#[test]
fn attach_by_a_process_takes_only_a_cgroup_that_proves_to_hold_it() {
    let scene = Scene::new(1);
    let (name, text) = (scene.app.cgroup.relative().to_owned(), text(&scene));
    scene.vipnat.apply(&text);
    // Seen from the namespace of `outer`, the process is in `/inner`; on the mount that is another's.
    let app = |cgroup| App { host: scene.app.host.clone(), cgroup };
    let outer = app(scene.app.cgroup.child("outer"));
    let inner = app(outer.cgroup.child(&format!("{name}-x")));
    let other = Cgroup::new();
    let namesake = scene.app.cgroup.path().parent().unwrap().join(format!("{name}-x"));
    fs::create_dir(&namesake).unwrap();
    let mut sleeping = inner.command("sleep").arg("60").spawn().unwrap();
    let pid = sleeping.id().to_string();
    let attach = |namespaces: &[&str]| {
        let attach = scene.vipnat.command(["attach", "--app", "manual", "--pid", &pid]);
        let mut command = Command::new("unshare");
        command.args(namespaces).arg(attach.get_program()).args(attach.get_args());
        outcome(command.in_cgroup(&outer.cgroup))
    };
    let refused = attach(&["--cgroup"]);
    let ours = attach(&["--mount"]);
    // Where the numbers of processes are others, too.
    let pids = attach(&["--pid", "--fork"]);
    fs::remove_dir(&namesake).unwrap();
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains(&format!("process {pid} is not in the cgroup")), "{refused}");
    assert!(refused.stderr.contains("nsenter --target 1 --cgroup"), "{refused}");
    assert_eq!(pids.code(), Some(1), "{pids}");
    assert!(pids.stderr.contains("is not in the cgroup"), "{pids}");
    let inner = inner.cgroup.relative();
    assert_eq!(ours.stdout, format!("+ app manual in cgroup {inner}\n"), "{ours}");
    drop(other);
}

#[test]
fn exec_goes_into_a_cgroup_that_proves_to_have_taken_it() {
    let (scene, containers) = with_containers();
    let name = scene.app.cgroup.relative();
    // A file of that name would be written to, and the command would run where it was started.
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME; mkdir $1/$NAME/manual");
    let manual = containers[1].cgroup.path().as_os_str();
    let options = ["exec", "--app", "manual", "--cgroup"].map(OsStr::new);
    let command = ["--", "echo", "it ran"].map(OsStr::new);
    let arguments = |cgroup| [&options[..], &[cgroup], &command].concat();
    let hidden = run_after(&scene, &script, &arguments(manual));
    assert_eq!((hidden.code(), hidden.stdout.as_str()), (Some(1), ""), "{hidden}");
    let elsewhere = tempfile::tempdir().unwrap();
    let table = scene.vipnat.table(&text(&scene));
    let with_table = |cgroup: &OsStr| {
        let app = ["exec".as_ref(), "--app".as_ref(), "shop".as_ref(), table.as_os_str()];
        scene.vipnat.run([&app[..], &["--cgroup".as_ref(), cgroup], &command].concat())
    };
    for outcome in [
        scene.vipnat.run(arguments(elsewhere.path().as_os_str())),
        with_table(elsewhere.path().as_os_str()),
        with_table(manual),
    ] {
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(1), ""), "{outcome}");
        assert!(outcome.stderr.contains("is not app "), "{outcome}");
    }
    assert!(!elsewhere.path().join("cgroup.procs").exists());
    let inside = scene.vipnat.run(arguments(manual));
    assert_eq!(inside.stdout, "it ran\n", "{inside}");
    assert_eq!(with_table(containers[0].cgroup.path().as_os_str()).stdout, "it ran\n");
}

/// It once said that they were gone.
#[test]
fn exec_says_that_the_cgroups_of_an_app_are_not_in_view() {
    let (scene, _containers) = with_containers();
    let script = format!("mount -t tmpfs none $1/{}", scene.app.cgroup.relative());
    let exec = ["exec", "--app", "shop", "--", "echo", "it ran"].map(OsStr::new);
    let hidden = run_after(&scene, &script, &exec);
    assert_eq!((hidden.code(), hidden.stdout.as_str()), (Some(1), ""), "{hidden}");
    for said in ["cgroups that are not in view: ", "is hidden by another mount"] {
        assert!(hidden.stderr.contains(said), "{hidden}");
    }
    assert!(!hidden.stderr.contains("no living cgroup"), "{hidden}");
    assert_eq!(scene.vipnat.run(exec).stdout, "it ran\n");
}

#[test]
fn names_of_cgroups_that_are_not_text_are_attached_by_hand_and_by_pattern() {
    let scene = Scene::new(1);
    let containers = [&b"shop-\xff\xfe"[..], b"manual-\xc3"].map(|name| {
        let path = scene.app.cgroup.path().join(OsStr::from_bytes(name));
        fs::create_dir(&path).unwrap();
        path
    });
    let table = text(&scene);
    let applied = scene.vipnat.apply(&table);
    assert!(
        applied.contains(&format!("+ app shop in cgroup {}", scene.app.cgroup.relative())),
        "{applied}"
    );
    let attach = ["attach", "--app", "manual", "--cgroup"].map(OsStr::new);
    scene.vipnat.ok([&attach[..], &[containers[1].as_os_str()]].concat());
    assert_eq!(scene.vipnat.apply(&table), "nothing to change\n");

    // By the process in it.
    scene.vipnat.ok(["flush", "--app", "manual"]);
    scene.vipnat.apply(&table);
    let mut sleeping = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = sleeping.id().to_string();
    fs::write(containers[1].join("cgroup.procs"), &pid).unwrap();
    let attached = scene.vipnat.run(["attach", "--app", "manual", "--pid", &pid]);
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    assert!(attached.status.success(), "{attached}");
    assert_eq!(scene.vipnat.apply(&table), "nothing to change\n");

    // Listed without loss.
    let listed: serde_json::Value =
        serde_json::from_str(&scene.vipnat.ok(["list", "--json"])).unwrap();
    let app = |name: &str| {
        let mut apps = listed["apps"].as_array().unwrap().iter();
        apps.find(|app| app["app"] == name).unwrap()["cgroups"][0].clone()
    };
    for (name, path) in iter::zip(["shop", "manual"], &containers) {
        let bytes: Vec<u8> = serde_json::from_value(app(name)["cgroup-bytes"].clone()).unwrap();
        assert!(path.as_os_str().as_bytes().ends_with(&bytes), "{listed}");
        assert!(app(name)["cgroup"].as_str().unwrap().contains('\u{fffd}'), "{listed}");
    }

    // And so is what is to be ended there.
    let drain = table.replace("backends =", "on-backend-removed = \"drain\"\nbackends =");
    scene.vipnat.apply(&drain);
    let none = drain.replace(&list([0]), "[]");
    let file = scene.vipnat.table(&none);
    let applied = scene.vipnat.run(["apply".as_ref(), file.as_os_str()]);
    assert!(applied.status.success() && applied.stderr.is_empty(), "{applied}");
    let noted = fs::read_to_string(scene.vipnat.beside("drains.json")).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&noted).is_ok(), "{noted}");
    for path in containers {
        fs::remove_dir(path).unwrap();
    }
}

/// Where a replacement character stood for such bytes, nobody could tell which cgroup it was about.
#[test]
fn messages_keep_the_bytes_of_names_that_are_not_text() {
    let scene = Scene::new(0);
    let outer = scene.app.cgroup.path();
    let path = |name: &[u8]| outer.join(OsStr::from_bytes(name));
    let (shop, none) = (path(b"shop-\xff"), path(b"none-\xfe"));
    fs::create_dir(&shop).unwrap();
    scene.vipnat.apply(&text(&scene));
    let run = |arguments: &[&str], cgroup: &Path, more: &[&str]| {
        let arguments = arguments.iter().map(OsStr::new).chain([cgroup.as_os_str()]);
        scene.vipnat.run(arguments.chain(more.iter().map(OsStr::new)))
    };
    let said = |outcome: Outcome, bytes: &str| {
        assert_eq!(outcome.code(), Some(1), "{outcome}");
        assert!(outcome.stderr.contains(bytes), "{bytes} in {outcome}");
        assert!(!outcome.stderr.contains('\u{fffd}'), "{outcome}");
    };
    let command = ["--", "true"];
    said(run(&["attach", "--app", "manual", "--cgroup"], &none, &[]), "/none-\\xfe does not exist");
    said(
        run(&["exec", "--app", "manual", "--cgroup"], &none, &command),
        "vipnat attach --app manual --cgroup ",
    );
    said(run(&["exec", "--app", "manual", "--cgroup"], &none, &command), "/none-\\xfe");
    said(run(&["exec", "--app", "manual", "--cgroup"], &shop, &command), "/shop-\\xff is not app");
    // Claimed by two.
    let name = scene.app.cgroup.relative();
    let two = format!("{}[apps.blog]\ncgroup = \"{name}/sho*\"\n", text(&scene));
    let file = scene.vipnat.table(&two);
    said(scene.vipnat.run(["apply".as_ref(), file.as_os_str()]), "/shop-\\xff is claimed by");
}
