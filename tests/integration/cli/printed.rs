//! Text from outside can't move the cursor, hide a line or add one, in the output of any verb.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, Permissions},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::PathBuf,
};

use serde_json::{Map, Value, json};
use vipnat_testkit::{Cgroup, Following, Outcome, Vipnat};

use crate::scene::{Scene, list, table};

/// A colour, a bell, a title, a bidirectional override, characters without a width, C1 controls, and a line
/// that pretends to come from vipnat.
const HOSTILE: &str = "x\u{1b}[31m\u{7}\u{1b}]0;t\u{7}\u{202e}\u{2066}\u{200b}\u{3164}\u{ad}\u{9b}m\u{2028}\
                       \r+ app forged\nvipnat: forged\n+ app forged";

/// The same as the name of a cgroup, which has no newlines.
fn hostile_name() -> String {
    HOSTILE.replace('\n', "\t")
}

/// Checks that all characters are visible, and that no forged line appears.
#[track_caller]
fn is_harmless(what: &str, text: &str) {
    let bad = |c: char| {
        c != '\n' && c.is_control() || "\u{202e}\u{2066}\u{200b}\u{3164}\u{ad}\u{2028}".contains(c)
    };
    let shown: String = text.chars().take(2000).collect();
    assert!(!text.contains(bad), "{what}: {shown:?}");
    for line in text.lines() {
        assert!(!line.starts_with("vipnat: forged"), "{what}: {shown:?}");
        assert!(!line.starts_with("+ app forged"), "{what}: {shown:?}");
    }
}

#[track_caller]
fn says_it_harmlessly(what: &str, outcome: &Outcome) {
    is_harmless(what, &outcome.stdout);
    is_harmless(what, &outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{what}: {outcome}");
}

/// Copies of a value. Each has one key, text or number replaced.
fn damaged(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(object) => {
            let mut all = Vec::new();
            for (key, value) in object {
                let with = |new_key: &str, new: Value| -> Value {
                    let entries = object.iter().map(|(other, old)| {
                        if other == key {
                            (new_key.to_owned(), new.clone())
                        } else {
                            (other.clone(), old.clone())
                        }
                    });
                    entries.collect::<Map<_, _>>().into()
                };
                all.push(with(HOSTILE, value.clone()));
                all.extend(damaged(value).into_iter().map(|new| with(key, new)));
            }
            all
        }
        Value::Array(list) => {
            let mut all = Vec::new();
            for (i, value) in list.iter().enumerate() {
                all.extend(damaged(value).into_iter().map(|new| {
                    let mut list = list.clone();
                    list[i] = new;
                    list.into()
                }));
            }
            all
        }
        _ => vec![HOSTILE.into()],
    }
}

fn json_table() -> Value {
    json!({
        "services": {
            "s": {
                "backends": ["247.221.81.1", { "ip": "247.221.81.2", "port": 1, "weight": 2 }],
                "select": "random",
                "udp-pinning": "strict",
                "on-backend-removed": "drain",
                "drain-seconds": 5,
            },
        },
        "apps": {
            "shop": {
                "cgroup": "vipnat-test-nowhere/*",
                "relationships": {
                    "db": {
                        "service": "s",
                        "vip": "169.254.17.140",
                        "port": 6379,
                        "protocol": "tcp",
                        "endpoint": { "path": "main", "list": [{ "a": "b" }], "ip": null },
                    },
                },
            },
        },
    })
}

