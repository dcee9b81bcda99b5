//! Tests each rule in small trees that break one rule at a time.

use std::{fs, path::Path};

use super::{check::check, tree::Tree, violation::Violation};

/// The violations in a tree of these files.
fn judge<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
    let mut tree = Tree::default();
    for (path, text) in files {
        tree.add(path, || Ok(text.to_owned())).unwrap();
    }
    check(&tree).iter().map(Violation::to_string).collect()
}

/// The root of the crate with layers.
const LIB: (&str, &str) = (
    "vipnat/src/lib.rs",
    "//! x\npub mod kernel;\npub mod state;\npub mod reconcile;\npub mod cli;\n",
);

#[track_caller]
fn assert_one(found: &[String], place: &str, words: &[&str]) {
    let [one] = found else { panic!("not one violation: {found:#?}") };
    assert!(one.starts_with(place), "{one} is not at {place}");
    words.iter().for_each(|word| assert!(one.contains(word), "{one} does not say {word}"));
}

#[test]
fn an_arrow_that_points_up_and_a_circle_are_refused_in_a_tree_on_disk() {
    let root = tempfile::tempdir().unwrap();
    let files = [
        LIB,
        ("vipnat/src/state/mod.rs", "//! x\npub mod links;\n"),
        ("vipnat/src/state/links.rs", "//! x\n\nuse crate::reconcile::Session;\n"),
        (
            "vipnat/src/reconcile/mod.rs",
            "//! x\nmod attach;\nmod session;\npub use session::Session;\n",
        ),
        (
            "vipnat/src/reconcile/session.rs",
            "//! x\npub struct Session;\nfn f() {\n    super::attach::attach();\n}\n",
        ),
        // The path leads through the re-export, to the file of the item.
        (
            "vipnat/src/reconcile/attach.rs",
            "//! x\nuse crate::reconcile::Session;\npub fn attach() -> Session { Session }\n",
        ),
        ("target/built.rs", "no source"),
    ];
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).unwrap();
        fs::write(path, text).unwrap();
    }
    let found: Vec<_> =
        check(&Tree::read(root.path()).unwrap()).iter().map(Violation::to_string).collect();
    let [circle, up] = &found[..] else { panic!("not two violations: {found:#?}") };
    assert!(up.starts_with("vipnat/src/state/links.rs:3: state may not import reconcile"), "{up}");
    assert!(circle.starts_with("vipnat/src/reconcile/attach.rs:2: circle: "), "{circle}");
    assert!(circle.contains("vipnat/src/reconcile/session.rs:4 uses "), "{circle}");
}

