//! Rules for single files.

use super::{
    house::{CORE, UNSAFE},
    parsed::{Parsed, Reference},
    tree::Source,
    violation::Violation,
};

/// Each file begins with its purpose.
pub(super) fn check_header(Source { path, text }: &Source, violations: &mut Vec<Violation>) {
    let first = text.lines().next().unwrap_or_default();
    if first.strip_prefix("//!").is_none_or(|text| text.trim().is_empty()) {
        violations.push(Violation::new(path, 1, "begin the file with `//!` and what it is for"));
    }
}

/// Checks all other rules for single files.
pub(super) fn check(file: &Parsed, violations: &mut Vec<Violation>) {
    let Parsed { path, scopes, unsafes, items, attributes } = file;
    let mut refuse = |line, what: &str| violations.push(Violation::new(path, line, what));

    let connects = ["mod.rs", "lib.rs"].iter().any(|name| path.rsplit('/').next() == Some(name));
    if let Some(line) = items.first()
        && connects
    {
        refuse(
            *line,
            "mod.rs and lib.rs only connect modules: move this item, and those below it, into a file \
             of their own and re-export them with `pub use`",
        );
    }
    if let Some(line) = unsafes.first()
        && !UNSAFE.iter().any(|(place, _)| path.starts_with(place))
    {
        refuse(
            *line,
            "`unsafe` is for vipnat/src/kernel and vipnat-ebpf: move it, and all further down, there \
             behind a safe function; exceptions are listed in xtask/src/lint/structure/house.rs",
        );
    }
    for Reference { line, path } in scopes.iter().flat_map(|scope| &scope.references) {
        if let [first, second, ..] = &path[..]
            && first == "super"
            && second == "super"
        {
            refuse(*line, "`super::super` hides where this comes from: write `crate::…`");
        }
    }
    let forbids = ["forbid", "unsafe_code"].iter().all(|word| attributes.contains(*word));
    if path.strip_prefix(CORE) == Some("lib.rs") && !forbids {
        refuse(1, "vipnat-core has no unsafe code: add `#![forbid(unsafe_code)]`");
    }
}
