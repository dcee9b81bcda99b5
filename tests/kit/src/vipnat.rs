//! The program under test.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::{
    Following,
    command::{CommandExt, LIMIT, Outcome, outcome},
    leftovers, mounts,
    programs::program,
    this_machine::patient,
};

/// An instance of vipnat with its own state. `Drop` flushes it and removes what is left of it.
#[derive(Debug)]
pub struct Vipnat {
    binary: PathBuf,
    bpffs: PathBuf,
    files: PathBuf,
}

impl Vipnat {
    /// An instance of the `vipnat` of this workspace (see [`program`]), without any state.
    #[expect(clippy::new_without_default, reason = "stands for kernel state")]
    pub fn new() -> Self {
        Self::named(program("vipnat"), &leftovers::test_name())
    }

    /// An instance of any program that takes the same arguments, with another prefix, whose
    /// leftovers the caller sweeps: see [`sweep`](crate::sweep).
    pub fn with(binary: impl Into<PathBuf>, prefix: &str) -> Self {
        Self::named(binary.into(), &leftovers::unique(prefix))
    }

    fn named(binary: PathBuf, name: &str) -> Self {
        mounts::ensure_bpffs();
        let bpffs = Path::new(mounts::BPFFS).join(name);
        let files = env::temp_dir().join(name);
        fs::create_dir(&files).unwrap_or_else(|error| panic!("make {}: {error}", files.display()));
        Self { binary, bpffs, files }
    }

    /// Its `--bpffs` directory, which the program makes.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// The program, told where its state is.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--bpffs").arg(&self.bpffs).args(arguments);
        // The tests may be a service of the machine's, which this is not to speak for.
        command.env_remove("NOTIFY_SOCKET");
        command
    }

    /// Another build of the program, on the same state: `other-build` has other programs,
    /// `other-layout` other maps as well. Not for `cargo test` alone: `cargo xtask test` builds them.
    pub fn command_of(
        &self,
        build: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        let mut command = Command::new(program(&format!("vipnat-{build}")));
        command.arg("--bpffs").arg(&self.bpffs).args(arguments);
        command
    }

    /// Starts `vipnat run` on a table, and waits until that is applied. The table's file can then be
    /// replaced with [`Vipnat::replace_table`].
    pub fn follow(&self, table: &str, arguments: &[&str]) -> Following {
        let file = self.table(table);
        let mut command = self.command(["run".as_ref(), file.as_os_str()]);
        command.args(arguments);
        let mut following = Following::start(command);
        following.wait_for(|line| line.starts_with("following "));
        following
    }

    /// Puts another table in the place of the file, in one step.
    pub fn replace_table(&self, text: &str) {
        let new = self.files.join("table.new");
        fs::write(&new, text).expect("write the table");
        fs::rename(&new, self.files.join("table.toml")).expect("rename the table");
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        outcome(&mut self.command(arguments))
    }

    /// Runs it, which must succeed; what it printed.
    pub fn ok(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        self.exits(0, arguments).stdout
    }

    /// Applies a table.
    pub fn apply(&self, table: &str) -> String {
        let file = self.table(table);
        self.ok([OsStr::new("apply"), file.as_os_str()])
    }

    /// Applies a table that must be refused with this exit status; what it said.
    pub fn apply_fails(&self, table: &str, code: i32) -> String {
        let file = self.table(table);
        self.exits(code, [OsStr::new("apply"), file.as_os_str()]).stderr
    }

    /// A file with this table, overwritten by the next one.
    pub fn table(&self, text: &str) -> PathBuf {
        let path = self.files.join("table.toml");
        fs::write(&path, text).expect("write the table");
        path
    }

    fn exits(&self, code: i32, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        let mut command = self.command(arguments);
        let outcome = outcome(&mut command);
        assert_eq!(outcome.code(), Some(code), "{command:?}: {outcome}");
        outcome
    }

    /// A file that the program keeps beside its state, by its extension.
    pub fn beside(&self, extension: &str) -> PathBuf {
        let state = self.bpffs.to_string_lossy().trim_matches('/').replace('-', "%2D");
        format!("/run/vipnat/{}.{extension}", state.replace('/', "-")).into()
    }

    /// Flushes, and removes what the program left.
    fn clean_up(&self) -> Result<(), String> {
        let flushed = self.flush();
        // What a `run` that was killed leaves.
        for extension in ["run", "names", "drains.json", "drains.json.unreadable"] {
            let _ = fs::remove_file(self.beside(extension));
        }
        // Unlinking a pin of a link detaches it.
        let removed =
            [&self.bpffs, &self.files].map(|directory| match fs::remove_dir_all(directory) {
                Err(error) if directory.exists() => {
                    Err(format!("remove {}: {error}", directory.display()))
                }
                _ => Ok(()),
            });
        removed.into_iter().fold(flushed, Result::and)
    }

    /// Flushes if there is anything to flush. Unlike [`run`](Self::run) it never panics.
    fn flush(&self) -> Result<(), String> {
        if !self.bpffs.exists() {
            return Ok(());
        }
        match self.command(["flush"]).limited_to(patient(LIMIT)).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                Err(format!("vipnat flush: {}, {stderr}", output.status))
            }
            Err(error) => Err(format!("vipnat flush: {error}")),
        }
    }
}

impl Drop for Vipnat {
    fn drop(&mut self) {
        if let Err(error) = self.clean_up() {
            if thread::panicking() {
                eprintln!("{error}");
            } else {
                panic!("{error}");
            }
        }
    }
}
