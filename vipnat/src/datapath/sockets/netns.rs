//! The network namespaces that the processes of cgroups are in.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

use super::diag::Diag;

/// A namespace that was not entered.
#[derive(Debug)]
pub(super) struct Closed {
    /// A process in it.
    pub(super) pid: String,
    /// The capability that would help.
    pub(super) missing: &'static str,
    /// The reason.
    pub(super) error: io::Error,
}

/// A way to the sockets of each network namespace that a process of these cgroups is in, or of those
/// below them. What ends while we look has no sockets either.
pub(super) fn enter(cgroups: &BTreeSet<PathBuf>) -> (Vec<Diag>, Vec<Closed>) {
    let (mut open, mut closed) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    let mut pids = BTreeSet::new();
    cgroups.iter().for_each(|cgroup| processes(cgroup, &mut pids));
    for pid in pids {
        let (missing, error) = match namespace(&pid).and_then(|file| Ok((identity(&file)?, file))) {
            Ok((identity, _)) if !seen.insert(identity) => continue,
            Ok((_, file)) => match diag_in(&file) {
                Ok(diag) => {
                    open.push(diag);
                    continue;
                }
                Err(error) => ("CAP_SYS_ADMIN", error),
            },
            Err(error) if is_gone(&error) => continue,
            Err(error) => ("CAP_SYS_PTRACE", error),
        };
        closed.push(Closed { pid, missing, error });
    }
    (open, closed)
}

/// The processes of a cgroup and of those below it.
fn processes(cgroup: &Path, pids: &mut BTreeSet<String>) {
    // Unreadable in cgroups of threads, whose processes are in a cgroup further up.
    let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(listed.lines().map(str::to_owned));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            processes(&entry.path(), pids);
        }
    }
}

/// The network namespace of a process, by any of its threads: the first one may have ended.
fn namespace(pid: &str) -> io::Result<File> {
    let process = Path::new("/proc").join(pid);
    let first = match File::open(process.join("ns/net")) {
        Err(error) if is_gone(&error) => error,
        other => return other,
    };
    let threads = fs::read_dir(process.join("task"))?.flatten();
    threads.map(|thread| File::open(thread.path().join("ns/net"))).find_map(Result::ok).ok_or(first)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

fn identity(namespace: &File) -> io::Result<(u64, u64)> {
    let metadata = namespace.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A socket belongs to the namespace that its maker was in, so only a thread of its own has to go
/// there, and that only if we are not there already: it needs CAP_SYS_ADMIN.
fn diag_in(namespace: &File) -> io::Result<Diag> {
    if identity(namespace)? == identity(&File::open("/proc/thread-self/ns/net")?)? {
        return Diag::new();
    }
    let made = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            Diag::new()
        });
        thread.join()
    });
    made.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_this_process_is_open_to_it() {
        let own = namespace("self").unwrap();
        assert!(diag_in(&own).is_ok());
        assert!(is_gone(&namespace("0").unwrap_err()));
    }
}
