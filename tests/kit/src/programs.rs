//! Paths of the programs that tests run.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The program `name` of this workspace: what `<NAME>_BIN` says, or the one built beside the
/// running test or tool.
pub fn program(name: &str) -> PathBuf {
    if let Some(path) = env::var_os(format!("{}_BIN", name.to_uppercase())) {
        return path.into();
    }
    let me = env::current_exe().expect("the path of this program");
    // target/debug/xtask, target/debug/deps/some_test-0123
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("no {name} near {}: build it first: cargo xtask test", me.display())
        })
}

/// The source of a client, by its name in tests/kit/clients.
pub fn client_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// Copies a program where everybody may run it, so that it can be run at once: were it written by this process, a
/// child of another thread that has not started its own program yet could still have it open, and
/// "text file busy" be the answer.
pub fn copy_program(from: &Path, to: &Path) {
    // Whatever mask it was built with.
    let status = Command::new("install").arg("--mode=0755").args([from, to]).status();
    let status = status.expect("start install");
    assert!(status.success(), "install {} {}: {status}", from.display(), to.display());
}

/// Where a program of the machine is: along PATH, or where Debian keeps administrators' tools.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).to_owned()))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}
