//! The log of strace: the operations of a process, and the one that a fault hit.

use std::{collections::HashMap, fmt, path::PathBuf};

/// The system calls that strace traces.
///
/// Some change state that outlives the process. The others show which file a descriptor stands for. A
/// question mark means that some architectures lack the call.
pub(crate) const CALLS: &str = "bpf,?open,openat,?creat,write,pwrite64,writev,ftruncate,?truncate,\
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

impl Operation {
    /// The option of strace that makes a fault at it.
    pub(crate) fn inject(&self, fault: &str) -> String {
        let Self { call, nth, what: _, object: _ } = self;
        format!("inject={call}:{fault}:when={nth}")
    }
}

/// The state while reading a log of strace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    calls: HashMap<String, usize>,
    /// The files of descriptors.
    files: HashMap<String, String>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) struck: Option<Operation>,
}

impl Log {
    /// The log of a process that has these files already.
    pub(crate) fn with_files(files: HashMap<String, String>) -> Self {
        Self { files, ..Self::default() }
    }

    /// Reads a log with the id of the process in each line.
    pub(crate) fn of(text: &str) -> Self {
        let mut log = Self::default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.for_each(|(_process, line)| log.read_line(line.trim_start()));
        log
    }

    /// Reads a line. Skips those about signals, the end of the process, and the end of strace.
    pub(crate) fn read_line(&mut self, line: &str) {
        if line.starts_with(|c: char| c.is_ascii_lowercase()) && !line.ends_with("<detached ...>") {
            self.read(line).unwrap_or_else(|| panic!("no line of strace: {line}"));
        }
    }

    /// Reads a line such as `mkdir("/a", 0700) = 0`.
    fn read(&mut self, line: &str) -> Option<()> {
        // A call that was killed is unfinished too, if strace writes more about it when it ends.
        let interrupted = line.contains("<unfinished") && !line.ends_with("= ?");
        assert!(!interrupted, "more than one thread: {line}");
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
}
