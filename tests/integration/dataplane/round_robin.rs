//! Round robin is exact for any number of backends and threads, also across changes.

use std::collections::BTreeMap;

use crate::scene::{DB, PORT, Scene, banner, ip, list};

fn expected(order: &[u8], connections: usize) -> Vec<String> {
    order.iter().cycle().take(connections).map(u8::to_string).collect()
}

#[test]
fn one_to_seven_backends_take_turns_in_order() {
    let scene = Scene::new(7);
    for backends in 1..=7 {
        // A new VIP starts with the first backend.
        scene.vipnat.ok(["flush"]);
        scene.apply_first(backends);
        let order: Vec<u8> = (0..backends).collect();
        assert_eq!(scene.who_of(20), expected(&order, 20), "{backends} backends");
    }
}

#[test]
fn several_threads_at_once_share_the_turns_exactly() {
    let scene = Scene::new(7);
    for backends in 2..=7_usize {
        scene.vipnat.ok(["flush"]);
        scene.apply_first(backends as u8);
        let (threads, each) = (8, 25);
        let reports =
            scene.app.probes(&format!("tcp {DB}:{PORT} --threads {threads} --count {each}"));
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for report in &reports {
            *counts.entry(banner(report)).or_default() += 1;
        }
        assert_eq!(counts.values().sum::<usize>(), threads * each);
        assert_eq!(counts.len(), backends, "{counts:?}");
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(most - least <= 1, "{counts:?}");
    }
}

#[test]
fn all_ways_to_connect_over_tcp_share_one_cursor_and_udp_sockets_have_their_own() {
    let scene = Scene::new(3);
    scene.apply_first(3);
    let tcp = ["tcp VIP", "tcp VIP --mapped", "nonblocking VIP", "fastopen VIP"];
    let udp = ["udp VIP", "udp VIP --mapped"];
    for turn in 0..12 {
        for ways in [&tcp[..], &udp] {
            let way = ways[turn % ways.len()].replace("VIP", &format!("{DB}:{PORT}"));
            assert_eq!(banner(&scene.app.probe(&way)), (turn % 3).to_string(), "{way}");
        }
    }
}

#[test]
fn weights_give_more_turns_spread_over_the_round() {
    let scene = Scene::new(3);
    let backend = |number, weight| format!("{{ ip = \"{}\", weight = {weight} }}", ip(number));
    let backends = [backend(0, 3), backend(1, 1), backend(2, 2)].join(", ");
    scene.vipnat.apply(&scene.table(&format!("[{backends}]")));
    assert_eq!(scene.who_of(12), expected(&[0, 2, 0, 1, 2, 0], 12));
}

#[test]
fn the_cursor_of_an_unchanged_vip_survives_an_apply() {
    let scene = Scene::new(3);
    scene.apply_first(3);
    assert_eq!(scene.who(), "0");
    // Another relationship is added, and this one does not change.
    let more = format!(
        "{}\n[apps.shop.relationships.more]\nservice = \"shop\"\n",
        scene.table(&list(0..3))
    );
    scene.vipnat.apply(&more);
    assert_eq!(scene.who(), "1");
    assert_eq!(scene.apply_first(3).lines().count(), 1, "the other one goes");
    assert_eq!(scene.who(), "2");
    assert_eq!(scene.apply_first(3), "nothing to change\n");
    assert_eq!(scene.who(), "0");
}
