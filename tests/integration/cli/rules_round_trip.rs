//! Random tables stay the same through export, a real iptables, iptables-save and import.

use std::collections::HashMap;

use proptest::{
    collection::vec,
    option,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    cli::exported_rules::{BESIDE, Loader, exported},
    scene::Scene,
};

/// The number of tables for each kind of iptables.
const TABLES: u32 = 24;

/// A name of any characters except white space and control characters.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,9}",
        "[^\\s\\p{C}\\p{Default_Ignorable_Code_Point}]{1,15}",
        "[-\"'\\\\`$#;:!{}()%*]{1,9}"
    ]
}

fn service() -> impl Strategy<Value = Value> {
    let backend = (any::<[u8; 2]>(), option::of(1..=u16::MAX), option::of(1..=9_u16));
    let backends = vec(backend, 0..6).prop_map(|backends| {
        let backend = |(i, ([a, b], port, weight)): (usize, ([u8; 2], _, _))| {
            json!({ "ip": format!("{}.0.{a}.{b}", 240 + i), "port": port, "weight": weight })
        };
        backends.into_iter().enumerate().map(backend).collect::<Vec<_>>()
    });
    let select = prop_oneof![Just("round-robin"), Just("random")];
    let udp_pinning = prop_oneof![Just("table"), Just("strict")];
    (backends, select, udp_pinning).prop_map(|(backends, select, udp_pinning)| {
        json!({ "backends": backends, "select": select, "udp-pinning": udp_pinning })
    })
}

/// Tables of one app, with every key that a table can have.
fn table() -> impl Strategy<Value = Value> {
    let port = option::of(1..=u16::MAX);
    let protocol = option::of(prop_oneof![Just("tcp"), Just("udp")]);
    let relationship = (any::<prop::sample::Index>(), any::<u8>(), port, protocol);
    let services = prop::collection::hash_map(name(), service(), 1..5);
    let relationships = prop::collection::hash_map(name(), relationship, 1..6);
    let lists = vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4);
    (services, relationships, lists).prop_map(|(services, relationships, lists)| {
        let names: Vec<_> = services.keys().collect();
        let relationships =
            (1..=99).zip(relationships).map(|(i, (name, (service, vip, port, protocol)))| {
                let relationship = json!({
                    "service": service.get(&names),
                    "vip": format!("169.254.{i}.{vip}"),
                    "port": port,
                    "protocol": protocol,
                    "endpoint": { "scheme": "pgsql" },
                });
                (name, relationship)
            });
        let relationships = shared(relationships.collect(), lists);
        json!({
            "services": services,
            "apps": { "shop": { "cgroup": "x", "relationships": relationships } },
        })
    })
}

/// The relationships, changed by these pairs: the first one also gets the second one as an endpoint, so that
/// both have its VIP.
fn shared(
    mut relationships: serde_json::Map<String, Value>,
    lists: Vec<(prop::sample::Index, prop::sample::Index)>,
) -> serde_json::Map<String, Value> {
    let alone = relationships.clone();
    let names: Vec<_> = alone.keys().collect();
    for (to, from) in lists {
        let (to, from) = (to.get(&names), from.get(&names));
        let endpoints = &mut relationships[*to];
        if !endpoints.is_array() {
            *endpoints = json!([endpoints.take()]);
        }
        let endpoints = endpoints.as_array_mut().expect("a list");
        if !endpoints.contains(&alone[*from]) {
            // Put it first or last, so that the order differs from that of the VIPs.
            let place = if from < to { 0 } else { endpoints.len() };
            endpoints.insert(place, alone[*from].clone());
        }
    }
    relationships
}

/// A table without the values that rules can't express, in the form in which vipnat writes tables:
///
/// - no services without relationships;
/// - no `endpoint` and no `udp-pinning`;
/// - weights without a common factor, and no `select` for a single backend;
/// - no default values.
fn as_rules_say(mut table: Value) -> Value {
    let mut used = Vec::new();
    for endpoints in table["apps"]["shop"]["relationships"].as_object_mut().unwrap().values_mut() {
        // A list of one element is written as that element.
        if let Some([endpoint]) = endpoints.as_array().map(Vec::as_slice) {
            *endpoints = endpoint.clone();
        }
        let all = match endpoints {
            Value::Array(all) => all.as_mut_slice(),
            one => std::slice::from_mut(one),
        };
        for endpoint in all {
            let endpoint = endpoint.as_object_mut().unwrap();
            endpoint.remove("endpoint");
            endpoint.retain(|_, value| !value.is_null());
            used.push(endpoint["service"].as_str().unwrap().to_owned());
        }
    }
    let services = table["services"].as_object_mut().unwrap();
    services.retain(|name, _| used.contains(name));
    for service in services.values_mut() {
        let service = service.as_object_mut().unwrap();
        service.remove("udp-pinning");
        let backends = service["backends"].as_array_mut().unwrap();
        let weight = |backend: &Value| backend["weight"].as_u64().unwrap_or(1);
        let divides = |by: u64| backends.iter().all(|backend| weight(backend) % by == 0);
        let common = (1..=9).rev().find(|by| divides(*by)).unwrap();
        for backend in backends.iter_mut() {
            let weight = weight(backend) / common;
            let backend_object = backend.as_object_mut().unwrap();
            backend_object["weight"] = if weight == 1 { Value::Null } else { weight.into() };
            backend_object.retain(|_, value| !value.is_null());
            if backend_object.len() == 1 {
                *backend = backend["ip"].take();
            }
        }
        if backends.len() < 2 || service["select"] == "round-robin" {
            service.remove("select");
        }
    }
    table
}

