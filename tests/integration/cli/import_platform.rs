//! `vipnat import platform`: the table keeps passwords, and no message shows them.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{self, Command, Stdio},
};

use vipnat_testkit::{Outcome, Vipnat, outcome};

use crate::scene::{Scene, ip, list};

const SECRET: &str = "s3cret-hunter2";

/// Imports a value from standard input.
fn import(scene: &Scene, value: &str, more: &[&str]) -> Outcome {
    let cgroup = scene.app.cgroup.relative();
    let mut command =
        scene.vipnat.command(["import", "platform", "--app", "shop", "--cgroup", cgroup]);
    let file = tempfile();
    (&file).write_all(value.as_bytes()).unwrap();
    let input = fs::File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
    outcome(command.args(more).stdin(Stdio::from(input.unwrap())))
}

/// A file without a name.
fn tempfile() -> fs::File {
    let name = nix::sys::memfd::memfd_create("value", nix::sys::memfd::MFdFlags::empty()).unwrap();
    name.into()
}

#[test]
fn an_imported_table_works_and_gives_the_application_the_same() {
    let scene = Scene::new(2);
    let endpoint = format!(
        "vip = \"169.254.17.140\"\nendpoint = {{ scheme = \"pgsql\", port = \"5432\", query = [], \
         password = \"{SECRET}\" }}"
    );
    let table = scene.vipnat.table(&scene.table_with(&list(0..2), &endpoint));
    let env =
        |table: &Path| scene.vipnat.ok(["env".as_ref(), table.as_os_str(), "--app=shop".as_ref()]);
    let value = env(&table);
    for more in [&[][..], &["--json"], &["-"]] {
        let imported = import(&scene, &value, more);
        assert_eq!((imported.code(), imported.stderr.as_str()), (Some(0), ""), "{imported}");
        assert_eq!(env(&scene.vipnat.table(&imported.stdout)), value, "{imported}");
        scene.vipnat.apply(&imported.stdout);
    }
    let report = scene.app.probe("tcp 169.254.17.140:5432");
    assert_eq!((report.banner(), report.peer()), ("0", "169.254.17.140:5432"), "{report:?}");
}

#[test]
fn nulls_stay_in_json_and_are_left_out_of_toml() {
    let scene = Scene::new(0);
    let value = format!(
        r#"{{"db": [{{"ip": "169.254.1.2", "instance_ips": ["{}"], "fragment": null, "port": 1}}]}}"#,
        ip(0)
    );
    let toml = import(&scene, &value, &[]);
    let note = "vipnat: standard input: db.fragment is null, which only JSON has: it is left out of the TOML\n";
    assert_eq!((toml.code(), toml.stderr.as_str()), (Some(0), note), "{toml}");
    assert!(toml.stdout.contains("endpoint = { port = 1 }"), "{toml}");
    let json = import(&scene, &value, &["--json"]);
    assert_eq!((json.code(), json.stderr.as_str()), (Some(0), ""), "{json}");
    assert!(json.stdout.contains("\"fragment\": null"), "{json}");

    let value = value.replace("null", "[null]");
    let toml = import(&scene, &value, &[]);
    assert_eq!((toml.code(), toml.stdout.as_str()), (Some(2), ""), "{toml}");
    assert!(toml.stderr.contains("db.endpoint.fragment[0] is null"), "{toml}");
    assert!(toml.stderr.contains("--json"), "{toml}");
}

