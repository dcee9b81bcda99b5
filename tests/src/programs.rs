//! The programs that tests run.

use std::{env, path::PathBuf};

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
