//! Makes faults at system calls of a command: kills it, fails the call, or stops it there.
//!
//! strace(1) injects the faults. So they are real, and also reach the calls of libraries.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{
    command::{CommandExt as _, LIMIT, Outcome, outcome},
    leftovers,
    this_machine::patient,
};

/// The system calls that strace traces.
///
/// Some change state that outlives the process. The others show which file a descriptor stands for. A
/// question mark means that some architectures lack the call.
const CALLS: &str = "bpf,?open,openat,?creat,write,pwrite64,writev,ftruncate,?truncate,\
                     ?mkdir,mkdirat,?rename,?renameat,renameat2,?unlink,unlinkat,?rmdir,\
                     ?link,linkat,?symlink,symlinkat,?chmod,fchmod,fchmodat,flock,mount,umount2";

/// The commands of bpf(2) that only read. Any other command counts as a change.
const READS: [&str; 11] = [
    "BPF_MAP_LOOKUP_ELEM",
    "BPF_MAP_LOOKUP_BATCH",
    "BPF_MAP_GET_NEXT_KEY",
    "BPF_MAP_GET_FD_BY_ID",
    "BPF_PROG_GET_NEXT_ID",
    "BPF_PROG_GET_FD_BY_ID",
    "BPF_LINK_GET_NEXT_ID",
    "BPF_LINK_GET_FD_BY_ID",
    "BPF_OBJ_GET",
    "BPF_OBJ_GET_INFO_BY_FD",
    "BPF_PROG_QUERY",
];

/// A system call that changes something. Its number among the calls of its name decides when a fault comes.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The name of the call, for bpf(2) and flock(2) with the command.
    pub what: String,
    /// The object of the call: a path, or the name of a map or program. Empty if it has none.
    pub object: String,
    /// The name of the call, and its number among the calls of that name.
    ///
    /// strace counts each name separately, and also counts calls that change nothing.
    call: String,
    nth: usize,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, object, call: _, nth: _ } = self;
        write!(f, "{what} {object}")
    }
}

/// The results of a command under strace.
#[derive(Debug)]
pub struct Traced {
    /// The outcome, as without strace.
    pub outcome: Outcome,
    /// The operations that succeeded, in order.
    pub operations: Vec<Operation>,
    /// The operation that the fault hit.
    ///
    /// It may differ from that of an earlier run: for example, the maps of an object are made in the order of
    /// a hash table.
    pub struck: Option<Operation>,
}

/// Runs a command, and records its changes.
pub fn traced(command: &Command) -> Traced {
    run(command, None)
}

/// Runs a command, and kills it at an operation.
///
/// The operation does not happen: a tracee with a deadly signal skips the call (`ptrace_report_syscall_entry`
/// in include/linux/ptrace.h).
///
/// So kills at all operations of a command leave every state that a kill at any moment can leave. The state
/// before an operation is that after the operation before it. The state after the last one is that of a
/// complete run. Calls that only read change nothing in between.
pub fn killed(command: &Command, at: &Operation) -> Traced {
    run(command, Some(&inject(at, "signal=KILL")))
}

/// Runs a command in which an operation fails with this error, and does not happen.
pub fn failed(command: &Command, at: &Operation, error: &str) -> Traced {
    run(command, Some(&inject(at, &format!("error={error}"))))
}

/// The same, but every later call of that name fails too.
pub fn failed_from(command: &Command, at: &Operation, error: &str) -> Traced {
    run(command, Some(&(inject(at, &format!("error={error}")) + "+")))
}

/// A command that is stopped right after an operation. Dropping it ends the command.
#[derive(Debug)]
pub struct Stopped {
    /// `None` once it has ended.
    strace: Option<Child>,
    process: Pid,
    _files: TempDir,
}

