//! `PLATFORM_RELATIONSHIPS` as vendors document it: an import followed by `env` gives the same value.
//!
//! `platform_shapes/values.json` has a value for each kind of service, with the keys, types and nesting of
//! the documentation. Names, addresses and passwords are made up.

use std::fs;

use serde_json::{Map, Value};
use vipnat_testkit::{Outcome, Vipnat, outcome};

const VALUES: &str = include_str!("platform_shapes/values.json");

/// The key of the values that TOML can't express.
const OF_JSON_ALONE: &str = "numbers of JSON alone";

fn values() -> Map<String, Value> {
    serde_json::from_str(VALUES).unwrap()
}

fn import(vipnat: &Vipnat, value: &str, more: &[&str]) -> Outcome {
    let file = vipnat.table("").with_file_name("value");
    fs::write(&file, value).unwrap();
    let mut command = vipnat.command(["import", "platform", file.to_str().unwrap()]);
    outcome(command.args(["--app", "shop", "--cgroup", "shop.slice/shop"]).args(more))
}

/// The value that the app of a table reads: as it is, and as JSON.
fn env(vipnat: &Vipnat, table: &str) -> (String, Value) {
    let table = vipnat.table(table);
    let env = ["env".as_ref(), table.as_os_str(), "--app=shop".as_ref()];
    let json = vipnat.ok(env.into_iter().chain(["--json".as_ref()]));
    (vipnat.ok(env), serde_json::from_str(&json).unwrap())
}

/// The value without keys that are null, at any depth.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[test]
fn a_documented_value_comes_back_equal_through_a_table_of_json() {
    let vipnat = Vipnat::new();
    let values = values();
    assert!(values.len() >= 30);
    for (what, value) in &values {
        let mut text = value.to_string();
        // The second round imports the base64.
        for _ in 0..2 {
            let imported = import(&vipnat, &text, &["--json"]);
            assert_eq!(imported.code(), Some(0), "{what}: {imported}");
            let (base64, json) = env(&vipnat, &imported.stdout);
            assert_eq!(json, *value, "{what}: {imported}");
            text = base64;
        }
    }
}

#[test]
fn a_documented_value_comes_back_equal_through_toml_but_for_nulls() {
    let vipnat = Vipnat::new();
    for (what, value) in values() {
        let imported = import(&vipnat, &value.to_string(), &[]);
        if what == OF_JSON_ALONE {
            assert_eq!((imported.code(), imported.stdout.as_str()), (Some(2), ""), "{imported}");
            assert!(imported.stderr.contains("db.endpoint.epoch is a number beyond"), "{imported}");
            assert!(imported.stderr.contains("--json"), "{imported}");
            continue;
        }
        assert_eq!(imported.code(), Some(0), "{what}: {imported}");
        assert_eq!(env(&vipnat, &imported.stdout).1, without_nulls(&value), "{what}: {imported}");
    }
}

/// Names of relationships repeat in the values, so each gets a number.
#[test]
fn all_documented_values_are_one_table_too() {
    let vipnat = Vipnat::new();
    let all: Map<_, _> = values()
        .into_iter()
        .enumerate()
        .flat_map(|(number, (_, value))| {
            let relationships = value.as_object().unwrap().clone();
            relationships.into_iter().map(move |(name, all)| (format!("{name}-{number}"), all))
        })
        .collect();
    let all = Value::Object(all);
    let imported = import(&vipnat, &all.to_string(), &["--json"]);
    assert_eq!(imported.code(), Some(0), "{imported}");
    assert_eq!(env(&vipnat, &imported.stdout).1, all);
    let table = vipnat.table(&imported.stdout);
    let checked = vipnat.ok(["check".as_ref(), table.as_os_str()]);
    let count = all.as_object().unwrap().len();
    assert!(checked.contains(&format!("1 app, {count} relationships")), "{checked}");
}
