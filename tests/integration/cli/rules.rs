//! Exported rules in a network namespace: even turns, reloading and removing.

use std::net::Ipv4Addr;

use crate::{
    cli::exported_rules::{BESIDE, Loader, clear, exported, remove, scene, succeeds},
    scene::{DB, PORT, Scene, banner, ip, list},
};

/// The backends that answer this number of connections, TCP and UDP mixed.
fn who(scene: &Scene, connections: usize) -> Vec<String> {
    let probe = |i| format!("{} {DB}:{PORT}", if i % 3 == 1 { "udp" } else { "tcp" });
    let who = |i| {
        // Otherwise a connection with the port of an earlier one would count as the same flow.
        succeeds(scene.app.host.command("conntrack").arg("-F"), "");
        banner(&scene.app.probe(&probe(i)))
    };
    (0..connections).map(who).collect()
}

fn turns(order: &[u8], connections: usize) -> Vec<String> {
    order.iter().cycle().take(connections).map(u8::to_string).collect()
}

#[test]
fn exported_rules_give_even_turns_that_tcp_and_udp_share() {
    let scene = scene(4);
    for loader in Loader::ALL {
        for backends in 1..=4_u8 {
            let table = scene.table(&list(0..backends));
            loader.load(&scene, &exported(&scene, loader, &table, &[]), &[]);
            let order: Vec<_> = (0..backends).collect();
            assert_eq!(who(&scene, 9), turns(&order, 9), "{loader:?}, {backends} backends");
        }
        clear(&scene, loader);
    }
}

#[test]
fn exported_rules_give_weights_and_ports_their_turns() {
    let mut scene = scene(3);
    scene.add_backend(ip(0), 6432, "other port");
    let backend = |number, more: &str| format!("{{ ip = \"{}\", {more} }}", ip(number));
    let backends =
        [backend(0, "weight = 3, port = 6432"), backend(1, "weight = 1"), backend(2, "weight = 2")];
    let backends = format!("[{}]", backends.join(", "));
    let expected: Vec<_> = turns(&[0, 2, 0, 1, 2, 0], 12)
        .into_iter()
        .map(|who| if who == "0" { "other port".to_owned() } else { who })
        .collect();
    for loader in Loader::ALL {
        for lines in ["", "port = 5432"] {
            let table = scene.table_with(&backends, lines);
            loader.load(&scene, &exported(&scene, loader, &table, &[]), &[]);
            assert_eq!(who(&scene, 12), expected, "{loader:?} {lines}");
        }
        // Another protocol, or another port, is not translated, and no server answers there.
        let table = scene.table_with(&backends, "port = 5432\nprotocol = \"tcp\"");
        loader.load(&scene, &exported(&scene, loader, &table, &[]), &[]);
        assert!(scene.app.probe(&format!("tcp {DB}:{PORT}")).ok, "{loader:?}");
        assert!(!scene.app.probe(&format!("udp {DB}:{PORT}")).ok, "{loader:?}");
        clear(&scene, loader);
    }
}

#[test]
fn exported_chances_reach_all_backends_and_only_them() {
    let scene = scene(3);
    let weighted = format!("[{{ ip = \"{}\", weight = 2 }}, \"{}\"]", ip(0), ip(2));
    let table = scene.table(&weighted).replace("backends", "select = \"random\"\nbackends");
    for loader in Loader::ALL {
        loader.load(&scene, &exported(&scene, loader, &table, &[]), &[]);
        let who: Vec<_> = scene.who_of(60);
        let first = who.iter().filter(|who| *who == "0").count();
        assert_eq!(first + who.iter().filter(|who| *who == "2").count(), 60, "{who:?}");
        // The expected number is 40. The odds of being this far off are one in a million.
        assert!((21..=56).contains(&first), "{loader:?}: {first} of 60");
        clear(&scene, loader);
    }
}