/// Whether a comment has room for all names with one VIP. Names beyond 128 bytes are left out.
fn has_room(table: &Value) -> bool {
    let mut bytes: HashMap<&str, usize> = HashMap::new();
    for (name, endpoints) in table["apps"]["shop"]["relationships"].as_object().unwrap() {
        for endpoint in endpoints.as_array().map_or(std::slice::from_ref(endpoints), Vec::as_slice)
        {
            let [vip, service] = ["vip", "service"].map(|key| endpoint[key].as_str().unwrap());
            // Include the place, and the characters between names.
            *bytes.entry(vip).or_default() += name.len() + service.len() + "[99]: ".len() + 1;
        }
    }
    bytes.values().all(|bytes| *bytes <= 128)
}

#[test]
fn a_table_survives_export_iptables_and_import() {
    let scene = Scene::new(0);
    for loader in Loader::IPTABLES {
        let config = Config { cases: TABLES, failure_persistence: None, ..Config::default() };
        let survives = |table: Value| {
            prop_assume!(has_room(&table));
            let rules = exported(&scene, loader, &without_null(&table).to_string(), &[]);
            loader.load(&scene, &rules, &[]);
            let saved = scene.vipnat.table(&loader.saved(&scene.app.host));
            let mut import = scene.vipnat.command(["import", "iptables"]);
            import.arg(saved).args(["--app", "shop", "--cgroup", "x", "--json"]);
            let import = vipnat_testkit::outcome(&mut import);
            prop_assert!(import.status.success() && import.stderr.is_empty(), "{import}\n{rules}");
            let again: Value = serde_json::from_str(&import.stdout).unwrap();
            prop_assert_eq!(again, as_rules_say(table), "{:?}\n{}", loader, rules);
            Ok(())
        };
        TestRunner::new(config).run(&table(), survives).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn nft_takes_the_rules_of_any_table() {
    let scene = Scene::new(0);
    let config = Config { cases: TABLES, failure_persistence: None, ..Config::default() };
    let taken = |table: Value| {
        for options in [&[][..], BESIDE] {
            let table = without_null(&table).to_string();
            let rules = exported(&scene, Loader::Nft, &table, options);
            Loader::Nft.load(&scene, &rules, &[]);
        }
        Ok(())
    };
    TestRunner::new(config).run(&table(), taken).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn iptables_takes_the_rules_beside_vipnat_of_any_table_and_they_are_no_table() {
    let scene = Scene::new(0);
    for loader in Loader::IPTABLES {
        let config = Config { cases: TABLES / 2, failure_persistence: None, ..Config::default() };
        let taken = |table: Value| {
            let rules = exported(&scene, loader, &without_null(&table).to_string(), BESIDE);
            loader.load(&scene, &rules, &[]);
            let saved = scene.vipnat.table(&loader.saved(&scene.app.host));
            let mut import = scene.vipnat.command(["import", "iptables"]);
            let import = vipnat_testkit::outcome(
                import.arg(saved).args(["--app", "shop", "--cgroup", "x", "--json"]),
            );
            prop_assert_eq!((import.code(), &*import.stdout), (Some(2), ""), "{}", import);
            Ok(())
        };
        TestRunner::new(config).run(&table(), taken).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The value without keys that are null. A table has null only inside an endpoint.
fn without_null(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let entries = object.iter().filter(|(_, value)| !value.is_null());
            entries.map(|(key, value)| (key.clone(), without_null(value))).collect()
        }
        Value::Array(values) => values.iter().map(without_null).collect(),
        value => value.clone(),
    }
}

#[test]
fn the_longest_names_and_a_place_behind_them_have_room_in_comments() {
    let scene = Scene::new(0);
    let [name, one, other] = ["n", "a", "b"].map(|letter| letter.repeat(63));
    let table = json!({
        "services": { &one: { "backends": ["240.0.0.1"] }, &other: { "backends": ["240.0.0.2"] } },
        "apps": { "shop": { "cgroup": "x", "relationships": { &name: [
            { "service": one, "vip": "169.254.1.2" },
            { "service": other, "vip": "169.254.1.1" },
        ] } } },
    });
    for loader in Loader::ALL {
        let rules = exported(&scene, loader, &table.to_string(), &[]);
        loader.load(&scene, &rules, &[]);
        assert!(loader.saved(&scene.app.host).contains(&format!("{name}[1]: bbb")), "{loader:?}");
    }
}
