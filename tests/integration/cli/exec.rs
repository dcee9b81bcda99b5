//! `vipnat exec`: the cgroup in which it runs a command, and the VIPs that this command reaches.

use vipnat_testkit::App;

use crate::scene::{DB, Scene, ip, list, table};

#[test]
fn exec_with_a_table_that_is_not_applied_says_that_its_vips_lead_nowhere() {
    let scene = Scene::new(1);
    let text = scene.table(&list([0]));
    let file = scene.vipnat.table(&text);
    let inside = format!("{}/inside", scene.app.cgroup.relative());
    let _inside = scene.app.cgroup.child("inside");
    let file = file.to_str().unwrap();
    let own = ["exec", "--app", "shop", file, "--", "echo", "it ran"];
    let named = ["exec", "--app", "shop", file, "--cgroup", &inside, "--", "echo", "it ran"];
    for arguments in [&own[..], &named] {
        let ran = scene.vipnat.run(arguments);
        assert_eq!((ran.code(), ran.stdout.as_str()), (Some(0), "it ran\n"), "{ran}");
        assert!(ran.stderr.starts_with("vipnat: app \"shop\" is not translated in "), "{ran}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
    }
    scene.vipnat.apply(&text);
    for arguments in [&own[..], &named] {
        let ran = scene.vipnat.run(arguments);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("it ran\n", ""), "{ran}");
    }
    // Another app is applied, and has the cgroup.
    scene.vipnat.ok(["flush"]);
    scene.vipnat.apply(&text.replace("apps.shop", "apps.blog"));
    scene.vipnat.table(&text);
    for arguments in [&own[..], &named] {
        let refused = scene.vipnat.run(arguments);
        assert_eq!((refused.code(), refused.stdout.as_str()), (Some(1), ""), "{refused}");
        assert!(
            refused.stderr.contains("not app \"shop\"'s; it belongs to app \"blog\""),
            "{refused}"
        );
    }
}

#[test]
fn exec_does_not_go_into_another_apps_cgroup_inside_its_own() {
    let scene = Scene::new(2);
    let inner = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("inner") };
    let deeper = inner.cgroup.child("deeper");
    let beside = scene.app.cgroup.child("beside");
    let own = scene.app.cgroup.relative();
    let text = table(&[
        ("outer", own, &list([0]), ""),
        ("inner", inner.cgroup.relative(), &list([1]), ""),
    ]);
    let file = scene.vipnat.table(&text);
    scene.vipnat.ok(["apply".as_ref(), file.as_os_str()]);
    let exec = |app: &str, cgroup: &str, more: &[&str]| {
        let arguments = ["exec", "--app", app, "--cgroup", cgroup];
        scene.vipnat.run([&arguments, more, &["--", "echo", "it ran"]].concat())
    };
    let up = format!("{own}/../{}", inner.cgroup.relative());
    for more in [&[][..], &[file.to_str().unwrap()]] {
        for cgroup in [inner.cgroup.relative(), deeper.relative()] {
            let refused = exec("outer", cgroup, more);
            assert_eq!((refused.code(), refused.stdout.as_str()), (Some(1), ""), "{refused}");
            assert!(refused.stderr.contains("it belongs to app \"inner\""), "{refused}");
            assert_eq!(exec("inner", cgroup, more).stdout, "it ran\n");
        }
        for cgroup in [own, beside.relative()] {
            let ran = exec("outer", cgroup, more);
            assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("it ran\n", ""), "{ran}");
            assert_eq!(exec("inner", cgroup, more).code(), Some(1));
        }
        assert_eq!(exec("outer", &up, more).code(), Some(1));
    }
}

#[test]
fn exec_runs_in_the_cgroup_with_the_relationships() {
    let scene = Scene::new(1);
    let file = scene.vipnat.table(&scene.table_with(&list([0]), "endpoint = { port = 5432 }"));
    scene.vipnat.ok(["apply".as_ref(), file.as_os_str()]);
    let script = "grep ^0:: /proc/self/cgroup; echo $PLATFORM_RELATIONSHIPS | base64 -d | jq -c .";
    let with_table = ["exec", "--app", "shop", file.to_str().unwrap(), "--", "sh", "-c", script];
    let printed = scene.vipnat.ok(with_table);
    let relative = scene.app.cgroup.relative();
    let relationships =
        format!(r#"{{"db":[{{"ip":"{DB}","instance_ips":["{}"],"port":5432}}]}}"#, ip(0));
    assert_eq!(printed, format!("0::/{relative}\n{relationships}\n"));
    assert_eq!(
        scene
            .vipnat
            .ok(["env", "--app", "shop", file.to_str().unwrap(), "--json"])
            .replace([' ', '\n'], ""),
        relationships
    );
    // Without a table, the applied state gives the cgroup.
    let printed =
        scene.vipnat.ok(["exec", "--app", "shop", "--", "grep", "^0::", "/proc/self/cgroup"]);
    assert_eq!(printed, format!("0::/{relative}\n"));
    // The exit status is that of the command.
    assert_eq!(
        scene.vipnat.run(["exec", "--app", "shop", "--", "sh", "-c", "exit 7"]).code(),
        Some(7)
    );
    let unknown = scene.vipnat.run(["exec", "--app", "nobody", "--", "true"]);
    assert_eq!(unknown.code(), Some(1));
    assert!(unknown.stderr.contains("no app \"nobody\""), "{unknown}");
    // The same with a named cgroup, and with nothing applied.
    let cgroup = scene.app.cgroup.relative();
    let unknown = ["exec", "--app", "nobody", "--cgroup", cgroup, "--", "true"];
    let refused = scene.vipnat.run(unknown);
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("no app \"nobody\" is applied; there are: shop"), "{refused}");
    scene.vipnat.ok(["flush"]);
    let refused = scene.vipnat.run(unknown);
    assert!(refused.stderr.contains("nothing is applied; apply a table first"), "{refused}");
}
