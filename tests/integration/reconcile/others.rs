//! Programs of other tools, other instances of vipnat, and stale links on the same hooks.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, process::Command};

use vipnat_testkit::{
    App, Cgroup, Outcome, Vipnat,
    bpf::{self, Beside, HOOKS, Policy},
    outcome, state,
};

use crate::scene::{DB, PORT, Scene, banner, list, table};

/// The error of an app's connection, which must fail.
fn error(app: &App) -> String {
    app.probe(&format!("tcp {DB}:{PORT}")).error().to_owned()
}

/// Two apps below one parent, and one elsewhere.
struct Family {
    scene: Scene,
    child: App,
    other: App,
}

impl Family {
    fn new() -> Self {
        let scene = Scene::new(2);
        let host = scene.app.host.clone();
        let child = App { host: host.clone(), cgroup: scene.app.cgroup.child("child") };
        Self { child, other: App::new(host), scene }
    }

    /// A table for the child and the other one.
    fn table(&self) -> String {
        let [child, other] = [&self.child, &self.other].map(|app| app.cgroup.relative());
        table(&[("child", child, &list([0]), ""), ("other", other, &list([1]), "")])
    }

    /// Runs `apply` with these arguments in front of the table.
    fn apply(&self, arguments: &[&str]) -> Outcome {
        let file = self.scene.vipnat.table(&self.table());
        let mut apply = self.scene.vipnat.command(["apply"]);
        outcome(apply.args(arguments).arg(file))
    }
}

#[test]
fn a_policy_of_a_parent_is_not_switched_off_unless_that_is_asked_for() {
    let family = Family::new();
    let Family { scene, child, other } = &family;
    let parent = scene.app.cgroup.path();
    let policy = Policy::attach(parent, "connect4", Beside::Override);
    assert_eq!(error(child), "EPERM");

    // `--dry-run` comes first, and prints the same.
    for arguments in [&["--dry-run"][..], &[]] {
        let refused = family.apply(arguments);
        assert_eq!(refused.code(), Some(1), "{refused}");
        let said = format!(
            "app \"child\": cannot attach to cgroup {}: this would switch off program {} (\"policy\"), \
             which it inherits from cgroup {} (connect4)",
            child.cgroup.path().display(),
            policy.id(),
            parent.display()
        );
        assert!(refused.stderr.contains(&said), "{said}: {refused}");
        assert!(refused.stderr.contains("--override-inherited"), "{refused}");
        assert!(!refused.stdout.contains("+ app child"), "{refused}");
        assert!(refused.stdout.contains("+ app other"), "others go on: {refused}");
    }
    assert_eq!(error(child), "EPERM");
    assert_eq!(banner(&other.probe(&format!("tcp {DB}:{PORT}"))), "1");

    // `vipnat attach` refuses it too.
    let by_hand = ["attach", "--app", "other", "--cgroup", child.cgroup.relative()];
    let refused = scene.vipnat.run(by_hand);
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("would switch off"), "{refused}");
    assert!(!scene.vipnat.ok(["list"]).contains("by hand"), "nothing is left of it");

    let asked = family.apply(&["--override-inherited"]);
    assert_eq!(asked.code(), Some(0), "{asked}");
    assert!(asked.stdout.contains("+ app child"), "{asked}");
    assert_eq!(banner(&child.probe(&format!("tcp {DB}:{PORT}"))), "0");
    // An attached app stays attached.
    assert_eq!(family.apply(&[]).stdout, "nothing to change\n");
}

#[test]
fn a_policy_that_lets_others_run_beside_it_goes_on() {
    let family = Family::new();
    let _policy = Policy::attach(family.scene.app.cgroup.path(), "connect4", Beside::Multi);
    let applied = family.apply(&[]);
    assert_eq!(applied.code(), Some(0), "{applied}");
    assert_eq!(error(&family.child), "EPERM");
}

