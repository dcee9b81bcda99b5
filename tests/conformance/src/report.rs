//! The table of all cases in docs/semantics.md.

use std::{fmt::Write as _, fs, path::PathBuf};

use crate::case::Case;

const BEGIN: &str = "<!-- begin: written by `cargo xtask conformance --write`, do not edit -->";
const END: &str = "<!-- end -->";

/// The new text of docs/semantics.md: the present text, with the table of these cases in its place.
pub fn document(cases: &[&Case]) -> String {
    let path = path();
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let (before, rest) = text.split_once(BEGIN).expect("docs/semantics.md has a begin marker");
    let (_, after) = rest.split_once(END).expect("docs/semantics.md has an end marker");
    format!("{before}{BEGIN}\n\n{}\n{END}{after}", table(cases))
}

/// Writes that file.
pub fn write_document(cases: &[&Case]) {
    let path = path();
    fs::write(&path, document(cases))
        .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/semantics.md")
}

/// The known differences, then the identical behaviours by group.
fn table(cases: &[&Case]) -> String {
    let (known, identical): (Vec<&Case>, Vec<_>) =
        cases.iter().copied().partition(|case| case.known.is_some());
    let mut text = format!("## {} known differences\n\n", known.len());
    rows(&mut text, &known);
    write!(text, "\n## {} identical behaviours\n", identical.len()).expect("a string takes all");
    let mut groups: Vec<&str> = Vec::new();
    for case in &identical {
        if !groups.contains(&case.group) {
            groups.push(case.group);
        }
    }
    for group in groups {
        write!(text, "\n### {group}\n\n").expect("a string takes all");
        let cases: Vec<_> = identical.iter().filter(|case| case.group == group).copied().collect();
        rows(&mut text, &cases);
    }
    text
}

fn rows(text: &mut String, cases: &[&Case]) {
    text.push_str("| behaviour | iptables | vipnat | why |\n| --- | --- | --- | --- |\n");
    for Case { name, group: _, behaviour, run: _, known } in cases {
        let (iptables, vipnat, why) = match known {
            Some(known) => (code(known.iptables), code(known.vipnat), known.why),
            None => ("identical".to_owned(), "identical".to_owned(), ""),
        };
        writeln!(text, "| {behaviour} (`{name}`) | {iptables} | {vipnat} | {why} |")
            .expect("a string takes all");
    }
}

/// Lines of a record, each as code.
fn code(lines: &str) -> String {
    let lines: Vec<_> =
        lines.lines().map(|line| format!("`{}`", line.replace('|', "\\|"))).collect();
    if lines.is_empty() { "nothing more".to_owned() } else { lines.join("<br>") }
}
