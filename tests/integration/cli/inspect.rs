//! An operator inspects the pinned state with bpftool: names of maps, instructions of programs.

use std::process::Command;

use serde_json::Value;
use vipnat_testkit::outcome;

use crate::scene::{PORT, Scene, list};

fn bpftool(arguments: &[&str]) -> String {
    let outcome = outcome(Command::new("bpftool").args(arguments));
    assert!(outcome.status.success(), "{outcome}");
    outcome.stdout
}

#[test]
fn bpftool_shows_the_maps_in_names() {
    let scene = Scene::new(1);
    scene.vipnat.apply(&scene.table_with(&list([0]), "port = 5432\nprotocol = \"tcp\""));
    let map = |name: &str| {
        let pin = scene.vipnat.bpffs().join("maps").join(name);
        let json = bpftool(&["--json", "map", "dump", "pinned", pin.to_str().unwrap()]);
        let json: Value = serde_json::from_str(&json).unwrap();
        json.as_array().unwrap().iter().map(|entry| entry["formatted"].clone()).collect::<Vec<_>>()
    };
    let key = serde_json::json!({
        "app": 1, "vip": [169, 254, 37, 209], "port": PORT, "protocol": "Tcp", "reserved": 0,
    });
    let entry = map("vips").into_iter().find(|entry| entry["key"] == key).expect("the entry");
    // The map of backends is large, so this looks its slots up one by one.
    let first = u32::try_from(entry["value"]["first"].as_u64().unwrap()).unwrap();
    let pin = scene.vipnat.bpffs().join("maps/backends");
    let key_bytes = first.to_ne_bytes().map(|byte| byte.to_string());
    let lookup = ["--json", "map", "lookup", "pinned", pin.to_str().unwrap(), "key"];
    let slot = bpftool(&[&lookup[..], &key_bytes.each_ref().map(String::as_str)].concat());
    let slot: Value = serde_json::from_str(&slot).unwrap();
    let slot = &slot["formatted"]["value"];
    assert_eq!(slot["owner"], key);
    assert_eq!(slot["ip"], serde_json::json!([247, 221, 81, 0]));
    assert_eq!(map("scope")[0]["value"]["app"], 1);
    assert_eq!(map("layout")[0]["value"]["version"], 4);
    assert!(map("counters")[0]["values"][0]["value"]["unreachable"].is_number());
}

/// LLVM 22 drops the fetch of a Relaxed atomic addition, and then every turn is the same.
#[test]
fn each_hook_that_chooses_divides_what_an_atomic_fetch_add_returned() {
    let scene = Scene::new(0);
    scene.vipnat.apply(&scene.table("[]"));
    for hook in ["connect4", "connect6", "sendmsg4"] {
        let pin = scene.vipnat.bpffs().join("progs").join(hook);
        let code = bpftool(&["prog", "dump", "xlated", "pinned", pin.to_str().unwrap()]);
        assert!(divides_what_was_fetched(&code), "{hook}:\n{code}");
        // The check must fail if the fetch is missing.
        let dropped = code.replace("atomic64_fetch_add(", "not_fetched(");
        assert!(!divides_what_was_fetched(&dropped), "{hook}:\n{dropped}");
    }
}

/// Whether the first remainder uses the result of the atomic addition before it. A move may have copied the
/// result to another register. Lines look like `260: (db) r1 = atomic64_fetch_add((u64 *)(r0 +0), r1)`,
/// `(bf) r2 = r1`, `(05) goto pc+3`, `(9f) r2 %= r3`.
fn divides_what_was_fetched(code: &str) -> bool {
    let mut fetched: Vec<&str> = Vec::new();
    // The registers with the result at the target of a jump. The lines after the jump belong to another path.
    let mut jumped: Vec<&str> = Vec::new();
    for line in code.lines() {
        let instruction = line.split_once(") ").map_or(line, |(_, rest)| rest).trim();
        let words: Vec<_> = instruction.split(' ').collect();
        match words.as_slice() {
            [to, "=", operation, ..] if operation.starts_with("atomic64_fetch_add") => {
                fetched = vec![to];
                jumped.clear();
            }
            [to, "=", from] if fetched.contains(from) => fetched.push(to),
            ["goto", ..] => jumped.append(&mut fetched),
            [to, "=", ..] => fetched.retain(|register| register != to),
            [dividend, "%=", ..] => return [fetched, jumped].concat().contains(dividend),
            _ => {}
        }
    }
    false
}