#[test]
fn a_program_that_wants_to_be_alone_is_named_with_the_cgroup_it_is_on() {
    let family = Family::new();
    let Family { scene, child, .. } = &family;
    for (cgroup, place) in
        [(scene.app.cgroup.path(), "below it"), (child.cgroup.path(), "beside it")]
    {
        let policy = Policy::attach(cgroup, "connect6", Beside::Nobody);
        // The option does not help here.
        for arguments in [&[][..], &["--override-inherited"]] {
            let refused = family.apply(arguments);
            assert_eq!(refused.code(), Some(1), "{refused}");
            let (cgroup, id) = (cgroup.display(), policy.id());
            let said = format!(
                "program {id} (\"policy\") on cgroup {cgroup} allows no other program {place} (connect6)"
            );
            assert!(refused.stderr.contains(&said), "{said}: {refused}");
            let next = format!("bpftool cgroup detach {cgroup} connect6 id {id}");
            assert!(refused.stderr.contains(&next), "{next}: {refused}");
            // No hook is attached, so nothing is translated, not even in part.
            assert_eq!(error(child), "ENETUNREACH");
        }
        // The remedy in the message works.
        let line = format!("cgroup detach {} connect6 id {}", cgroup.display(), policy.id());
        let detached = outcome(Command::new("bpftool").args(line.split(' ')));
        assert!(detached.status.success(), "{detached}");
        let applied = family.apply(&[]);
        assert_eq!(applied.code(), Some(0), "{applied}");
        scene.vipnat.ok(["flush"]);
    }
}

/// A second vipnat once printed `+` for a cgroup, although the first one translated its connects.
#[test]
fn another_vipnat_on_a_cgroup_above_or_below_it_is_seen_and_refused() {
    let family = Family::new();
    let Family { scene, child, other } = &family;
    let parent = scene.app.cgroup.relative();
    let first = Vipnat::new();
    for (cgroup, place) in [
        (child.cgroup.relative(), "another vipnat translates it ("),
        (parent, "another vipnat translates cgroup"),
    ] {
        first.apply(&table(&[("first", cgroup, &list([0]), "")]));
        let refused = family.apply(&[]);
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains(place), "{place}: {refused}");
        let who = format!("vipnat --bpffs {} list", first.bpffs().display());
        assert!(refused.stderr.contains(&who), "{who}: {refused}");
        assert!(!refused.stdout.contains("app child"), "{refused}");
        assert!(!scene.vipnat.ok(["list"]).contains(child.cgroup.relative()));
        assert_eq!(banner(&child.probe(&format!("tcp {DB}:{PORT}"))), "0");
        assert_eq!(banner(&other.probe(&format!("tcp {DB}:{PORT}"))), "1");
        scene.vipnat.ok(["flush"]);
        first.ok(["flush"]);
    }

    // The other vipnat is on a cgroup below.
    first.apply(&table(&[("first", child.cgroup.relative(), &list([0]), "")]));
    let file = scene.vipnat.table(&scene.table(&list([1])));
    let refused = scene.vipnat.run(["apply".as_ref(), file.as_os_str()]);
    assert_eq!(refused.code(), Some(1), "{refused}");
    let below = format!("translates cgroup {} inside it", child.cgroup.path().display());
    assert!(refused.stderr.contains(&below), "{below}: {refused}");
    assert_eq!(banner(&child.probe(&format!("tcp {DB}:{PORT}"))), "0");
    first.ok(["flush"]);
    scene.vipnat.ok(["apply".as_ref(), file.as_os_str()]);
    assert_eq!(scene.who(), "1");
}

#[test]
fn a_vipnat_of_another_build_is_seen_too() {
    let family = Family::new();
    let Family { scene, child, .. } = &family;
    let first = Vipnat::new();
    let text = table(&[("first", child.cgroup.relative(), &list([0]), "")]);
    for build in ["other-build", "other-layout"] {
        let file = first.table(&text);
        let applied = outcome(&mut first.command_of(build, ["apply".as_ref(), file.as_os_str()]));
        assert!(applied.status.success(), "{applied}");
        let refused = family.apply(&[]);
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains("another vipnat translates it"), "{refused}");
        scene.vipnat.ok(["flush"]);
        outcome(&mut first.command_of(build, ["flush"]));
    }
}