#[test]
fn imports_that_point_left_and_files_without_circles_are_accepted() {
    let found = judge([
        ("vipnat-common/src/lib.rs", "//! x\nmod slot;\npub use slot::Slot;\n"),
        ("vipnat-common/src/slot.rs", "//! x\npub struct Slot;\n"),
        (
            "vipnat-core/src/lib.rs",
            "//! x\n#![forbid(unsafe_code)]\npub mod desired;\npub mod model;\npub mod plan;\n",
        ),
        (
            "vipnat-core/src/plan.rs",
            "//! x\nuse std::net::Ipv4Addr;\nuse vipnat_common::Slot;\npub struct Plan(Slot, Ipv4Addr);\n\
             #[cfg(test)]\nmod tests;\n",
        ),
        // Tests may use files that use the file under test.
        (
            "vipnat-core/src/plan/tests.rs",
            "//! x\nuse super::*;\nuse crate::model::Model;\nfn plan(plan: Plan) -> Plan { plan }\n",
        ),
        (
            "vipnat-core/src/model.rs",
            "//! x\nuse crate::plan::Plan;\npub struct Model(Plan);\nmod tests { use crate::desired::D; }\n",
        ),
        ("vipnat-core/src/desired.rs", "//! x\nuse crate::model::Model;\npub struct D(Model);\n"),
        LIB,
        ("vipnat/src/main.rs", "//! x\nfn main() { vipnat::cli::main() }\n"),
        ("vipnat/src/cli/mod.rs", "//! x\nmod apply;\nmod run;\npub use run::main;\n"),
        ("vipnat/src/cli/run.rs", "//! x\npub fn main() { super::apply::apply(); }\n"),
        ("vipnat/src/cli/apply.rs", "//! x\nuse vipnat_core::plan::Plan;\npub fn apply() {}\n"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn an_arrow_is_seen_in_paths_macros_and_imports_of_a_layer() {
    let up = |text| {
        let found = judge([
            LIB,
            ("vipnat/src/kernel/mod.rs", "//! x\nmod maps;\n"),
            ("vipnat/src/kernel/maps.rs", text),
            ("vipnat/src/state/mod.rs", "//! x\npub mod links;\n"),
            ("vipnat/src/state/links.rs", "//! x\npub fn f() -> u32 { 1 }\n"),
        ]);
        assert_one(&found, "vipnat/src/kernel/maps.rs:2: kernel may not import state", &[]);
    };
    up("//! x\nfn g() -> u32 { crate::state::links::f() }\n");
    up("//! x\nfn g() { println!(\"{}\", crate::state::links::f()); }\n");
    up("//! x\nuse crate::{state::links};\n");
    up("//! x\nuse crate::state::links::*;\n");
}

#[test]
fn only_main_imports_cli() {
    let found = judge([
        LIB,
        ("vipnat/src/cli/mod.rs", "//! x\n"),
        ("bench/src/main.rs", "//! x\nfn main() { vipnat::cli::main() }\n"),
    ]);
    assert_one(&found, "bench/src/main.rs:2: only vipnat/src/main.rs may import cli", &[]);
}

#[test]
fn a_file_beside_the_layers_is_refused() {
    assert_one(&judge([("vipnat/src/text.rs", "//! x\n")]), "vipnat/src/text.rs:1: ", &["layer"]);
}

#[test]
fn a_layer_is_named_where_it_is_imported() {
    let found = judge([
        LIB,
        ("vipnat/src/kernel/mod.rs", "//! x\npub fn f() {}\n"),
        ("vipnat/src/state/mod.rs", "//! x\nuse super::kernel::f;\n"),
    ]);
    let [item, import] = &found[..] else { panic!("not two violations: {found:#?}") };
    assert!(item.starts_with("vipnat/src/kernel/mod.rs:2: mod.rs and lib.rs only"), "{item}");
    assert!(import.starts_with("vipnat/src/state/mod.rs:2: across layers"), "{import}");
}

#[test]
fn the_core_uses_no_kernel_and_no_unsafe_code() {
    let lib = ("vipnat-core/src/lib.rs", "//! x\n#![forbid(unsafe_code)]\npub mod a;\n");
    let found =
        judge([lib, ("vipnat-core/src/a.rs", "//! x\nuse std::{collections, fs::File};\n")]);
    assert_one(&found, "vipnat-core/src/a.rs:2: ", &["std::fs"]);
    let found = judge([
        lib,
        ("vipnat-core/src/a.rs", "//! x\nuse std::net;\nfn f() { net::TcpStream::connect(1); }\n"),
    ]);
    assert_one(&found, "vipnat-core/src/a.rs:3: ", &["std::net::TcpStream"]);
    let found = judge([("vipnat-core/src/lib.rs", "//! x\n")]);
    assert_one(&found, "vipnat-core/src/lib.rs:1: ", &["forbid(unsafe_code)"]);
}

#[test]
fn items_in_mod_rs_are_refused() {
    let found = judge([("tests/src/lib.rs", "//! x\nmod a;\npub use a::b;\nfn c() {}\n")]);
    assert_one(&found, "tests/src/lib.rs:4: mod.rs and lib.rs only connect modules", &["pub use"]);
}

#[test]
fn super_super_is_refused() {
    let found = judge([("bench/src/main.rs", "//! x\nmod a { use super::super::b; }\n")]);
    assert_one(&found, "bench/src/main.rs:2: `super::super`", &["crate::"]);
}

#[test]
fn unsafe_is_refused_outside_of_the_kernel_layer() {
    let text = "//! x\nfn f() {\n    m!(unsafe { g() });\n}\n";
    let found = judge([LIB, ("vipnat/src/reconcile/a.rs", text)]);
    assert_one(&found, "vipnat/src/reconcile/a.rs:3: `unsafe`", &["vipnat/src/kernel"]);
    assert_eq!(judge([("vipnat/src/kernel/a.rs", text)]), [""; 0]);
}

#[test]
fn a_file_says_what_it_is_for() {
    assert_one(&judge([("bench/src/a.rs", "// x\n")]), "bench/src/a.rs:1: begin the file", &[]);
    assert_one(&judge([("bench/src/a.rs", "//!\n")]), "bench/src/a.rs:1: begin the file", &[]);
}

#[test]
fn a_path_or_a_link_in_a_document_that_leads_nowhere_is_refused() {
    let there = [
        ("vipnat/src/cli/mod.rs", "//! x\n"),
        ("docs/table.md", "# The *table*: keys\n"),
        (".ci/run", ""),
    ];
    let judge_text = |text| judge([there[0], there[1], there[2], ("docs/a.md", text)]);
    let fine = "`vipnat/src/{cli}`, `cli/mod.rs:7`, `vipnat/src/*/mod.rs`, `vipnat/sr` is not, `.ci/run`,\n\
                `/sys/fs/bpf/vipnat`, `maps/vips`, [a](table.md#the-table-keys), [b](../.ci/run),\n\
                [c](https://example.org/x)\n";
    assert_one(&judge_text(fine), "docs/a.md:1: `vipnat/sr` does not exist", &[]);
    for text in [
        "x\n`cat vipnat/src/gone.rs`\n",
        "x\n`gone.rs`\n",
        "x\n`vipnat/src/{cli,gone}`\n",
        "x\n[a](../gone.md)\n",
        "x\n[a](table.md#gone)\n",
    ] {
        assert_one(&judge_text(text), "docs/a.md:2: ", &["gone"]);
    }
}
