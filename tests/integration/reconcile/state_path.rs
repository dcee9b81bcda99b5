//! A state directory is the same under each of its paths.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use vipnat_testkit::{Outcome, Vipnat, outcome, program};

use crate::scene::{Scene, list};

/// Other paths of an instance's state directory. For each, the words that go in front of vipnat's command.
fn paths(vipnat: &Vipnat, scratch: &Path) -> Vec<(PathBuf, Vec<String>)> {
    let name = vipnat.bpffs().file_name().unwrap();
    let link = scratch.join("link");
    let parent = scratch.join("parent");
    let mounted = scratch.join("mounted");
    symlink(vipnat.bpffs(), &link).unwrap();
    symlink("/sys/fs/bpf", &parent).unwrap();
    fs::create_dir(&mounted).unwrap();
    let script = format!("mount --bind /sys/fs/bpf {} && exec \"$@\"", mounted.display());
    let bind = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    vec![
        (link, vec![]),
        (parent.join(name), vec![]),
        (Path::new("/sys/fs/../fs/bpf").join(name), vec![]),
        (mounted.join(name), bind),
    ]
}

fn run(before: &[String], state: &Path, arguments: &[&str]) -> Outcome {
    let vipnat = program("vipnat");
    let mut command = match before {
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(vipnat);
            command
        }
        [] => Command::new(vipnat),
    };
    outcome(command.arg("--bpffs").arg(state).args(arguments))
}

/// `apply` once worked although a `vipnat run` had the same state under another path.
#[test]
fn the_guard_of_run_holds_by_whatever_path_the_state_is_named() {
    let scene = Scene::new(2);
    let scratch = tempfile::Builder::new().prefix("vipnat-test").tempdir().unwrap();
    let text = scene.table(&list([0]));
    scene.vipnat.apply(&text);
    let paths = paths(&scene.vipnat, scratch.path());
    let other = scratch.path().join("other.toml");
    fs::write(&other, scene.table(&list([1]))).unwrap();
    let other = other.to_str().unwrap();
    let following = scene.vipnat.follow(&text, &[]);
    for (path, before) in &paths {
        for arguments in
            [&["apply", other][..], &["run", other], &["flush"], &["flush", "--app", "shop"]]
        {
            let refused = run(before, path, arguments);
            let context = format!("{} {arguments:?}: {refused}", path.display());
            assert_eq!(refused.code(), Some(1), "{context}");
            assert!(refused.stderr.contains(") manages "), "{context}");
        }
        let listed = run(before, path, &["list"]);
        assert!(listed.stdout.contains("  db "), "{}: {listed}", path.display());
        assert_eq!(scene.who(), "0");
    }
    drop(following);

    // The same in the other direction.
    for (path, before) in &paths {
        if !before.is_empty() {
            continue;
        }
        let table = scene.vipnat.table(&text);
        let mut command = Command::new(program("vipnat"));
        command.arg("--bpffs").arg(path).args(["run".as_ref(), table.as_os_str()]);
        let mut following = vipnat_testkit::Following::start(command);
        following.wait_for(|line| line.starts_with("following "));
        let refused = scene.vipnat.run(["apply", other]);
        assert!(refused.stderr.contains(") manages "), "{}: {refused}", path.display());
    }
}

#[test]
fn what_an_earlier_vipnat_kept_under_the_name_of_a_link_is_found() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let scratch = tempfile::Builder::new().prefix("vipnat-test").tempdir().unwrap();
    let link = scratch.path().join("link");
    symlink(scene.vipnat.bpffs(), &link).unwrap();
    let name = link.to_str().unwrap().trim_matches('/').replace('-', "%2D").replace('.', "%2E");
    let old = PathBuf::from(format!("/run/vipnat/{}.names", name.replace('/', "-")));
    fs::rename(scene.vipnat.beside("names"), &old).unwrap();
    assert!(!scene.vipnat.ok(["list"]).contains("  db "));
    // A command that only reads changes nothing.
    run(&[], &link, &["list"]);
    assert!(old.exists());
    let table = scene.vipnat.table(&scene.table(&list([0])));
    let applied = run(&[], &link, &["apply", table.to_str().unwrap()]);
    assert_eq!(applied.code(), Some(0), "{applied}");
    assert!(!old.exists() && scene.vipnat.beside("names").exists());
    assert!(scene.vipnat.ok(["list"]).contains("  db "));
}
