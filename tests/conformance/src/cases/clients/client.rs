//! Runs a client in a container, and notes its output.

use std::{ffi::OsString, path::PathBuf, process::Command, sync::Arc};

use anyhow::ensure;
use tempfile::TempDir;
use vipnat_testkit::{Shared, client_file, emulated, installed, outcome, test_name};

use crate::{Container, Record};

pub(super) const GROUP: &str = "Real clients";

/// Runs a client in the container. It is written in the language of `interpreter`; spaces separate its
/// arguments.
pub(super) fn run(container: &Container, record: &mut Record, interpreter: &str, arguments: &str) {
    let (file, arguments) = arguments.split_once(' ').expect("a file and its arguments");
    let client = Client::new(interpreter, file);
    let mut command = container.app().command(interpreter);
    note(record, command.args(client.arguments()).args(arguments.split(' ')));
}

/// A client that an interpreter runs.
pub(super) enum Client {
    Source(PathBuf),
    /// Compiled classes: Java would compile a source file each time it runs it.
    Compiled {
        classes: Arc<TempDir>,
        main: String,
    },
}

impl Client {
    /// The client in this file of tests/kit/clients.
    pub(super) fn new(interpreter: &str, file: &str) -> Self {
        static CLASSES: Shared<TempDir> = Shared::new();

        let source = client_file(file);
        let Some(main) = file.strip_suffix(".java") else { return Self::Source(source) };
        let compile = || {
            let classes = directory();
            let mut compiler = Command::new(interpreter);
            // This module exists even if the command javac is not installed.
            compiler.args(["-m", "jdk.compiler/com.sun.tools.javac.Main", "-d"]);
            let compiled = outcome(compiler.arg(classes.path()).arg(&source));
            ensure!(compiled.status.success(), "{file}: {compiled}");
            Ok(classes)
        };
        let classes = CLASSES.get(compile).expect("compile the client");
        Self::Compiled { classes, main: main.to_owned() }
    }

    /// The arguments for the interpreter.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        match self {
            Self::Source(file) => vec![file.into()],
            Self::Compiled { classes, main } => {
                vec!["-cp".into(), classes.path().into(), main.into()]
            }
        }
    }
}

/// A new directory for files of a case.
pub(super) fn directory() -> TempDir {
    tempfile::Builder::new().prefix(&test_name()).rand_bytes(0).tempdir().expect("make a directory")
}

/// Runs a command to its end, and notes all its output. If it fails, the case fails: a failure behind
/// every translator would prove nothing.
pub(super) fn note(record: &mut Record, command: &mut Command) {
    note_exit(record, command, 0);
}

/// The same for a command that must end with this status.
pub(super) fn note_exit(record: &mut Record, command: &mut Command, code: i32) {
    let outcome = outcome(command);
    assert_eq!(outcome.code(), Some(code), "{command:?}: {outcome}");
    record.line(&outcome.stdout);
    record.line(&outcome.stderr);
}

/// Programs with a just-in-time compiler. Emulation must translate the generated code again and again, and
/// QEMU 7.2 does not always notice a change: Java crashed.
const JUST_IN_TIME: [&str; 2] = ["java", "node"];

/// Whether these programs are installed, and run here. If not, the case is skipped.
pub(super) fn has(record: &mut Record, programs: &[&str]) -> bool {
    if emulated()
        && let Some(program) = programs.iter().find(|program| JUST_IN_TIME.contains(program))
    {
        record.skip(format!("{program} is slow in emulation, and may crash there"));
        return false;
    }
    let missing: Vec<_> =
        programs.iter().copied().filter(|program| installed(program).is_none()).collect();
    if !missing.is_empty() {
        record.skip(format!("not installed: {}", missing.join(", ")));
    }
    missing.is_empty()
}
