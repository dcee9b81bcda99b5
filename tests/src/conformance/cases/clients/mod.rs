//! Real clients, as applications use them, against real servers.

mod databases;
mod languages;
mod names;
mod web;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    conformance::{Case, Container, Record},
    installed, outcome,
};

const GROUP: &str = "Real clients";

/// All of them.
pub(super) const CASES: &[&[Case]] =
    &[languages::CASES, databases::CASES, names::CASES, web::CASES];

/// A client that is written in the language of `interpreter`, in the container, with arguments
/// separated by spaces.
fn run(container: &Container, record: &mut Record, interpreter: &str, arguments: &str) {
    if has(record, &[interpreter]) {
        let (file, arguments) = arguments.split_once(' ').expect("a file and its arguments");
        let mut command = container.app().command(interpreter);
        note(record, command.arg(source(file)).args(arguments.split(' ')));
    }
}

/// A file of tests/clients.
fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(file)
}

/// Runs a command to its end, and notes all that it says. One that fails fails the case: that it
/// does so everywhere would prove nothing.
fn note(record: &mut Record, command: &mut Command) {
    note_exit(record, command, 0);
}

/// The same for a command that must end with this status.
fn note_exit(record: &mut Record, command: &mut Command, code: i32) {
    let outcome = outcome(command);
    assert_eq!(outcome.code(), Some(code), "{command:?}: {outcome}");
    record.line(&outcome.stdout);
    record.line(&outcome.stderr);
}

/// Whether these programs are installed; if one is not, the case can't run.
fn has(record: &mut Record, programs: &[&str]) -> bool {
    let missing: Vec<_> =
        programs.iter().copied().filter(|program| installed(program).is_none()).collect();
    if !missing.is_empty() {
        record.skip(format!("not installed: {}", missing.join(", ")));
    }
    missing.is_empty()
}