#[test]
fn without_backends_exported_rules_refuse() {
    let scene = scene(1);
    for loader in Loader::ALL {
        let refused = exported(&scene, loader, &scene.table("[]"), &[]);
        loader.load(&scene, &refused, &[]);
        // The first answer comes while the socket is busy with its own connect, so this takes a second.
        assert_eq!(scene.app.probe(&format!("tcp {DB}:{PORT}")).error(), "EHOSTUNREACH");
        let udp = scene.app.probe(&format!("udp {DB}:{PORT}"));
        assert_eq!((udp.call.as_deref(), udp.error()), (Some("send"), "EPERM"), "{loader:?}");
        // With a backend in the table, the VIP works again.
        loader.load(&scene, &exported(&scene, loader, &scene.table(&list([0])), &[]), &[]);
        assert_eq!(scene.who(), "0");
        assert!(!loader.saved(&scene.app.host).contains("reject"), "{loader:?}");
        clear(&scene, loader);
    }
}

#[test]
fn rules_can_be_loaded_again_and_removed_and_leave_others_alone() {
    let scene = scene(2);
    let host = &scene.app.host;
    let foreign = "*nat\n-A OUTPUT -d 240.1.1.1/32 -p tcp -j DNAT --to-destination 247.221.81.1\n\
                   COMMIT\n*filter\n-A OUTPUT -d 240.1.1.2/32 -j DROP\nCOMMIT\n";
    let foreign_nft = "table ip other {\n  chain output {\n    type filter hook output priority 0;\n\
                       ip daddr 240.1.1.2 drop\n  }\n}\n";
    for loader in Loader::ALL {
        for options in [&[][..], BESIDE] {
            let table = scene.table(&list(0..2));
            let rules = exported(&scene, loader, &table, options);
            let less = exported(&scene, loader, &scene.table("[]"), options);
            // Without rules of others, loading replaces all earlier rules.
            loader.load(&scene, &less, &[]);
            loader.load(&scene, &rules, &[]);
            let once = loader.saved(host);
            loader.load(&scene, &rules, &[]);
            assert_eq!(loader.saved(host), once, "{loader:?}");
            remove(&scene, loader);

            // With rules of others, loading leaves those alone.
            let (foreign, beside) = match loader {
                Loader::Nft => (foreign_nft, &[][..]),
                _ => (foreign, &["--noflush"][..]),
            };
            loader.load(&scene, foreign, &[]);
            let before = loader.saved(host);
            loader.load(&scene, &rules, beside);
            assert_ne!(loader.saved(host), before);
            remove(&scene, loader);
            assert_eq!(loader.saved(host), before, "{loader:?}");
            if loader == Loader::Nft {
                succeeds(host.command("nft").args(["delete", "table", "ip", "other"]), "");
            } else {
                loader.load(&scene, "*nat\nCOMMIT\n*filter\nCOMMIT\n*raw\nCOMMIT\n", &[]);
            }
        }
    }
}

#[test]
fn names_in_comments_stay_text() {
    let scene = scene(1);
    let names =
        ["\"", "\\", "';", "$(reboot)", "`id`", "#", "-t", "}}", "%s", "\\\"", "é★", "a:", ":"];
    let relationships: String = (1..)
        .zip(names)
        .map(|(i, name)| {
            let quoted = format!("{name:?}");
            format!(
                "[services.{quoted}]\nbackends = [\"{}\"]\n[apps.shop.relationships.{quoted}]\n\
                 service = {quoted}\nvip = \"169.254.1.{i}\"\n",
                Ipv4Addr::new(247, 1, 1, i)
            )
        })
        .collect();
    let table = format!("[apps.shop]\ncgroup = \"x\"\n{relationships}");
    let bad = "the VIPs of names that are text";
    for loader in Loader::ALL {
        loader.load(&scene, &exported(&scene, loader, &table, &[]), &[]);
        let saved = loader.saved(&scene.app.host);
        for i in 1..=names.len() {
            assert!(saved.contains(&format!("247.1.1.{i}")), "{bad}: {loader:?}: {saved}");
        }
        clear(&scene, loader);
    }
}
