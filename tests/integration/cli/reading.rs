//! Commands that only read do not delay others. `attach` needs the lock that they take, and a container
//! waits for it.

use std::{
    fs,
    io::Read as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use nix::sys::resource::{Resource, setrlimit};
use serde_json::{Value, json};
use vipnat_testkit::{Cgroup, Vipnat, outcome};

use crate::scene::{self, Scene, list, strace};

/// The system calls of a command while it has the lock of the state directory.
struct Locked(Vec<String>);

impl Locked {
    /// Runs a command to its end. It must succeed.
    fn trace(command: &Command, log: &Path) -> Self {
        let _ = fs::remove_file(log);
        let calls = "trace=flock,close,bpf,openat,write,execve";
        let options = ["-s", "4096", "-e", calls, "-o", log.to_str().unwrap()];
        let traced = outcome(&mut strace(command, &options));
        assert!(traced.status.success(), "{traced}");
        Self::read(&fs::read_to_string(log).unwrap())
    }

    /// Lines look like `4711  flock(3, LOCK_EX|LOCK_NB) = 0`.
    fn read(log: &str) -> Self {
        let (mut lock, mut locked, mut ever) = (None, Vec::new(), false);
        for line in log.lines() {
            let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
            if let Some(arguments) = call.strip_prefix("flock(") {
                assert!(call.ends_with(" = 0"), "{call}");
                lock = arguments.split(',').next().map(|fd| format!("close({fd})"));
                ever = true;
            } else if lock.as_ref().is_some_and(|close| call.starts_with(close.as_str())) {
                lock = None;
            } else if lock.is_some() {
                locked.push(call.to_owned());
            }
        }
        assert!(ever, "it never had the lock:\n{log}");
        Self(locked)
    }

    /// The links that it read.
    fn links(&self) -> Vec<&str> {
        self.with(&["BPF_OBJ_GET", "/apps/"])
    }

    /// The calls that contain all of these parts.
    fn with(&self, parts: &[&str]) -> Vec<&str> {
        let Self(calls) = self;
        let calls = calls.iter().map(String::as_str);
        calls.filter(|call| parts.iter().all(|part| call.contains(part))).collect()
    }
}

/// Two apps, and a state that contains both.
fn two_apps() -> (Scene, Cgroup, String, PathBuf) {
    let (scene, other) = (Scene::new(0), Cgroup::new());
    let table = scene::table(&[
        ("shop", scene.app.cgroup.relative(), &list([0]), ""),
        ("blog", other.relative(), &list([1]), ""),
    ]);
    scene.vipnat.apply(&table);
    let log = scene.vipnat.table(&table).with_extension("log");
    (scene, other, table, log)
}

#[test]
fn nothing_slow_happens_while_a_command_that_reads_has_the_lock() {
    let (scene, other, table, log) = two_apps();
    let file = scene.vipnat.table(&table);
    let cgroups = other.path().parent().unwrap().display().to_string();
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["exec", "--app", "shop", "--", "true"],
        &["apply", "--dry-run", file.to_str().unwrap()],
    ] {
        let locked = Locked::trace(&scene.vipnat.command(arguments), &log);
        let own = if arguments[0] == "exec" { ":shop/" } else { "no links at all" };
        let links = locked.links();
        assert!(links.iter().all(|link| link.contains(own)), "{arguments:?}: {links:#?}");
        for slow in [&["openat(", &*cgroups][..], &["write(1,"], &["execve("]] {
            assert_eq!(locked.with(slow), [""; 0], "{arguments:?}");
        }
    }
}

#[test]
fn commands_about_one_app_read_the_links_of_no_other_one() {
    let (scene, _other, _, log) = two_apps();
    let more = Cgroup::new();
    for arguments in [
        &["attach", "--app", "shop", "--cgroup", more.relative()][..],
        &["exec", "--app", "blog", "--", "true"],
        &["flush", "--app", "shop"],
    ] {
        let locked = Locked::trace(&scene.vipnat.command(arguments), &log);
        let links = locked.links();
        let own = format!(":{}/", arguments[2]);
        assert!(links.iter().all(|link| link.contains(&own)), "{arguments:?}: {links:#?}");
    }
}

