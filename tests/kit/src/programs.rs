//! Paths of the programs that tests run.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The path of the program `name` of this workspace: that in `<NAME>_BIN`, or the one built beside the
/// running test or tool.
pub fn program(name: &str) -> PathBuf {
    if let Some(path) = env::var_os(format!("{}_BIN", name.to_uppercase())) {
        return path.into();
    }
    let me = env::current_exe().expect("the path of this program");
    // Such as target/debug/xtask or target/debug/deps/some_test-0123.
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("no {name} near {}: build it first: cargo xtask test", me.display())
        })
}

/// The path of a client's source, by its name in tests/kit/clients.
pub fn client_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// Copies a program to a place where every user can run it.
///
/// Another process makes the copy, so that the program can run at once. Otherwise a child of another thread
/// that has not yet called exec could still hold the file open. Running it would then fail with "text file
/// busy".
pub fn copy_program(from: &Path, to: &Path) {
    // The mode does not depend on the umask of the build.
    let status = Command::new("install").arg("--mode=0755").args([from, to]).status();
    let status = status.expect("start install");
    assert!(status.success(), "install {} {}: {status}", from.display(), to.display());
}

/// The path of a program of the machine: along PATH, or in Debian's directories of administrators' tools.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).to_owned()))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}
