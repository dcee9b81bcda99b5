//! Makes faults at system calls of a running process.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::log::{CALLS, Log, Operation};
use crate::{bpf::Info, leftovers};

/// A thread, which has the same place in each process of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thread {
    /// One that was there when strace was attached, by its place among these.
    Old(usize),
    /// One that came later.
    New,
}

/// A running process with strace(1) on it. Dropping it detaches strace.
#[derive(Debug)]
pub struct Attached {
    strace: Child,
    /// strace writes here when it ends.
    _messages: BufReader<ChildStderr>,
    /// The threads that were there at first.
    threads: Vec<String>,
    /// The files of descriptors that were open at first.
    open: HashMap<String, String>,
    files: TempDir,
}

/// The results of a process under strace.
#[derive(Debug)]
pub struct Recorded {
    /// The operations that succeeded, in the order of each thread.
    pub operations: Vec<(Thread, Operation)>,
    /// The operation that the fault hit.
    pub struck: Option<Operation>,
}

impl Attached {
    /// Records the changes of a process, which has this state directory.
    pub fn recording(process: Pid, bpffs: &Path) -> Self {
        Self::start(process, bpffs, None)
    }

    /// Makes a fault at an operation of a thread, such as `signal=KILL` or `error=ENOMEM`.
    ///
    /// strace counts the calls of each thread. If the thread does not exist yet, the fault may hit another
    /// thread instead, at its call of that number.
    pub fn striking(process: Pid, bpffs: &Path, at: &(Thread, Operation), fault: &str) -> Self {
        Self::start(process, bpffs, Some((at, fault)))
    }

    fn start(process: Pid, bpffs: &Path, fault: Option<(&(Thread, Operation), &str)>) -> Self {
        let files = leftovers::temporary();
        let mut threads: Vec<_> = fs::read_dir(format!("/proc/{process}/task"))
            .expect("read the threads of a process")
            .map(|thread| {
                thread.expect("read a thread").file_name().into_string().expect("a number")
            })
            .collect();
        threads.sort_by_key(|thread| thread.parse::<u32>().expect("a number"));
        let open = open_files(process, bpffs);
        let mut strace = Command::new("strace");
        strace.args(["-e", &format!("trace={CALLS}")]);
        let thread = fault.and_then(|((thread, _), _)| match thread {
            Thread::Old(place) => threads.get(*place).cloned(),
            Thread::New => None,
        });
        match &thread {
            Some(thread) => {
                strace.arg("-o").arg(files.path().join(format!("log.{thread}")));
                strace.args(["-p", thread]);
            }
            // One file for each thread.
            None => {
                strace.arg("-ff").arg("-o").arg(files.path().join("log"));
                strace.args(["-p", &process.to_string()]);
            }
        }
        if let Some(((_, operation), fault)) = fault {
            strace.args(["-e", &operation.inject(fault)]);
        }
        let strace = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut strace = strace.expect("start strace");
        let mut messages = BufReader::new(strace.stderr.take().expect("stderr is piped"));
        let mut first = String::new();
        messages.read_line(&mut first).expect("read from strace");
        assert!(first.contains(" attached"), "strace: {first}");
        Self { strace, _messages: messages, threads, open, files }
    }

    /// The operation that the fault hit, if it did.
    pub fn struck(&self) -> Option<Operation> {
        self.read().struck
    }

    /// Ends strace, and gives the results. The process goes on.
    pub fn detach(mut self) -> Recorded {
        self.end();
        self.read()
    }

    fn read(&self) -> Recorded {
        let mut recorded = Recorded { operations: Vec::new(), struck: None };
        let logs = fs::read_dir(self.files.path()).expect("read the logs of strace");
        let mut logs: Vec<_> = logs.map(|log| log.expect("read the logs").path()).collect();
        logs.sort();
        for path in logs {
            let thread = path.extension().expect("the id of a thread").to_string_lossy();
            let place = self.threads.iter().position(|old| *old == thread);
            let thread = place.map_or(Thread::New, Thread::Old);
            let mut log = Log::with_files(self.open.clone());
            let text = fs::read_to_string(&path).expect("read a log of strace");
            // strace may be writing the last line.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            whole.lines().for_each(|line| log.read_line(line));
            recorded.operations.extend(log.operations.into_iter().map(|it| (thread, it)));
            recorded.struck = recorded.struck.or(log.struck);
        }
        recorded
    }

    fn end(&mut self) {
        // strace detaches at SIGTERM.
        let _ = kill(Pid::from_raw(self.strace.id().cast_signed()), Signal::SIGTERM);
        let _ = self.strace.wait();
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.end();
    }
}

/// The paths of open files, and the names of open maps, by descriptor.
fn open_files(process: Pid, bpffs: &Path) -> HashMap<String, String> {
    let pins = fs::read_dir(bpffs.join("maps")).expect("read the pins of maps");
    let pins = pins.map(|pin| pin.expect("read a pin").path()).filter(|pin| !pin.is_dir());
    let name = |pin: &Path| pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let maps: HashMap<_, _> =
        pins.map(|pin| (Info::of(&pin).u32(4).to_string(), name(&pin))).collect();
    let mut open = HashMap::new();
    for fd in fs::read_dir(format!("/proc/{process}/fd")).expect("read the files of a process") {
        let fd = fd.expect("read a descriptor");
        let number = fd.file_name().to_string_lossy().into_owned();
        // Files may be closed meanwhile.
        let about = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}"));
        let about = about.unwrap_or_default();
        let map = about.lines().find_map(|line| line.strip_prefix("map_id:"));
        let file = match map.and_then(|id| maps.get(id.trim())) {
            Some(map) => map.clone(),
            None => fs::read_link(fd.path()).unwrap_or_default().display().to_string(),
        };
        open.insert(number, file);
    }
    open
}
