//! The cost of each cgroup and app does not grow with their number.

use std::{fs, path::Path};

use vipnat_testkit::{Cgroup, Vipnat, outcome};

use crate::scene::strace;

/// Applies this table, which must succeed. Returns the number of these system calls whose lines contain
/// `with`.
fn calls(vipnat: &Vipnat, table: &str, calls: &str, with: &str) -> usize {
    let file = vipnat.table(table);
    let log = file.with_file_name("strace");
    let apply = vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let trace = format!("trace={calls}");
    let options = ["-o", &log.display().to_string(), "-e", &trace];
    let applied = outcome(&mut strace(&apply, &options));
    assert_eq!(applied.code(), Some(0), "{applied}");
    let text = fs::read_to_string(log).expect("read the log of strace");
    text.lines().filter(|line| line.contains(with)).count()
}

fn children(of: &Cgroup, count: usize) {
    for number in 0..count {
        let path: &Path = of.path();
        fs::create_dir(path.join(format!("a{number}"))).expect("make a cgroup");
    }
}

#[test]
fn an_app_with_many_cgroups_does_not_read_all_its_links_again_for_each() {
    let opened = |count| {
        let (vipnat, cgroup) = (Vipnat::new(), Cgroup::new());
        children(&cgroup, count);
        let table = format!("[apps.shop]\ncgroup = \"{}/a*\"\n", cgroup.relative());
        calls(&vipnat, &table, "bpf", "BPF_OBJ_GET,")
    };
    let (few, many) = (opened(15), opened(30));
    assert!(few > 100 && many < few * 5 / 2, "{few} for 15 cgroups, {many} for 30");
}

#[test]
fn a_directory_is_read_once_however_many_apps_have_patterns_for_it() {
    let (vipnat, cgroup) = (Vipnat::new(), Cgroup::new());
    children(&cgroup, 12);
    let inside = |apps: usize| -> String {
        let path = cgroup.relative();
        let app = |number| format!("[apps.a{number}]\ncgroup = \"{path}/[a]{number}\"\n");
        (0..apps).map(app).collect()
    };
    let directory = format!("\"{}\"", cgroup.path().display());
    let read = |apps| calls(&vipnat, &inside(apps), "openat", &directory);
    let (few, many) = (read(2), read(12));
    assert!(few > 0 && few == many, "{few} times for 2 apps, {many} for 12");
}
