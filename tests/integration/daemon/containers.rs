//! `run` attaches new containers, and removes the links of those that end.

use std::fs;

use vipnat_testkit::{App, Cgroup, Following};

use crate::{
    daemon::follow::QUIET,
    scene::{DB, PORT, Scene, banner, list, table},
};

#[test]
fn containers_are_attached_as_they_appear_and_forgotten_as_they_go() {
    let scene = Scene::new(1);
    let parent = &scene.app.cgroup;
    let pattern = format!("{}/shop-*", parent.relative());
    let mut run = scene.vipnat.follow(&table(&[("shop", &pattern, &list([0]), "")]), &[]);
    let probe = format!("tcp {DB}:{PORT}");
    for round in 0..5 {
        let containers: Vec<_> = (0..3)
            .map(|number| {
                let cgroup = parent.child(&format!("shop-{number}"));
                App { host: scene.app.host.clone(), cgroup }
            })
            .collect();
        let other = App { host: scene.app.host.clone(), cgroup: parent.child("blog-1") };
        run.wait_for_many(3, |line| line.starts_with("+ app shop in cgroup"));
        for container in &containers {
            assert_eq!(banner(&container.probe(&probe)), "0", "round {round}");
        }
        assert_eq!(other.probe(&probe).error(), "ENETUNREACH");
        drop((containers, other));
        run.wait_for_many(3, |line| line.starts_with("- app shop in a cgroup that is gone"));
    }
    // Only the app itself remains.
    let apps = scene.vipnat.bpffs().join("apps");
    let left: Vec<_> = fs::read_dir(&apps).unwrap().map(|app| app.unwrap().path()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::read_dir(&left[0]).unwrap().count(), 0);
    assert!(left[0].ends_with("1:shop"), "its scope is the same: {left:?}");
}

#[test]
fn a_cgroup_whose_parents_come_later_is_waited_for() {
    let scene = Scene::new(1);
    let parent = Cgroup::new();
    let path = format!("{}/a/b", parent.relative());
    let mut run = scene.vipnat.follow(&table(&[("shop", &path, &list([0]), "")]), &[]);
    for _ in 0..3 {
        let outer = parent.child("a");
        assert_eq!(run.says_meanwhile(QUIET), [""; 0]);
        let app = App { host: scene.app.host.clone(), cgroup: outer.child("b") };
        run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
        assert_eq!(banner(&app.probe(&format!("tcp {DB}:{PORT}"))), "0");
        drop((app, outer));
        run.wait_for(|line| line.starts_with("- app shop"));
    }
}

#[test]
fn a_cgroup_that_two_patterns_match_is_nobodys() {
    let scene = Scene::new(2);
    let parent = &scene.app.cgroup;
    let (first, second) =
        (format!("{}/x-*", parent.relative()), format!("{}/*-x", parent.relative()));
    let apps = [("shop", first.as_str(), &*list([0]), ""), ("blog", &second, &list([1]), "")];
    let mut run = scene.vipnat.follow(&table(&apps), &[]);
    let contested = App { host: scene.app.host.clone(), cgroup: parent.child("x-x") };
    run.wait_for(|line| line.contains("patterns of apps blog and shop match cgroup"));
    let clear = App { host: scene.app.host.clone(), cgroup: parent.child("x-1") };
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    let probe = format!("tcp {DB}:{PORT}");
    assert_eq!(banner(&clear.probe(&probe)), "0");
    assert_eq!(contested.probe(&probe).error(), "ENETUNREACH");
    drop(run);
    let error = scene.vipnat.apply_fails(&table(&apps), 1);
    assert!(error.contains("patterns of apps blog and shop match cgroup"), "{error}");
    // A path takes precedence over patterns, no matter where its app stands among theirs.
    let named = format!("{}/x-x", parent.relative());
    scene.vipnat.apply(&table(&[apps[0], ("blog", &named, &list([1]), "")]));
    assert_eq!(banner(&contested.probe(&probe)), "1");
    assert_eq!(banner(&clear.probe(&probe)), "0");
    for name in ["a", "cd", "zed"] {
        scene.vipnat.apply(&table(&[apps[0], apps[1], (name, &named, &list([1]), "")]));
        assert_eq!(banner(&contested.probe(&probe)), "1", "{name}");
    }
}

