//! Runs the comparison with iptables, and tests that it can fail.

use std::{collections::HashSet, env, fs, path::Path, process::Command};

use vipnat_conformance::{Case, Known, Run, Translator, Verdict, cases, db, document, run};
use vipnat_testkit::{emulated, left_out, not_run_as, outcome};

#[test]
fn every_case_is_identical_or_differs_as_it_is_known_to() {
    let translators: &[_] = if emulated() {
        left_out("too slow in emulation: iptables-nft and nft, for which iptables-legacy stands");
        &[Translator::IptablesLegacy, Translator::Vipnat]
    } else {
        &Translator::ALL
    };
    let verdicts = run(&cases::all(), translators, |case, _, verdict| {
        if let Verdict::Skipped(why) = verdict {
            not_run_as(case.name, why);
        }
    });
    let failed: Vec<_> = verdicts
        .iter()
        .filter_map(|(case, verdict)| match verdict {
            Verdict::Failed(what) => Some(format!("{}: {what}", case.name)),
            _ => None,
        })
        .collect();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn docs_semantics_md_is_what_the_run_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/semantics.md");
    let text = fs::read_to_string(path).expect("read docs/semantics.md");
    assert!(
        text == document(&cases::all()),
        "docs/semantics.md is not what the cases say: cargo xtask conformance --write"
    );
}

#[test]
fn cases_have_names_of_their_own() {
    let all = cases::all();
    let names: HashSet<_> = all.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), all.len());
    let is_kebab =
        |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    assert!(names.iter().all(|name| is_kebab(name)), "{names:?}");
}

/// A case that fails: behind vipnat the VIP leads to another backend.
const OTHER_BACKEND: Case = Case {
    name: "other-backend",
    group: "",
    behaviour: "",
    run: Run::Steps(|container, record| {
        let backend = if container.translator() == Translator::Vipnat { 2 } else { 1 };
        container.apply(&db(&[backend]));
        container.session().play("who tcp4 db:5432", record);
    }),
    known: None,
};

#[test]
fn containers_with_different_backends_differ() {
    let known = Known {
        iptables: "who tcp4 db:5432 = \"B1\"",
        vipnat: "who tcp4 db:5432 = \"B2\"",
        why: "",
    };
    let expected = Case { known: Some(known), ..OTHER_BACKEND };
    let verdicts = run(&[&OTHER_BACKEND, &expected], &Translator::ALL, |_, _, _| {});
    let [(_, Verdict::Failed(message)), (_, Verdict::Known)] = &verdicts[..] else {
        panic!("{verdicts:?}");
    };
    assert!(message.contains("-who tcp4 db:5432 = \"B1\"\n"), "{message}");
    assert!(message.contains("+who tcp4 db:5432 = \"B2\"\n"), "{message}");
}

#[test]
fn a_case_that_panics_fails_and_the_others_go_on() {
    let panics = Case {
        name: "panics",
        run: Run::Steps(|container, record| {
            container.session().play("socket a tcp4\nno such operation", record);
        }),
        ..OTHER_BACKEND
    };
    let fine = Case {
        name: "fine",
        run: Run::Steps(|container, record| container.session().play("socket a tcp4", record)),
        ..OTHER_BACKEND
    };
    let verdicts = run(&[&panics, &fine], &Translator::ALL, |_, _, _| {});
    let [(_, Verdict::Failed(message)), (_, Verdict::Identical)] = &verdicts[..] else {
        panic!("{verdicts:?}");
    };
    assert!(message.contains("no such operation"), "{message}");
    // The message of the client.
    assert!(message.contains("no socket such"), "{message}");
}

#[test]
fn a_client_that_panics_on_purpose_prints_nothing_into_a_passing_run() {
    let mut tests = Command::new(env::current_exe().unwrap());
    tests.args(["--exact", "a_case_that_panics_fails_and_the_others_go_on"]);
    let run = outcome(tests.env("RUST_BACKTRACE", "1"));
    assert!(run.stdout.contains("test result: ok. 1 passed"), "{run}");
    assert_eq!(run.stderr, "");
}