/// strace slows the listing down, so that a change comes between the copy of the maps and the links.
#[test]
fn what_changes_while_links_are_read_is_told_as_it_was_or_as_it_is() {
    let (scene, other, _, log) = two_apps();
    let (shop, blog) = (scene.app.cgroup.relative(), other.relative());
    let slowly = "inject=bpf:delay_enter=20000";
    let options = ["-e", "trace=flock,bpf", "-e", slowly, "-o", log.to_str().unwrap()];
    let mut reader = strace(&scene.vipnat.command(["list", "--json"]), &options);
    let reader = reader.stdout(Stdio::piped()).spawn().expect("start strace");
    // From here on, the other command gets the lock as soon as this one releases it.
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("flock(")) {
        sleep(Duration::from_millis(5));
    }
    scene
        .vipnat
        .apply(&scene::table(&[("shop", blog, &list([0]), ""), ("blog", shop, &list([1]), "")]));
    let output = reader.wait_with_output().expect("wait for strace");
    assert!(output.status.success(), "{}", output.status);
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let apps = listed["apps"].as_array().unwrap();
    let told = apps.iter().map(|app| {
        let cgroups = app["cgroups"].as_array().unwrap();
        let cgroups = cgroups.iter().map(|cgroup| [&cgroup["cgroup"], &cgroup["translating"]]);
        json!([app["app"], cgroups.collect::<Vec<_>>()])
    });
    let told: Vec<_> = told.collect();
    let as_it_was = [json!(["blog", [[blog, true]]]), json!(["shop", [[shop, true]]])];
    let as_it_is = [json!(["blog", [[shop, true]]]), json!(["shop", [[blog, true]]])];
    assert!(told == as_it_was || told == as_it_is, "{listed:#}");
}

/// A tree of values once took eight kilobytes for each VIP.
#[test]
fn a_listing_takes_little_memory_however_many_vips_there_are() {
    let (vipnat, cgroup) = (Vipnat::new(), Cgroup::new());
    let mut table = format!(
        "[services.s]\nbackends = [\"247.0.0.1\", \"247.0.0.2\"]\n[apps.shop]\ncgroup = \"{}\"\n",
        cgroup.relative()
    );
    for index in 0..30_000 {
        let (third, fourth) = (43 + index / 250, index % 250);
        table += &format!(
            "[apps.shop.relationships.r{index}]\nservice = \"s\"\nvip = \"169.254.{third}.{fourth}\"\n"
        );
    }
    vipnat.apply(&table);
    for arguments in [&["list"][..], &["list", "--json"]] {
        let mut command = vipnat.command(arguments);
        // SAFETY: only a system call.
        unsafe { command.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_AS, 128 << 20, 128 << 20)?)) };
        let listed = outcome(&mut command);
        assert!(listed.status.success(), "{arguments:?}: {} {}", listed.status, listed.stderr);
        assert_eq!(listed.stdout.matches("169.254.").count(), 30_000);
    }
}

/// A pager shows the first page, and waits.
#[test]
fn a_listing_that_is_read_slowly_keeps_nobody_waiting() {
    let (vipnat, cgroup, more) = (Vipnat::new(), Cgroup::new(), Cgroup::new());
    let mut table =
        format!("[services.s]\nbackends = []\n[apps.shop]\ncgroup = \"{}\"\n", cgroup.relative());
    // The listing is longer than a pipe's buffer.
    for index in 0..2000 {
        table += &format!("[apps.shop.relationships.relationship{index}]\nservice = \"s\"\n");
        table += &format!("vip = \"169.254.{}.{}\"\n", 43 + index / 250, index % 250);
    }
    vipnat.apply(&table);
    let mut reader = vipnat.command(["list"]).stdout(Stdio::piped()).spawn().expect("start list");
    let mut output = reader.stdout.take().expect("stdout is piped");
    let mut first = [0; 1];
    output.read_exact(&mut first).expect("it begins to print");
    vipnat.ok(["attach", "--app", "shop", "--cgroup", more.relative()]);
    vipnat.ok(["flush"]);
    assert_eq!(reader.try_wait().expect("look at list"), None, "it still waits to be read");
    // The listing shows the state of the moment before. It is no error if the reader stops early.
    drop(output);
    let status = reader.wait().expect("wait for list");
    assert!(status.signal() == Some(libc::SIGPIPE), "{status}");
}