#[test]
fn attach_comes_before_the_first_process_and_outlives_tables() {
    let scene = Scene::new(2);
    let probe = format!("tcp {DB}:{PORT}");
    let text = |backend: u8| {
        format!(
            "[services.s]\nbackends = {}\n[apps.shop]\n[apps.shop.relationships.db]\nservice = \"s\"\n",
            list([backend])
        )
    };
    scene.vipnat.apply(&text(0));
    let attach = ["attach", "--app", "shop", "--cgroup", scene.app.cgroup.relative()];
    let printed = scene.vipnat.ok(attach);
    assert_eq!(printed, format!("+ app shop in cgroup {}\n", scene.app.cgroup.relative()));
    assert_eq!(scene.vipnat.ok(attach), "nothing to change\n");
    assert_eq!(scene.who(), "0");
    assert_eq!(scene.vipnat.apply(&text(1)).lines().count(), 1);
    assert_eq!(scene.who(), "1");
    assert!(scene.vipnat.ok(["list"]).contains("(by hand)"));

    // Attach by a process in the cgroup.
    let other = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("other") };
    let cgroup = Cgroup::new();
    let app = App { host: scene.app.host.clone(), cgroup };
    let mut sleeping = app.command("sleep").arg("60").spawn().unwrap();
    let pid = sleeping.id().to_string();
    scene.vipnat.ok(["attach", "--app", "shop", "--pid", &pid]);
    assert_eq!(banner(&app.probe(&probe)), "1");
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    drop(other);

    // The next apply removes the links of a cgroup that is gone.
    drop(app);
    assert_eq!(scene.vipnat.apply(&text(1)), "- app shop in a cgroup that is gone\n");

    for (arguments, wrong) in [
        (["--app", "nobody", "--cgroup", scene.app.cgroup.relative()], "there are: shop"),
        (["--app", "shop", "--cgroup", "vipnat-test-nowhere"], "does not exist"),
        (["--app", "shop", "--cgroup", "/etc"], "below the cgroup v2 mount"),
        (["--app", "shop", "--pid", "4294967295"], "no process"),
    ] {
        let refused = scene.vipnat.run(["attach"].iter().chain(&arguments));
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains(wrong), "{refused}");
    }
    // vipnat makes links again that another program removed.
    let apps = scene.vipnat.bpffs().join("apps");
    let app_dir = fs::read_dir(apps).unwrap().next().unwrap().unwrap().path();
    let links = fs::read_dir(app_dir).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(links.join("connect4")).unwrap();
    assert!(scene.vipnat.apply(&text(1)).starts_with("+ app shop in cgroup"));
    assert_eq!(scene.who(), "1");
    assert!(scene.vipnat.ok(["list"]).contains("(by hand)"));

    // If the table drops the app, the app leaves this cgroup after all.
    scene.vipnat.apply(
        &table(&[("blog", Cgroup::new().relative(), "[]", "")])
            .replace("[apps.blog]\ncgroup", "[apps.blog]\n#"),
    );
    assert_eq!(scene.app.probe(&probe).error(), "ENETUNREACH");
}

#[test]
fn what_was_attached_by_hand_is_forgotten_by_run_when_it_goes() {
    let scene = Scene::new(1);
    let text = format!(
        "[services.s]\nbackends = {}\n[apps.shop]\n[apps.shop.relationships.db]\nservice = \"s\"\n",
        list([0])
    );
    let container = scene.app.cgroup.child("container");
    scene.vipnat.apply(&text);
    scene.vipnat.ok(["attach", "--app", "shop", "--cgroup", container.relative()]);
    let file = scene.vipnat.table(&text);
    let mut run = Following::start(scene.vipnat.command(["run".as_ref(), file.as_os_str()]));
    run.wait_for(|line| line.starts_with("following "));
    assert_eq!(run.says_meanwhile(QUIET), [""; 0]);
    drop(container);
    run.wait_for(|line| line.starts_with("- app shop in a cgroup that is gone"));
}

/// A table once took precedence over `attach`, even if only a pattern matched.
#[test]
fn what_a_hook_attached_is_not_another_apps_by_a_pattern() {
    let scene = Scene::new(2);
    let pattern = format!("{}/*", scene.app.cgroup.relative());
    let container = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-1") };
    let probe = format!("tcp {DB}:{PORT}");
    let special = table(&[("special", "x", &list([1]), "")]).replace("cgroup = \"x\"\n", "");
    let both = special.clone() + &table(&[("general", &pattern, &list([0]), "")]);
    let attach = ["attach", "--app", "special", "--cgroup", container.cgroup.relative()];
    scene.vipnat.apply(&special);
    scene.vipnat.ok(attach);
    scene.vipnat.apply(&both);
    assert_eq!(banner(&container.probe(&probe)), "1");
    // The pattern may come before the hook.
    scene.vipnat.ok(["flush"]);
    scene.vipnat.apply(&both);
    assert_eq!(banner(&container.probe(&probe)), "0");
    scene.vipnat.ok(attach);
    assert_eq!(banner(&container.probe(&probe)), "1");
    assert_eq!(scene.vipnat.apply(&both), "nothing to change\n");
    // A path takes precedence over `attach`.
    let named = table(&[("general", container.cgroup.relative(), &list([0]), "")]);
    scene.vipnat.apply(&(special + &named));
    assert_eq!(banner(&container.probe(&probe)), "0");
}

/// A watch ends with its directory. Once it was not set again if another directory already had that name.
#[test]
fn a_parent_that_is_replaced_at_once_is_watched_again() {
    let scene = Scene::new(1);
    let parent = Cgroup::new();
    let path = format!("{}/lxc/shop-*", parent.relative());
    let mut run = scene.vipnat.follow(&table(&[("shop", &path, &list([0]), "")]), &[]);
    let mut lxc = parent.child("lxc");
    for _ in 0..5 {
        drop(lxc);
        lxc = parent.child("lxc");
        let shop = lxc.child("shop-1");
        run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
        drop(shop);
        run.wait_for(|line| line.starts_with("- app shop"));
    }
}

/// With links on nested cgroups of one app, both hooks run: `getpeername` once showed the backend.
#[test]
fn a_cgroup_inside_one_of_the_same_app_needs_no_links() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let inner = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("init") };
    let attach = ["attach", "--app", "shop", "--cgroup", inner.cgroup.relative()];
    assert_eq!(scene.vipnat.ok(attach), "nothing to change\n");
    let report = inner.probe(&format!("tcp {DB}:{PORT}"));
    assert_eq!((report.ok, report.peer()), (true, format!("{DB}:{PORT}").as_str()), "{report:?}");
    assert_eq!(scene.vipnat.apply(&scene.table(&list([0]))), "nothing to change\n");
}