/// `rm -r` of a state directory detaches the links, but only when a kernel worker runs.
#[test]
fn a_vipnat_whose_pins_were_removed_a_moment_ago_is_in_nobodys_way() {
    let scene = Scene::new(2);
    for round in 0..5 {
        scene.vipnat.apply(&scene.table(&list([round % 2])));
        fs::remove_dir_all(scene.vipnat.bpffs()).unwrap();
    }
    scene.apply_first(1);
    assert_eq!(scene.who(), "0");
}

/// The directory of links of an app on its cgroup.
fn links(vipnat: &Vipnat, app: &App) -> PathBuf {
    let id = fs::metadata(app.cgroup.path()).unwrap().ino().to_string();
    let mut apps = fs::read_dir(vipnat.bpffs().join("apps")).unwrap();
    apps.find_map(|dir| Some(dir.unwrap().path().join(&id)).filter(|links| links.exists())).unwrap()
}

#[test]
fn a_link_that_somebody_has_open_is_detached_when_its_app_leaves() {
    let scene = Scene::new(1);
    let cgroups = [&scene.app.cgroup];
    type Leave = fn(&Scene);
    let ways: [(&str, Leave); 4] = [
        ("apply", |scene| drop(scene.vipnat.apply("[apps.another]\n"))),
        ("flush of the app", |scene| drop(scene.vipnat.ok(["flush", "--app", "shop"]))),
        ("flush", |scene| drop(scene.vipnat.ok(["flush"]))),
        ("another cgroup", |scene| {
            let elsewhere =
                scene.table(&list([0])).replace(scene.app.cgroup.relative(), "no-such-*");
            drop(scene.vipnat.apply(&elsewhere));
        }),
    ];
    scene.apply_first(1);
    let fresh = state::dump(&scene.vipnat, &cgroups);
    for (way, leave) in ways {
        let links = links(&scene.vipnat, &scene.app);
        let _held = HOOKS.map(|(hook, _)| bpf::open(&links.join(hook)).unwrap());
        leave(&scene);
        assert_eq!(bpf::attached(scene.app.cgroup.path()), 0, "{way}");
        scene.apply_first(1);
        let report = scene.app.probe(&format!("tcp {DB}:{PORT}"));
        assert_eq!((report.banner(), report.peer()), ("0", &*format!("{DB}:{PORT}")), "{way}");
        assert_eq!(state::dump(&scene.vipnat, &cgroups), fresh, "{way}");
        assert_eq!(scene.apply_first(1), "nothing to change\n", "{way}");
    }
}

/// An earlier vipnat only unlinked, and left such links. `getpeername` then showed the backend, and `apply`
/// had nothing to change.
#[test]
fn two_links_of_one_hook_are_seen_and_made_one() {
    let scene = Scene::new(1);
    let cgroups = [&scene.app.cgroup];
    scene.apply_first(1);
    let fresh = state::dump(&scene.vipnat, &cgroups);
    let programs = scene.vipnat.bpffs().join("progs");
    let second = |hook: &str, kind: u32| {
        let program = bpf::open(&programs.join(hook)).unwrap();
        bpf::link(&program, scene.app.cgroup.path(), kind).unwrap()
    };
    for held in [vec![HOOKS[0]], HOOKS.to_vec()] {
        let _held: Vec<_> = held.iter().map(|(hook, kind)| second(hook, *kind)).collect();
        assert_eq!(bpf::attached(scene.app.cgroup.path()), 7 + held.len());
        let mended = scene.apply_first(1);
        assert_eq!(mended, format!("+ app shop in cgroup {}\n", scene.app.cgroup.relative()));
        assert_eq!(bpf::attached(scene.app.cgroup.path()), 7);
        let report = scene.app.probe(&format!("tcp {DB}:{PORT}"));
        assert_eq!((report.banner(), report.peer()), ("0", &*format!("{DB}:{PORT}")));
        assert_eq!(state::dump(&scene.vipnat, &cgroups), fresh);
        assert_eq!(scene.apply_first(1), "nothing to change\n");
    }

    // Another program removed the pins, while a process has the links open.
    let links = links(&scene.vipnat, &scene.app);
    let _held = HOOKS.map(|(hook, _)| bpf::open(&links.join(hook)).unwrap());
    fs::remove_dir_all(&links).unwrap();
    scene.apply_first(1);
    assert_eq!(bpf::attached(scene.app.cgroup.path()), 7);
    assert_eq!(state::dump(&scene.vipnat, &cgroups), fresh);
}