fn file(vipnat: &Vipnat, name: &OsStr, text: &[u8]) -> PathBuf {
    let file = vipnat.table("").with_file_name(name);
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn every_part_of_a_table_is_printed_harmlessly() {
    let vipnat = Vipnat::new();
    let tables = damaged(&json_table());
    assert!(tables.len() > 30, "{}", tables.len());
    for value in tables {
        let file = vipnat.table(&value.to_string());
        let file = file.to_str().unwrap();
        for arguments in [
            &["check", file][..],
            &["apply", "--dry-run", file],
            &["env", "--json", "--app", "shop", file],
            &["export", "nft", "--app", "shop", file],
        ] {
            let what = format!("{arguments:?} of {value}");
            says_it_harmlessly(&what, &vipnat.run(arguments));
        }
    }
}

#[test]
fn a_toml_table_is_printed_harmlessly() {
    let vipnat = Vipnat::new();
    let quoted: String = HOSTILE.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
    for text in [
        format!("\"{quoted}\" = 1\n"),
        format!("[services]\n\"{quoted}\" = 1\n"),
        format!("[services.\"{quoted}\"]\nbackends = []\n[services.\"{quoted}\"]\n"),
        format!("[services.s]\nbackends = [\"{quoted}\"]\n[apps.a]\n"),
        format!("[apps.a]\n\"{quoted}\" = 1\n"),
        HOSTILE.to_owned(),
        format!("a = \"{HOSTILE}"),
        format!("# {}\n[apps.a", hostile_name()),
    ] {
        let file = vipnat.table(&text);
        says_it_harmlessly(&text, &vipnat.run(["check".as_ref(), file.as_os_str()]));
    }
}

#[test]
fn names_of_files_are_printed_harmlessly() {
    let scene = Scene::new(0);
    let vipnat = &scene.vipnat;
    let mut name = OsString::from(HOSTILE);
    name.push(OsStr::from_bytes(b"\xff\xc3"));
    let good = scene.table(&list([0]));
    for text in [good.as_str(), "[apps", ""] {
        let file = file(vipnat, &name, text.as_bytes());
        for arguments in [
            &["check"][..],
            &["apply", "--dry-run"],
            &["env", "--app", "nosuch"],
            &["export", "iptables", "--app", "nosuch"],
            &["import", "iptables", "--app", "a", "--cgroup", "c"],
            &["import", "platform", "--app", "a", "--cgroup", "c"],
        ] {
            let arguments: Vec<_> =
                arguments.iter().map(OsStr::new).chain([file.as_os_str()]).collect();
            says_it_harmlessly(&format!("{arguments:?}"), &vipnat.run(&arguments));
        }
    }
    let file = file(vipnat, &name, good.as_bytes());
    let mut run = Following::start(vipnat.command(["run".as_ref(), file.as_os_str()]));
    is_harmless("run", &run.wait_for(|line| line.starts_with("following ")));
    fs::write(&file, "[apps").unwrap();
    is_harmless("run", &run.wait_for(|line| line.starts_with("vipnat: ")));
}

#[test]
fn arguments_are_printed_harmlessly() {
    let scene = Scene::new(0);
    let file = scene.vipnat.table(&scene.table(&list([])));
    scene.vipnat.ok(["apply".as_ref(), file.as_os_str()]);
    let file = file.to_str().unwrap();
    let scheme = format!("{HOSTILE}://x");
    for arguments in [
        &[HOSTILE][..],
        &["check", HOSTILE],
        &["check", "--", HOSTILE, HOSTILE],
        &["apply", &format!("--{HOSTILE}")],
        &["apply", "--confirm-timeout", HOSTILE, file],
        &["run", &scheme],
        &["vip", HOSTILE],
        &["vip", "--json", HOSTILE],
        &["attach", "--app", HOSTILE, "--cgroup", "x"],
        &["attach", "--app", "shop", "--cgroup", HOSTILE],
        &["attach", "--app", "shop", "--pid", HOSTILE],
        &["flush", "--app", HOSTILE],
        &["exec", "--app", HOSTILE, "--", "true"],
        &["exec", "--app", "shop", "--cgroup", HOSTILE, "--", "true"],
        &["exec", "--app", "shop", "--", HOSTILE],
        &["env", "--app", HOSTILE, file],
        &["export", HOSTILE, "--app", "shop", file],
        &["export", "nft", "--app", HOSTILE, file],
        &["import", "platform", "--app", HOSTILE, "--cgroup", HOSTILE, file],
        &["--bpffs", HOSTILE, "list"],
        &["--bpffs", &format!("/sys/fs/bpf/{HOSTILE}/x"), "apply", file],
    ] {
        says_it_harmlessly(&format!("{arguments:?}"), &scene.vipnat.run(arguments));
    }
    // Without applied state, `run` ends.
    says_it_harmlessly("run", &Vipnat::new().run(["run", HOSTILE]));
}

#[test]
fn rules_and_values_are_printed_harmlessly() {
    let vipnat = Vipnat::new();
    let rule = "-A OUTPUT -d 169.254.1.1/32 -p tcp -m tcp --dport 80 -m comment --comment vipnat -m \
                statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination 247.0.0.1:80";
    let hostile = hostile_name();
    let words: Vec<_> = rule.split(' ').collect();
    for place in 0..words.len() {
        let mut words = words.clone();
        words[place] = &hostile;
        let dump = format!("*nat\n{}\n{rule}\nCOMMIT\n", words.join(" "));
        let file = file(&vipnat, OsStr::new("rules"), dump.as_bytes());
        for more in [&[][..], &["--skip-unsupported"]] {
            let mut arguments = vec!["import", "iptables", "--app", "a", "--cgroup", "c"];
            arguments.extend(more);
            arguments.push(file.to_str().unwrap());
            says_it_harmlessly(&dump, &vipnat.run(&arguments));
        }
    }
    let value = json!({ "db": [{
        "ip": "169.254.1.1", "instance_ips": ["247.0.0.1", "247.0.0.1"], "path": null,
        "query": { "a": "b" },
    }] });
    for value in damaged(&value) {
        let file = file(&vipnat, OsStr::new("value"), value.to_string().as_bytes());
        for more in [&[][..], &["--json"], &["--skip-unsupported"]] {
            let mut arguments = vec!["import", "platform", "--app", "a", "--cgroup", "c"];
            arguments.extend(more);
            arguments.push(file.to_str().unwrap());
            says_it_harmlessly(&value.to_string(), &vipnat.run(&arguments));
        }
    }
}

/// An import keeps every character of a value, although the table escapes the invisible ones.
#[test]
fn an_endpoint_comes_back_from_a_table_as_it_was() {
    let vipnat = Vipnat::new();
    let value = json!({ "db": [{
        "ip": "169.254.37.209", "instance_ips": ["247.0.0.1"], HOSTILE: [HOSTILE, "\u{e0041}\u{7f}"],
    }] });
    let file = file(&vipnat, OsStr::new("value"), value.to_string().as_bytes());
    for more in [&[][..], &["--json"]] {
        let mut arguments = vec!["import", "platform", "--app", "a", "--cgroup", "c"];
        arguments.extend(more);
        arguments.push(file.to_str().unwrap());
        let table = vipnat.table(&vipnat.ok(&arguments));
        let again = vipnat.ok(["env", "--json", "--app", "a", table.to_str().unwrap()]);
        is_harmless("env", &again);
        assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), value);
    }
}