impl Stopped {
    /// Runs a command up to an operation. The kernel delivers the stop signal when the call returns.
    pub fn after(command: &Command, operation: &Operation) -> Self {
        let files = files();
        let log = files.path().join("log");
        let strace = strace(command, &log, Some(&inject(operation, "signal=STOP")))
            .limited_to(patient(LIMIT))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start strace");
        // The id of the process is known once strace has written about it.
        let mut stopped = Self { strace: Some(strace), process: Pid::from_raw(0), _files: files };
        let deadline = Instant::now() + patient(LIMIT);
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if let Some(process) = text.lines().find_map(stopped_process) {
                stopped.process = process;
                return stopped;
            }
            assert!(!text.contains("+++"), "{operation} did not come:\n{text}");
            assert!(Instant::now() < deadline, "{operation} does not come:\n{text}");
            sleep(Duration::from_millis(2));
        }
    }

    /// The stopped process.
    pub fn process(&self) -> Pid {
        self.process
    }

    /// Lets it run to its end.
    pub fn resume(mut self) -> Outcome {
        kill(self.process, Signal::SIGCONT).expect("continue the stopped process");
        let strace = self.strace.take().expect("it has not ended");
        Outcome::from(strace.wait_with_output().expect("wait for strace"))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(mut strace) = self.strace.take() {
            if self.process.as_raw() > 0 {
                let _ = kill(self.process, Signal::SIGKILL);
            }
            // strace ends with its tracee. If it has none yet, the kill ends it.
            let _ = strace.kill();
            let _ = strace.wait();
        }
    }
}

fn stopped_process(line: &str) -> Option<Pid> {
    let (process, what) = line.split_once(' ')?;
    what.trim_start().starts_with("--- stopped by SIGSTOP").then_some(())?;
    process.parse().ok().map(Pid::from_raw)
}

fn run(command: &Command, injection: Option<&str>) -> Traced {
    let files = files();
    let log = files.path().join("log");
    let outcome = outcome(&mut strace(command, &log, injection));
    let text = fs::read_to_string(&log).expect("read the log of strace");
    let Log { operations, struck, .. } = Log::of(&text);
    Traced { outcome, operations, struck }
}

/// A directory for the log of strace.
fn files() -> TempDir {
    tempfile::Builder::new()
        .prefix(&leftovers::test_name())
        .rand_bytes(0)
        .tempdir()
        .expect("make a directory")
}

fn strace(command: &Command, log: &Path, injection: Option<&str>) -> Command {
    let mut strace = Command::new("strace");
    // Without --seccomp-bpf: with it, strace 6.1 injects nothing.
    strace.arg("-f").arg("-o").arg(log).args(["-e", &format!("trace={CALLS}")]);
    strace.args(injection.into_iter().flat_map(|injection| ["-e", injection]));
    strace.arg(command.get_program()).args(command.get_args());
    strace
}

fn inject(at: &Operation, fault: &str) -> String {
    let Operation { call, nth, what: _, object: _ } = at;
    format!("inject={call}:{fault}:when={nth}")
}

/// The state while reading a log of strace.
#[derive(Default)]
struct Log {
    calls: HashMap<String, usize>,
    /// The files of descriptors.
    files: HashMap<String, String>,
    operations: Vec<Operation>,
    struck: Option<Operation>,
}

