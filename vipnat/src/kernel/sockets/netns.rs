//! Ways into network namespaces, by their numbers.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::kernel::sockets::sock_diag::Diag;

/// The network namespaces that were looked for.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    open: HashMap<u32, Diag>,
    /// Why others are closed.
    closed: HashMap<u32, String>,
    /// Why threads that were asked first did not tell where they are.
    hidden: Option<String>,
}

impl Namespaces {
    /// The way into one.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn way_into(&self, namespace: u32) -> Result<&Diag, String> {
        self.open.get(&namespace).ok_or_else(|| {
            let known = self.closed.get(&namespace).or(self.hidden.as_ref());
            known.cloned().unwrap_or_else(|| {
                format!(
                    "no process that can be seen from here is in their network namespace \
                     (net:[{namespace}]); whichever holds them has to close them"
                )
            })
        })
    }

    /// Enters those of these that were not looked for yet. Returns whether there were any. First it asks
    /// the threads of these cgroups and of those below, which are few; then all there are.
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
        // Never again in this search: what is not there is not there.
        for number in missing {
            if let Err(why) = self.way_into(number) {
                self.closed.insert(number, why);
            }
        }
        true
    }

    /// Enters the namespace of a thread, if it is missing. `likely`: that it should be told if it is not known
    /// whether it is.
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

    /// The same for what is kept without a process, as by `ip netns add`.
    fn visit_mounts(&mut self, missing: &mut BTreeSet<u32>) {
        let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
        for line in String::from_utf8_lossy(&mounts).lines() {
            // Its root is what a link to it reads as (`proc(5)`, `ns_dname` in fs/nsfs.c).
            let mut fields = line.split(' ').skip(3);
            let (Some(root), Some(point)) = (fields.next(), fields.next()) else {
                continue;
            };
            if let Some(number) = number(root).filter(|number| missing.contains(number)) {
                self.open(number, Path::new(point), || point.to_owned(), missing);
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
                // Another thread's is the same one.
                missing.remove(&number);
                self.closed.insert(number, closed(&who(), &error, "CAP_SYS_ADMIN"));
            }
        }
    }
}

fn closed(who: &str, error: &io::Error, missing: &str) -> String {
    format!("the network namespace of {who} is closed ({error}): vipnat lacks {missing}")
}

/// The threads of a cgroup and of those below it. Threads have cgroups and network namespaces, and those
/// of one process need not have the same.
fn threads_in(cgroup: &Path) -> BTreeSet<String> {
    // Unlike cgroup.procs, which a cgroup of threads refuses, every cgroup has it.
    let listed = fs::read_to_string(cgroup.join("cgroup.threads")).unwrap_or_default();
    let mut threads: BTreeSet<_> = listed.lines().map(str::to_owned).collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            threads.append(&mut threads_in(&entry.path()));
        }
    }
    threads
}

/// The directories in one whose names are numbers.
fn numbered(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let numbers =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    numbers.map(|entry| entry.path())
}

/// The number of the namespace that a file of a thread stands for.
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

/// A socket belongs to the namespace that its maker was in, so only a thread of its own has to go
/// there, and that only if we are not there already: it needs CAP_SYS_ADMIN. `None` if the file stands for
/// another one by now.
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
