//! Cgroups whose names are not UTF-8.

use std::{ffi::OsStr, fs, iter, os::unix::ffi::OsStrExt as _, path::Path, process::Command};

use vipnat_testkit::Outcome;

use crate::{
    hidden::text,
    scene::{Scene, list},
};

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

    // Attach by the process in the cgroup.
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

    // The list shows the exact bytes.
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

    // The pending disconnects keep the exact bytes, too.
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

/// With replacement characters instead of such bytes, a message would not identify the cgroup.
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
    // Patterns of two apps match the cgroup.
    let name = scene.app.cgroup.relative();
    let two = format!("{}[apps.blog]\ncgroup = \"{name}/sho*\"\n", text(&scene));
    let file = scene.vipnat.table(&two);
    said(scene.vipnat.run(["apply".as_ref(), file.as_os_str()]), "/shop-\\xff, so no app gets it");
}
