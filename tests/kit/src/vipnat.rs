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

/// An instance of vipnat with its own state. `Drop` flushes it and removes its leftovers.
#[derive(Debug)]
pub struct Vipnat {
    binary: PathBuf,
    bpffs: PathBuf,
    files: PathBuf,
}

impl Vipnat {
    /// Makes an instance of the `vipnat` of this workspace (see [`program`]), without any state.
    #[expect(clippy::new_without_default, reason = "stands for kernel state")]
    pub fn new() -> Self {
        Self::named(program("vipnat"), &leftovers::test_name())
    }

    /// Makes an instance of any program that takes the same arguments, with another prefix. The caller sweeps
    /// its leftovers: see [`sweep`](crate::sweep).
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

    /// Its state directory, which the program makes.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// A command of the program, with its state directory.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--bpffs").arg(&self.bpffs).args(arguments);
        // The tests may run as a service of the machine, and vipnat must not send notifications for it.
        command.env_remove("NOTIFY_SOCKET");
        command
    }

    /// A command of another build of the program, on the same state.
    ///
    /// `other-build` has other programs, and `other-layout` also has other maps. `cargo xtask test` builds
    /// them, but `cargo test` alone does not.
    pub fn command_of(
        &self,
        build: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        let mut command = Command::new(program(&format!("vipnat-{build}")));
        command.arg("--bpffs").arg(&self.bpffs).args(arguments);
        command
    }

    /// Starts `vipnat run` on a table, and waits until the table is applied. [`Vipnat::replace_table`] then
    /// replaces the table's file.
    pub fn follow(&self, table: &str, arguments: &[&str]) -> Following {
        let file = self.table(table);
        let mut command = self.command(["run".as_ref(), file.as_os_str()]);
        command.args(arguments);
        let mut following = Following::start(command);
        following.wait_for(|line| line.starts_with("following "));
        following
    }

    /// Replaces the table's file with another one, in one step.
    pub fn replace_table(&self, text: &str) {
        let new = self.file("table.new", text);
        fs::rename(&new, self.files.join("table.toml")).expect("rename the table");
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        outcome(&mut self.command(arguments))
    }

    /// Runs the program, which must succeed, and gives its output.
    pub fn ok(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        self.exits(0, arguments).stdout
    }

    /// Applies a table.
    pub fn apply(&self, table: &str) -> String {
        let file = self.table(table);
        self.ok([OsStr::new("apply"), file.as_os_str()])
    }

    /// Applies a table that must be refused with this exit status, and gives the error text.
    pub fn apply_fails(&self, table: &str, code: i32) -> String {
        let file = self.table(table);
        self.exits(code, [OsStr::new("apply"), file.as_os_str()]).stderr
    }

    /// Writes this table to a file. The next table overwrites it.
    pub fn table(&self, text: &str) -> PathBuf {
        self.file("table.toml", text)
    }

    /// Writes a text to a file of this name, beside the table.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        path
    }

    fn exits(&self, code: i32, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        let mut command = self.command(arguments);
        let outcome = outcome(&mut command);
        assert_eq!(outcome.code(), Some(code), "{command:?}: {outcome}");
        outcome
    }

    /// The path of a file that the program keeps for its state in /run/vipnat, by extension.
    pub fn beside(&self, extension: &str) -> PathBuf {
        let state = self.bpffs.to_string_lossy().trim_matches('/').replace('-', "%2D");
        format!("/run/vipnat/{}.{extension}", state.replace('/', "-")).into()
    }

    /// Flushes, and removes the program's leftovers.
    fn clean_up(&self) -> Result<(), String> {
        let flushed = self.flush();
        // A killed `run` leaves these files.
        for extension in ["run", "names", "drains.json", "drains.json.unreadable"] {
            let _ = fs::remove_file(self.beside(extension));
        }
        // Unlinking the pin of a link detaches the link.
        let removed =
            [&self.bpffs, &self.files].map(|directory| match fs::remove_dir_all(directory) {
                Err(error) if directory.exists() => {
                    Err(format!("remove {}: {error}", directory.display()))
                }
                _ => Ok(()),
            });
        removed.into_iter().fold(flushed, Result::and)
    }

    /// Flushes if there is state. Unlike [`run`](Self::run) it never panics.
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
