//! Relationships with several endpoints, and VIPs that several relationships share.

use serde_json::{Value, json};

use crate::scene::{DB, PORT, Scene, list};

const REPLICA: &str = "169.254.169.143";

/// A primary and its replica as one relationship, whose replica another relationship uses too.
fn table(scene: &Scene, reporting: &str) -> String {
    format!(
        "[services.primary]\nbackends = {}\n[services.replica]\nbackends = {}\n\
         [services.other]\nbackends = {}\n[apps.shop]\ncgroup = \"{}\"\n\
         [[apps.shop.relationships.db]]\nservice = \"primary\"\n\
         endpoint = {{ username = \"main\" }}\n\
         [[apps.shop.relationships.db]]\nservice = \"replica\"\nvip = \"{REPLICA}\"\n\
         endpoint = {{ username = \"main\" }}\n{reporting}",
        list([0]),
        list([1]),
        list([0, 1]),
        scene.app.cgroup.relative()
    )
}

fn reporting(service: &str) -> String {
    format!(
        "[apps.shop.relationships.reporting]\nservice = \"{service}\"\nvip = \"{REPLICA}\"\n\
         endpoint = {{ username = \"report\" }}\n"
    )
}

#[test]
fn a_primary_and_a_replica_are_one_relationship_and_two_users_share_a_vip() {
    let scene = Scene::new(2);
    let shared = table(&scene, &reporting("replica"));
    let applied = scene.vipnat.apply(&shared);
    assert!(applied.contains(&format!("+ shop db {DB} -> ")), "{applied}");
    let one = applied.matches(&format!("+ shop db, reporting {REPLICA} -> ")).count();
    assert_eq!(one, 1, "{applied}");
    for (vip, backend) in [(DB, "0"), (REPLICA, "1")] {
        let report = scene.app.probe(&format!("tcp {vip}:{PORT}"));
        assert_eq!((report.banner(), report.peer()), (backend, &*format!("{vip}:{PORT}")));
    }
    assert_eq!(scene.vipnat.apply(&shared), "nothing to change\n");

    let listed = scene.vipnat.ok(["list"]);
    let line = listed.lines().find(|line| line.contains(REPLICA)).unwrap();
    let words: Vec<_> = line.split_whitespace().take(5).collect();
    assert_eq!(words, ["db,", "reporting", REPLICA, "replica", "1"], "{listed}");
    let listed: Value = serde_json::from_str(&scene.vipnat.ok(["list", "--json"])).unwrap();
    let vips = listed["apps"][0]["relationships"].as_array().unwrap();
    assert_eq!(vips.len(), 2, "{vips:?}");
    let vip = vips.iter().find(|vip| vip["vip"] == REPLICA).unwrap();
    assert_eq!((&vip["relationship"], &vip["service"]), (&json!("db"), &json!("replica")));
    assert_eq!(vip["also"], json!([{ "relationship": "reporting", "service": "replica" }]));

    let file = scene.vipnat.table(&shared);
    let checked = scene.vipnat.ok(["check".as_ref(), file.as_os_str()]);
    assert!(checked.contains("3 services, 1 app, 2 relationships"), "{checked}");

    // One relationship is removed, and its VIP stays.
    assert_eq!(scene.vipnat.apply(&table(&scene, "")), "nothing to change\n");
    assert!(!scene.vipnat.ok(["list"]).contains("reporting"));
}

#[test]
fn relationships_that_mean_different_things_by_one_vip_are_refused_and_nothing_changes() {
    let scene = Scene::new(2);
    scene.vipnat.apply(&table(&scene, &reporting("replica")));
    let other = table(&scene, &reporting("other"));
    let error = scene.vipnat.apply_fails(&other, 2);
    let expected = format!(
        "apps.shop.relationships.reporting: relationships \"db[1]\" and \"reporting\" have the same \
         VIP {REPLICA}, but differ in `backends`"
    );
    assert!(error.contains(&expected), "{error}");
    assert_eq!(scene.app.probe(&format!("tcp {REPLICA}:{PORT}")).banner(), "1");
    // Both may change together.
    let both = other.replace("service = \"replica\"", "service = \"other\"");
    let applied = scene.vipnat.apply(&both);
    assert!(applied.contains(&format!("~ shop db, reporting {REPLICA} -> ")), "{applied}");
}

#[test]
fn exported_rules_lead_a_shared_vip_once_and_are_imported_as_they_were() {
    let scene = Scene::new(2);
    let file = scene.vipnat.table(&table(&scene, &reporting("replica")));
    let export = |format: &str| {
        scene.vipnat.ok([
            "export".as_ref(),
            format.as_ref(),
            file.as_os_str(),
            "--app=shop".as_ref(),
        ])
    };
    let nft = export("nft");
    assert_eq!(nft.matches(&format!("chain vip-{REPLICA} ")).count(), 1, "{nft}");
    assert!(nft.contains("comment \"db[1]: replica reporting: replica\""), "{nft}");
    let rules = scene.vipnat.table(&export("iptables"));
    let imported = scene.vipnat.ok([
        "import".as_ref(),
        "iptables".as_ref(),
        rules.as_os_str(),
        "--app=shop".as_ref(),
        "--cgroup=x".as_ref(),
    ]);
    let relationships = "[[apps.shop.relationships.db]]\nservice = \"primary\"\n\n\
         [[apps.shop.relationships.db]]\nservice = \"replica\"\nvip = \"169.254.169.143\"\n\n\
         [apps.shop.relationships.reporting]\nservice = \"replica\"\nvip = \"169.254.169.143\"\n";
    assert!(imported.ends_with(relationships), "{imported}");
}

#[test]
fn the_example_is_a_good_table() {
    let scene = Scene::new(0);
    let file = scene.vipnat.table(include_str!("../../../examples/replicas.toml"));
    let env = ["env".as_ref(), file.as_os_str(), "--app=shop".as_ref(), "--json".as_ref()];
    let value: Value = serde_json::from_str(&scene.vipnat.ok(env)).unwrap();
    assert_eq!(value["db"][0]["ip"], DB);
    assert_eq!(value["db"][1]["ip"], value["reporting"][0]["ip"]);
    assert_eq!(value["db"][1]["instance_ips"].as_array().unwrap().len(), 2);
}
