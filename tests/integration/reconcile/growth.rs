//! Tables that need larger maps.

use std::process::Command;

use serde_json::Value;
use vipnat_common::abi::capacity;
use vipnat_testkit::{Load, outcome, program};

use crate::scene::{DB, PORT, Scene, list};

/// The number of relationships, more than the smallest maps hold.
const MANY: u32 = capacity::VIPS + 100;

/// The table of a scene with this number of further relationships, to another service.
fn large(scene: &Scene, backends: &str, count: u32) -> String {
    let mut text = scene.table(backends) + "[services.other]\nbackends = [\"247.221.81.0\"]\n";
    for n in 0..count {
        let [.., c, d] = (0x0100 + n).to_be_bytes();
        text += &format!(
            "[apps.shop.relationships.other{n}]\nservice = \"other\"\nvip = \"169.254.{c}.{d}\"\n"
        );
    }
    text
}

/// The capacity of a pinned map.
fn size(scene: &Scene, map: &str) -> u64 {
    let mut bpftool = Command::new("bpftool");
    bpftool
        .args(["--json", "map", "show", "pinned"])
        .arg(scene.vipnat.bpffs().join("maps").join(map));
    let shown: Value = serde_json::from_str(&outcome(&mut bpftool).stdout).unwrap();
    shown["max_entries"].as_u64().unwrap()
}

#[test]
fn a_table_that_outgrows_the_maps_gets_larger_ones() {
    let scene = Scene::new(3);
    scene.apply_first(3);
    assert_eq!(size(&scene, "vips"), u64::from(capacity::VIPS));
    let mut held = scene.app.hold(&format!("{DB}:{PORT}"));
    assert_eq!(scene.who_of(2), ["1", "2"]);

    let table = large(&scene, &list([0, 1, 2]), MANY);
    let file = scene.vipnat.table(&table);
    let planned = scene.vipnat.ok(["apply".as_ref(), "--dry-run".as_ref(), file.as_os_str()]);
    let larger = "~ maps enlarged: ";
    assert!(planned.starts_with(larger), "{}", &planned[..100]);
    assert_eq!(size(&scene, "vips"), u64::from(capacity::VIPS));
    let printed = scene.vipnat.apply(&table);
    assert_eq!(printed, planned.replace("dry run: nothing was changed\n", ""));
    assert_eq!(printed.lines().count() as u32, MANY + 1);
    assert!(size(&scene, "vips") > u64::from(MANY));
    assert_eq!(scene.vipnat.apply(&table), "nothing to change\n");

    // Turns go on, and earlier connections still show the VIP.
    assert_eq!(scene.who_of(4), ["0", "1", "2", "0"]);
    assert_eq!(held.ask().peer(), format!("{DB}:{PORT}"));
    let last = 0x0100 + MANY - 1;
    let last = format!("169.254.{}.{}", last >> 8, last & 0xff);
    assert_eq!(scene.app.probe(&format!("tcp {last}:{PORT}")).banner(), "0");
    // A smaller table leaves the maps as large as they are.
    scene.apply_first(3);
    assert!(size(&scene, "vips") > u64::from(MANY));
}

#[test]
fn no_connect_fails_while_maps_grow() {
    let scene = Scene::new(2);
    for _ in 0..3 {
        scene.apply_first(2);
        let mut load = scene.app.command(program("load"));
        load.args(["--expect", "", "--tcp", "1", "--udp", "1"]).arg(format!("{DB}:{PORT}"));
        let load = Load::start(load);
        scene.vipnat.apply(&large(&scene, &list([1, 0]), MANY));
        load.stop().assert_flawless();
        assert!(size(&scene, "vips") > u64::from(MANY));
        scene.vipnat.ok(["flush"]);
    }
}