/// vipnat once kept all links open while it searched them.
#[test]
fn there_may_be_more_links_than_a_process_may_open() {
    let family = Family::new();
    let Family { scene, .. } = &family;
    let first = Vipnat::new();
    let elsewhere: Vec<_> = (0..10).map(|_| Cgroup::new()).collect();
    let names: Vec<_> = (0..10).map(|number| format!("app{number}")).collect();
    let apps = names.iter().zip(&elsewhere);
    let apps: Vec<_> = apps.map(|(name, at)| (name.as_str(), at.relative(), "[]", "")).collect();
    first.apply(&table(&apps));
    // The cgroup has a cgroup inside, so that vipnat searches all links of the machine.
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=48").arg(apply.get_program()).args(apply.get_args());
    let applied = outcome(&mut limited);
    assert_eq!(applied.code(), Some(0), "{applied}");
    assert_eq!(scene.who(), "0");
}

/// Runs `apply` as user 0 with only these capabilities.
fn limited(family: &Family, capabilities: &str) -> Outcome {
    let file = family.scene.vipnat.table(&family.table());
    let apply = family.scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    run_limited(&apply, capabilities)
}

fn run_limited(vipnat: &Command, capabilities: &str) -> Outcome {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "--inh-caps"].map(|set| format!("{set}=-all{capabilities}")));
    outcome(command.arg(vipnat.get_program()).args(vipnat.get_args()))
}

/// The capabilities of the service: it sees flags but no names, and other vipnats by their pins.
#[test]
fn with_cap_net_admin_alone_policies_and_other_vipnats_are_still_seen() {
    let family = Family::new();
    let Family { scene, child, .. } = &family;
    let service = ",+bpf,+perfmon,+net_admin";
    let policy = Policy::attach(scene.app.cgroup.path(), "connect4", Beside::Override);
    let refused = limited(&family, service);
    assert_eq!(refused.code(), Some(1), "{refused}");
    let said = format!("would switch off program {}, which", policy.id());
    assert!(refused.stderr.contains(&said), "{said}: {refused}");
    drop(policy);

    let first = Vipnat::new();
    first.apply(&table(&[("first", child.cgroup.relative(), &list([0]), "")]));
    let refused = limited(&family, service);
    assert_eq!(refused.code(), Some(1), "{refused}");
    let who = format!("vipnat --bpffs {} list", first.bpffs().display());
    assert!(refused.stderr.contains(&who), "{who}: {refused}");
    first.ok(["flush"]);
    let seen = limited(&family, service);
    assert_eq!((seen.code(), seen.stderr.as_str()), (Some(0), ""), "{seen}");

    // Without it vipnat sees no programs. It does the same as before, and warns.
    scene.vipnat.ok(["flush", "--app", "child"]);
    let applied = limited(&family, ",+bpf");
    assert_eq!(applied.code(), Some(0), "{applied}");
    let warns = |outcome: &Outcome| {
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
        assert!(outcome.stderr.contains("cgroups without CAP_NET_ADMIN"), "{outcome}");
    };
    warns(&applied);
    assert_eq!(banner(&child.probe(&format!("tcp {DB}:{PORT}"))), "0");
    let again = limited(&family, ",+bpf");
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("nothing to change\n", ""));
    let by_hand = App::new(scene.app.host.clone());
    for _ in 0..2 {
        let attach = ["attach", "--app", "child", "--cgroup", by_hand.cgroup.relative()];
        let attached = run_limited(&scene.vipnat.command(attach), "");
        assert_eq!(attached.code(), Some(0), "{attached}");
        match attached.stdout.as_str() {
            "nothing to change\n" => assert_eq!(attached.stderr, "", "{attached}"),
            _ => warns(&attached),
        }
    }
}