#[test]
fn what_cannot_be_imported_exits_2_and_keeps_secrets() {
    let scene = Scene::new(0);
    for (value, expected) in [
        (format!("{{\"my db\": [{{\"password\": \"{SECRET}\"}}]}}"), "my db: white space"),
        (format!("{{\"db\": [{{\"ip\": \"{SECRET}\"}}]}}"), "standard input:1:16: db[0].ip: "),
        (format!("{{\"db\": \"pgsql://main:{SECRET}@db\"}}"), "db: a string instead of"),
        (
            format!("{{\"db\": [{{\"password\": \"{SECRET}\" \"ip\": 7}}]}}"),
            "standard input:1:39: db[0]: expected `,`",
        ),
        (SECRET.to_owned() + "!", "neither JSON nor base64"),
    ] {
        let outcome = import(&scene, &value, &[]);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(2), ""), "{outcome}");
        assert!(outcome.stderr.contains(expected), "{expected} in {outcome}");
        assert!(!outcome.stderr.contains(SECRET), "{outcome}");
    }
    for (app, cgroup) in [("my app", "shop"), ("shop", "/etc"), ("shop", "a/../..")] {
        let outcome =
            scene.vipnat.run(["import", "platform", "--app", app, "--cgroup", cgroup, "/dev/null"]);
        assert_eq!(outcome.code(), Some(2), "{outcome}");
        assert!(outcome.stderr.starts_with("vipnat: the command line: apps."), "{outcome}");
    }
    assert_eq!(scene.vipnat.run(["import", "platform", "--app", "shop"]).code(), Some(2));
}

#[test]
fn what_cannot_be_imported_can_be_skipped_and_keeps_secrets_too() {
    let scene = Scene::new(0);
    let value = format!(
        r#"{{"my db": [{{"password": "{SECRET}"}}], "metadata": [{{"ip": "169.254.169.254"}}],
        "db": [{{"ip": "169.254.1.2", "instance_ips": ["{}"]}}, {{"ip": "{SECRET}"}}]}}"#,
        ip(0)
    );
    let refused = import(&scene, &value, &[]);
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(2), ""), "{refused}");
    let skipped = import(&scene, &value, &["--skip-unsupported"]);
    assert_eq!(skipped.code(), Some(0), "{skipped}");
    assert!(skipped.stderr.starts_with("vipnat: skipped: standard input:1:"), "{skipped}");
    for what in
        ["my db: white space", "metadata[0].ip: 169.254.169.254 belongs to", "db[1].ip: not"]
    {
        assert!(refused.stderr.contains(what) && skipped.stderr.contains(what), "{skipped}");
    }
    assert!(!refused.stderr.contains(SECRET) && !skipped.stderr.contains(SECRET), "{skipped}");
    let relationships = "[apps.shop.relationships.db]\nservice = \"db\"\nvip = \"169.254.1.2\"\n";
    assert!(skipped.stdout.ends_with(relationships), "{skipped}");
    assert_eq!(
        scene
            .vipnat
            .run(["import", "platform", "--app=a", "--cgroup=b", "/dev/null", "--skip-unsupported"])
            .code(),
        Some(2)
    );
}

#[test]
fn what_is_skipped_is_told_on_lines_of_its_own_and_whole() {
    let scene = Scene::new(0);
    let many: Vec<_> = (0..30).map(|i| format!(r#""my db {i:02}": [{{}}]"#)).collect();
    let value = format!(
        r#"{{"db": [{{"ip": "169.254.1.2", "instance_ips": ["{}"]}}],
{}}}"#,
        ip(0),
        many.join(",\n")
    );
    let imported = import(&scene, &value, &["--skip-unsupported"]);
    assert_eq!(imported.code(), Some(0), "{imported}");
    let lines: Vec<_> = imported.stderr.lines().collect();
    let beginning = |i| if i == 0 { "vipnat: skipped: " } else { "" };
    for (i, two) in lines[..40].chunks(2).enumerate() {
        let line =
            format!("{}standard input:{}:13: my db {i:02}: white space", beginning(i), i + 2);
        assert!(two[0].starts_with(&line), "{line} in {imported}");
        assert!(two[1].starts_with("    ") && !two[1].contains("\\n"), "{imported}");
    }
    assert_eq!(lines[40..], ["standard input: and 10 more problems"], "{imported}");
}

