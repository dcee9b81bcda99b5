//! The output of `vipnat list`.

use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;

use crate::scene::{DB, Scene, ip};

#[test]
fn list_shows_apps_relationships_vips_backends_and_connections() {
    let scene = Scene::new(2);
    assert!(scene.vipnat.ok(["list"]).contains("no apps"));
    let backends =
        format!("[{{ ip = \"{}\", weight = 2 }}, {{ ip = \"{}\", port = 6380 }}]", ip(0), ip(1));
    scene.vipnat.apply(&scene.table_with(&backends, "port = 5432\nprotocol = \"tcp\""));
    assert_eq!(scene.who(), "0");
    let text = scene.vipnat.ok(["list"]);
    for part in [
        &format!("shop (cgroup {}, app id 1)", scene.app.cgroup.relative()),
        "db",
        &format!("{DB}:5432/tcp"),
        &format!("{} ×2  {}:6380", ip(0), ip(1)),
        "flows: 1 redirected, 0 unreachable, 0 unsettled, 0 unrecorded, 0 evicted",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    let json: Value = serde_json::from_str(&scene.vipnat.ok(["list", "--json"])).unwrap();
    let app = &json["apps"][0];
    let cgroup = scene.app.cgroup.relative();
    let id = scene.app.cgroup.path().metadata().unwrap().ino();
    let cgroups = serde_json::json!([
        { "cgroup": cgroup, "id": id, "gone": false, "translating": true, "by-hand": false }
    ]);
    assert_eq!((&app["app"], &app["cgroups"]), (&"shop".into(), &cgroups));
    let expected = serde_json::json!({
        "relationship": "db",
        "service": "shop",
        "vip": DB,
        "port": 5432,
        "protocol": "tcp",
        "connections": 1,
        "backends": [
            { "ip": ip(0), "port": null, "turns": 2 },
            { "ip": ip(1), "port": 6380, "turns": 1 },
        ],
        "select": "round-robin",
        "udp-pinning": "table",
        "on-backend-removed": "keep",
        "drain-seconds": null,
    });
    assert_eq!(app["relationships"][0], expected);
    assert_eq!(json["redirected"], 1);
}