impl Log {
    fn of(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            // Skips lines about signals and about the end of the process.
            let line = line.split_once(' ').map_or("", |(_process, line)| line.trim_start());
            if line.starts_with(|c: char| c.is_ascii_lowercase()) {
                log.read(line).unwrap_or_else(|| panic!("no line of strace: {line}"));
            }
        }
        log
    }

    /// Reads a line such as `mkdir("/a", 0700) = 0`.
    fn read(&mut self, line: &str) -> Option<()> {
        // A call that was killed is unfinished too, if strace writes more about it when it ends.
        let interrupted = line.contains("<unfinished") && !line.ends_with("= ?");
        assert!(!interrupted, "more than one process: {line}");
        let (call, rest) = line.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let nth = self.calls.entry(call.to_owned()).or_default();
        *nth += 1;
        let nth = *nth;
        let killed = result.starts_with('?');
        let struck = killed || result.ends_with("(INJECTED)");
        let object = self.object(call, arguments);
        let mut words = arguments.split([',', ')']).map(str::trim);
        let what = match call {
            "bpf" => format!("bpf {}", words.next()?),
            "flock" => format!("flock {}", words.nth(1)?),
            _ => call.to_owned(),
        };
        if ["open", "openat", "bpf"].contains(&call) {
            self.files.insert(result.to_owned(), object.clone());
        }
        let changes = match call {
            "bpf" => !READS.iter().any(|read| what == format!("bpf {read}")),
            "open" | "openat" => arguments.contains("O_CREAT") || arguments.contains("O_TRUNC"),
            _ => true,
        };
        let operation = Operation { what, object, call: call.to_owned(), nth };
        if struck {
            self.struck.get_or_insert(operation);
        } else if changes && !result.starts_with('-') {
            self.operations.push(operation);
        }
        Some(())
    }

    /// The object of a call. For rename(2), the file that is renamed.
    fn object(&self, call: &str, arguments: &str) -> String {
        let field = |name: &str| {
            let (_, value) = arguments.split_once(&format!("{name}="))?;
            value.split([',', '}', ')']).next()
        };
        let quoted = |text: &str| text.split('"').nth(1).unwrap_or_default().to_owned();
        if call == "bpf" {
            let name = ["pathname", "map_name", "prog_name"].into_iter().find_map(field);
            let fd = || ["map_fd", "prog_fd", "outer_map_fd"].into_iter().find_map(field);
            let of_fd = || self.files.get(fd()?)?.rsplit('/').next().map(str::to_owned);
            return name.map(quoted).or_else(of_fd).unwrap_or_default();
        }
        let first = arguments.split(',').next().unwrap_or_default();
        if first.starts_with('"') || first == "AT_FDCWD" {
            return quoted(arguments);
        }
        let file = self.files.get(first).cloned().unwrap_or_default();
        // The arguments are a directory, and a name in it.
        let at = call.ends_with("at") || call == "renameat2";
        if at { PathBuf::from(file).join(quoted(arguments)).display().to_string() } else { file }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read() {
        let log = r#"7 openat(AT_FDCWD, "/a", O_RDONLY|O_DIRECTORY) = 3
7 flock(3, LOCK_EX|LOCK_NB) = 0
7 mkdir("/b", 0777) = -1 EEXIST (File exists)
7 mkdir("/c", 0777) = 0
7 bpf(BPF_OBJ_GET, {pathname="/a/vips", bpf_fd=0, file_flags=0}, 152) = 5
7 bpf(BPF_MAP_UPDATE_ELEM, {map_fd=5, key=0x7ffe, value=0x7ffe, flags=BPF_ANY}, 152) = 0
7 openat(3, "d", O_RDONLY|O_DIRECTORY) = 4
7 unlinkat(4, "e", 0) = 0
7 --- SIGCONT {si_signo=SIGCONT} ---
7 unlinkat(4, "f", 0) = ?
7 +++ killed by SIGKILL +++
"#;
        let Log { operations, struck, .. } = Log::of(log);
        assert_eq!(struck.unwrap().to_string(), "unlinkat /a/d/f");
        let seen: Vec<_> =
            operations.iter().map(|it| (it.to_string(), it.call.as_str(), it.nth)).collect();
        let expected = [
            ("flock LOCK_EX|LOCK_NB /a", "flock", 1),
            ("mkdir /c", "mkdir", 2),
            ("bpf BPF_MAP_UPDATE_ELEM vips", "bpf", 2),
            ("unlinkat /a/d/e", "unlinkat", 1),
        ];
        assert_eq!(seen, expected.map(|(what, call, nth)| (what.to_owned(), call, nth)));
    }

    #[test]
    fn an_injected_error_is_told_from_one_that_came_by_itself() {
        let log = "7 mkdir(\"/b\", 0777) = -1 EEXIST (File exists)\n\
                   7 mkdir(\"/c\", 0777) = -1 ENOMEM (Cannot allocate memory) (INJECTED)\n";
        let Log { operations, struck, .. } = Log::of(log);
        assert!(operations.is_empty());
        assert_eq!(struck.unwrap().to_string(), "mkdir /c");
    }

    #[test]
    fn the_process_that_stops_is_found() {
        assert_eq!(stopped_process("12 --- stopped by SIGSTOP ---"), Some(Pid::from_raw(12)));
        assert_eq!(stopped_process("12 --- SIGSTOP {si_signo=SIGSTOP} ---"), None);
    }
}