#[test]
fn a_value_of_which_nothing_is_left_makes_no_table() {
    let scene = Scene::new(0);
    for value in [
        r#"{"metadata": [{"ip": "169.254.169.254"}]}"#,
        r#"{"my db": [{"ip": "169.254.1.2"}], "db": null}"#,
    ] {
        for more in [&["--skip-unsupported"][..], &["--skip-unsupported", "--json"]] {
            let imported = import(&scene, value, more);
            assert_eq!((imported.code(), imported.stdout.as_str()), (Some(2), ""), "{imported}");
            for what in ["vipnat: skipped: ", "vipnat: standard input: nothing is left", "\"shop\""]
            {
                assert!(imported.stderr.contains(what), "{what} in {imported}");
            }
        }
    }
    // Nothing is skipped here: the application has no relationships.
    let empty = import(&scene, "{}", &["--skip-unsupported"]);
    assert_eq!((empty.code(), empty.stderr.as_str()), (Some(0), ""), "{empty}");
}

#[test]
fn a_password_stays_in_the_table() {
    let scene = Scene::new(1);
    let endpoint = format!("endpoint = {{ password = \"{SECRET}\" }}");
    let table = scene.table_with(&list([0]), &endpoint);
    let file = scene.vipnat.table(&table);
    let mut said = scene.vipnat.ok(["check".as_ref(), file.as_os_str()]);
    said += &scene.vipnat.ok(["apply".as_ref(), file.as_os_str(), "--dry-run".as_ref()]);
    said += &scene.vipnat.apply(&table);
    assert_eq!(scene.who(), "0");
    said += &(scene.vipnat.ok(["list"]) + &scene.vipnat.ok(["list", "--json"]));
    assert!(said.contains("db"), "{said}");
    assert!(!said.contains(SECRET), "{said}");

    // In a dump of a map, each character of the password would be a number or a string.
    let numbers: Vec<_> = SECRET.bytes().map(|byte| byte.to_string()).collect();
    let hex: Vec<_> = SECRET.bytes().map(|byte| format!("\"{byte:#04x}\"")).collect();
    let secrets = [SECRET.to_owned(), numbers.join(","), hex.join(",")];
    let mut dumps = vec![("backends", "lookup"), ("cursors", "lookup")];
    dumps.extend(["vips", "scope", "counters", "layout"].map(|map| (map, "dump")));
    for (map, verb) in dumps {
        let mut bpftool = Command::new("bpftool");
        let pin = scene.vipnat.bpffs().join("maps").join(map);
        bpftool.args(["-j", "map", verb, "pinned"]).arg(&pin);
        // The large maps are filled from the start. Slot 0 of backends is never used.
        if verb == "lookup" {
            bpftool.args(["key", "1", "0", "0", "0"]);
        }
        let dump = outcome(&mut bpftool);
        assert!(dump.status.success() && dump.stdout.len() > 9, "{map}: {dump}");
        let text: String = dump.stdout.split_whitespace().collect();
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{map}: {text}");
    }
    // Files of other instances there do not matter.
    let foreign = Path::new("/run/vipnat").join(format!("vipnat-test-{}.names", process::id()));
    fs::write(&foreign, SECRET).unwrap();
    let records = records_of(&scene.vipnat);
    fs::remove_file(foreign).unwrap();
    assert!(records.iter().any(|text| text.contains("db")), "{records:?}");
    assert!(records.iter().all(|text| !text.contains(SECRET)), "{records:?}");

    // The same for a table with a mistake beside the password.
    for (part, instead) in [
        (endpoint.as_str(), format!("endpoint = \"pgsql://main:{SECRET}@db\"")),
        (&endpoint, format!("port = \"{SECRET}\"")),
        (&endpoint, endpoint.replace(" }", "")),
        (&endpoint, format!("endpoint = {{ password = {SECRET} }}")),
        (&list([0]), format!("[\"pgsql://main:{SECRET}@db\"]")),
    ] {
        let broken = table.replacen(part, &instead, 1);
        assert_ne!(broken, table);
        let error = scene.vipnat.apply_fails(&broken, 2);
        assert!(!error.contains(SECRET), "{error}");
    }
}

/// The contents of the files that an instance keeps beside its state.
fn records_of(vipnat: &Vipnat) -> Vec<String> {
    let names = ["names", "run", "drains.json"].map(|extension| vipnat.beside(extension));
    names.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}
