//! Finds and enters network namespaces by their numbers.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

use super::sock_diag::Diag;
use crate::kernel::mountinfo;

/// The network namespaces that a search looked for.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    open: HashMap<u32, Diag>,
    /// The reasons why this process cannot enter others, by their numbers.
    closed: HashMap<u32, String>,
    /// The reason why a thread that was asked first did not reveal its namespace.
    hidden: Option<String>,
}

impl Namespaces {
    /// The netlink socket in a namespace.
    ///
    /// # Errors
    ///
    /// The reason why there is none.
    pub(crate) fn way_into(&self, namespace: u32) -> Result<&Diag, String> {
        self.open.get(&namespace).ok_or_else(|| {
            let known = self.closed.get(&namespace).or(self.hidden.as_ref());
            known.cloned().unwrap_or_else(|| {
                format!(
                    "no visible process is in their network namespace \
                     (net:[{namespace}]); only the process that holds them can close them"
                )
            })
        })
    }

    /// Enters those of the wanted namespaces that no call has looked for yet. Returns whether there were any.
    ///
    /// It first asks the threads in these cgroups and below, which are few, and then all threads.
    pub(crate) fn enter(
        &mut self,
        wanted: impl Iterator<Item = u32>,
        cgroups: impl Fn() -> Vec<PathBuf>,
    ) -> bool {
        let is_new =
            |number: &u32| !self.open.contains_key(number) && !self.closed.contains_key(number);
        let mut missing: BTreeSet<u32> = wanted.filter(is_new).collect();
        if missing.is_empty() {
            return false;
        }
        self.visit(Path::new("/proc/thread-self"), &mut missing, true);
        for cgroup in cgroups() {
            if missing.is_empty() {
                return true;
            }
            for thread in threads_in(&cgroup) {
                self.visit(&Path::new("/proc").join(thread), &mut missing, true);
            }
        }
        if !missing.is_empty() {
            self.visit_mounts(&mut missing);
        }
        for process in numbered(Path::new("/proc")) {
            if missing.is_empty() {
                return true;
            }
            for thread in numbered(&process.join("task")) {
                self.visit(&thread, &mut missing, false);
            }
        }
        // Do not look for them again in this search.
        for number in missing {
            if let Err(why) = self.way_into(number) {
                self.closed.insert(number, why);
            }
        }
        true
    }

    /// Enters the namespace of a thread, if it is missing. `likely`: keep the error if the thread hides its
    /// namespace, since that is probably a missing one.
    fn visit(&mut self, thread: &Path, missing: &mut BTreeSet<u32>, likely: bool) {
        let file = thread.join("ns/net");
        match number_of(&file) {
            Ok(Some(number)) if missing.contains(&number) => {
                let who =
                    || format!("process {}", thread.file_name().unwrap_or_default().display());
                self.open(number, &file, who, missing);
            }
            Ok(_) => {}
            Err(error) if is_gone(&error) || !likely => {}
            Err(error) => {
                self.hidden.get_or_insert_with(|| {
                    let thread = thread.file_name().unwrap_or_default().display();
                    closed(&format!("process {thread}"), &error, "CAP_SYS_PTRACE")
                });
            }
        }
    }

    /// Enters missing namespaces that a mount keeps, as `ip netns add` makes them.
    fn visit_mounts(&mut self, missing: &mut BTreeSet<u32>) {
        for mountinfo::Mount { root, point, .. } in mountinfo::read().unwrap_or_default() {
            // The root of such a mount has the form `net:[4026531833]` (`ns_dname` in fs/nsfs.c).
            let number = root.to_str().and_then(number);
            if let Some(number) = number.filter(|number| missing.contains(number)) {
                self.open(number, &point, || point.display().to_string(), missing);
            }
        }
    }

    fn open(
        &mut self,
        number: u32,
        file: &Path,
        who: impl Fn() -> String,
        missing: &mut BTreeSet<u32>,
    ) {
        match File::open(file).and_then(|file| diag_in(number, &file)) {
            Ok(None) => {}
            Ok(Some(diag)) => {
                missing.remove(&number);
                self.open.insert(number, diag);
                self.closed.remove(&number);
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                // Another thread would lead to the same namespace.
                missing.remove(&number);
                self.closed.insert(number, closed(&who(), &error, "CAP_SYS_ADMIN"));
            }
        }
    }
}

fn closed(who: &str, error: &io::Error, missing: &str) -> String {
    format!("the network namespace of {who} is closed ({error}): vipnat lacks {missing}")
}

/// The threads of a cgroup and of all cgroups below it. Each thread has its own cgroup and network
/// namespace, so the threads of one process may differ.
fn threads_in(cgroup: &Path) -> BTreeSet<String> {
    // Every cgroup has this file. A threaded cgroup refuses to read cgroup.procs.
    let listed = fs::read_to_string(cgroup.join("cgroup.threads")).unwrap_or_default();
    let mut threads: BTreeSet<_> = listed.lines().map(str::to_owned).collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            threads.append(&mut threads_in(&entry.path()));
        }
    }
    threads
}

/// The entries of a directory whose names are numbers.
fn numbered(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let numbers =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    numbers.map(|entry| entry.path())
}

/// The number of the namespace that a thread's file `ns/net` links to.
fn number_of(file: &Path) -> io::Result<Option<u32>> {
    Ok(number(&fs::read_link(file)?.to_string_lossy()))
}

/// The number in `net:[4026531833]`.
fn number(link: &str) -> Option<u32> {
    link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Makes a netlink socket in a namespace; `None` if the file leads to another namespace by now.
///
/// A socket stays in the namespace of the thread that made it. So a short-lived thread enters the
/// namespace, which needs CAP_SYS_ADMIN, unless this thread is in it already.
fn diag_in(number: u32, namespace: &File) -> io::Result<Option<Diag>> {
    if namespace.metadata()?.ino() != u64::from(number) {
        return Ok(None);
    }
    if number_of(Path::new("/proc/thread-self/ns/net"))? == Some(number) {
        return Diag::new().map(Some);
    }
    let made = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            Diag::new()
        });
        thread.join()
    });
    made.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked)).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_this_process_is_open_to_it_and_one_that_is_not_there_is_not() {
        let own = number_of(Path::new("/proc/self/ns/net")).unwrap().unwrap();
        let mut namespaces = Namespaces::default();
        assert!(namespaces.enter([own, 1].into_iter(), Vec::new));
        assert!(namespaces.way_into(own).is_ok());
        assert!(namespaces.way_into(1).unwrap_err().contains("net:[1]"));
        assert!(!namespaces.enter([own, 1].into_iter(), Vec::new), "it has looked for them");
        assert!(is_gone(&number_of(Path::new("/proc/0/ns/net")).unwrap_err()));
    }
}