/// The owner of a delegated cgroup chooses the names of the cgroups below it.
#[test]
fn names_of_cgroups_are_printed_harmlessly() {
    let scene = Scene::new(1);
    let pattern = format!("{}/*", scene.app.cgroup.relative());
    let text = table(&[("shop", &pattern, &list([0]), "")]);
    let two = text.clone() + &table(&[("blog", &format!("{pattern}*"), "[]", "")]);
    let hostile = scene.app.cgroup.child(&hostile_name());
    let file = scene.vipnat.table(&text);
    let apply = |table: &str| {
        fs::write(&file, table).unwrap();
        scene.vipnat.run(["apply".as_ref(), file.as_os_str()])
    };
    let applied = apply(&text);
    says_it_harmlessly("apply", &applied);
    assert!(applied.stdout.contains("+ app shop in cgroup "), "{applied}");
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["attach", "--app", "shop", "--cgroup", hostile.relative()],
        &["attach", "--app", "nosuch", "--cgroup", hostile.relative()],
        &["exec", "--app", "shop", "--", "/nonexistent"],
    ] {
        says_it_harmlessly(&format!("{arguments:?}"), &scene.vipnat.run(arguments));
    }
    says_it_harmlessly("two apps", &apply(&two));
    let other = Cgroup::new();
    let elsewhere = text.replace(&pattern, other.relative());
    says_it_harmlessly("leaves", &apply(&elsewhere));
    scene.vipnat.ok(["flush"]);

    let mut run = scene.vipnat.follow(&text, &[]);
    let inner = scene.app.cgroup.child(&format!("{}-2", hostile_name()));
    is_harmless("run", &run.wait_for(|line| line.starts_with("+ app shop in cgroup")));
    drop(inner);
    is_harmless("run", &run.wait_for(|line| line.starts_with("- app shop")));
}

/// The table has passwords, and every user can read its file.
#[test]
fn a_table_whose_passwords_others_can_read_gets_a_warning() {
    let vipnat = Vipnat::new();
    let table = |endpoint: &str| {
        format!(
            "[services.s]\nbackends = []\n[apps.shop]\n[apps.shop.relationships.db]\n\
             service = \"s\"\nendpoint = {endpoint}\n"
        )
    };
    let check = |endpoint: &str, mode: u32| {
        let file = vipnat.table(&table(endpoint));
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let checked = vipnat.run(["check".as_ref(), file.as_os_str()]);
        assert_eq!(checked.code(), Some(0), "{checked}");
        checked.stderr
    };
    let advice = "chmod 600";
    for endpoint in [
        "{ password = \"s3cret\" }",
        "{ query = [{ AUTH_TOKEN = \"s3cret\" }] }",
        "{ url = \"pgsql://main:s3cret@db\" }",
    ] {
        let warning = check(endpoint, 0o644);
        assert!(warning.contains(advice) && !warning.contains("s3cret"), "{warning}");
        assert!(warning.contains("apps.shop.relationships.db"), "{warning}");
        assert_eq!(check(endpoint, 0o600), "");
    }
    assert_eq!(check("{ password = \"\", path = \"main\", url = \"http://x\" }", 0o644), "");
    // No other user reaches a file in a closed directory.
    let directory = vipnat.table("").parent().unwrap().to_owned();
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(check("{ password = \"s3cret\" }", 0o644), "");
}
