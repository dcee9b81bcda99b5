//! The root of a container that tries to break out.
//!
//! It tries to turn translation off, to read the state of other apps, and to leave its cgroup. It prints the
//! kernel's answers, one [`Attempt`] a line.
//!
//! As the machine's root, the same program succeeds, and translation is then off. So each failure in a
//! container is due to the container.

mod bpf;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{self, Command},
};

use clap::Parser;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns},
    sys::wait::waitpid,
    unistd::Pid,
};
use vipnat_testkit::intrusion::Attempt;

use crate::bpf::Kind;

#[derive(Parser)]
#[command(about = "Tries what a container must not do, and prints what the kernel said")]
struct Intruder {
    /// The state directory.
    #[arg(long)]
    state: PathBuf,
    /// The file with the names of relationships.
    #[arg(long)]
    record: PathBuf,
    /// The cgroup of the container.
    #[arg(long)]
    cgroup: PathBuf,
    /// The cgroup of another app, as the machine sees it.
    #[arg(long)]
    other: PathBuf,
    /// The id of a process outside the container.
    #[arg(long)]
    outside: u32,
    /// Two directories on which to mount file systems.
    #[arg(long, num_args = 2)]
    mount: Vec<PathBuf>,
    /// The vipnat program.
    #[arg(long)]
    vipnat: PathBuf,
    /// The ids of maps, as far as the state directory has them.
    #[arg(long)]
    map: Vec<u32>,
    /// The ids of programs.
    #[arg(long)]
    program: Vec<u32>,
    /// The ids of links.
    #[arg(long)]
    link: Vec<u32>,
    /// Pins, relative to the state directory.
    pins: Vec<PathBuf>,
}

fn main() {
    let intruder = Intruder::parse();
    intruder.look();
    intruder.open();
    intruder.mount();
    intruder.leave();
    intruder.attach();
    // This comes last: if it succeeds, no state is left to try.
    intruder.destroy();
}

impl Intruder {
    fn look(&self) {
        say("list", &self.state, fs::read_dir(&self.state).map(drop));
        say("read", &self.record, fs::read(&self.record).map(drop));
    }

    fn open(&self) {
        for pin in &self.pins {
            say("open-pin", pin, bpf::open_pin(&self.state.join(pin)).map(drop));
        }
        for (kind, name, ids) in self.kinds() {
            say("first-id", name, bpf::first_id(kind));
            for id in ids {
                say("open-id", format!("{name} {id}"), bpf::open_id(kind, *id).map(drop));
            }
        }
    }

    fn kinds(&self) -> [(Kind, &'static str, &[u32]); 3] {
        [
            (Kind::Map, "map", &self.map),
            (Kind::Program, "program", &self.program),
            (Kind::Link, "link", &self.link),
        ]
    }

    /// Mounts file systems of its own. The container may do so, but must see no state in them.
    fn mount(&self) {
        let [bpffs, cgroups] = &self.mount[..] else { unreachable!("two arguments") };
        let mounted = |kind: &str, on: &Path| {
            let none = None::<&str>;
            mount(Some("none"), on, Some(kind), MsFlags::empty(), none)
        };
        let found = mounted("bpf", bpffs).map_err(io::Error::from).and_then(|()| {
            let entries = fs::read_dir(bpffs)?.collect::<io::Result<Vec<_>>>()?;
            let ours = self.state.file_name().expect("a name");
            Ok(entries.iter().any(|entry| entry.file_name() == ours))
        });
        say_found("mount-bpffs", bpffs, found);
        say("token", bpffs, File::open(bpffs).and_then(|bpffs| bpf::token(&bpffs)));

        let found = mounted("cgroup2", cgroups).map_err(io::Error::from).map(|()| {
            // From here, the root is the container's own cgroup. The cgroup of the other app must not be
            // below it.
            cgroups.join(self.other.file_name().expect("a name")).exists()
        });
        say_found("mount-cgroup2", cgroups, found);
    }

    /// Tries to leave its cgroup, and to enter other namespaces.
    fn leave(&self) {
        let root = self.other.parent().expect("a cgroup above");
        // In a container, one of these may name the container's own cgroup.
        let others = [&self.other, root].into_iter().filter(|cgroup| *cgroup != self.cgroup);
        for cgroup in others {
            let join = |cgroup: &Path| {
                let mut procs = OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?;
                procs.write_all(b"0")
            };
            // Moves back as well, for the attempts that follow.
            say("move", cgroup, join(cgroup).and_then(|()| join(&self.cgroup)));
            say("fork-into", cgroup, File::open(cgroup).and_then(|cgroup| fork_into(&cgroup)));
        }
        for namespace in ["net", "mnt", "cgroup"] {
            let outside = format!("/proc/{}/ns/{namespace}", self.outside);
            let enter = || {
                let own = File::open(format!("/proc/self/ns/{namespace}"))?;
                setns(File::open(&outside)?, CloneFlags::empty())?;
                Ok(setns(own, CloneFlags::empty())?)
            };
            say("enter", &outside, enter());
        }
    }

    fn attach(&self) {
        say("make", "map", bpf::create_map());
        let with_program = |attach: fn(&File, &OwnedFd) -> io::Result<()>| {
            let program = bpf::load()?;
            attach(&File::open(&self.cgroup)?, &program)
        };
        say("attach", &self.cgroup, with_program(bpf::attach));
        say("attach-link", &self.cgroup, with_program(bpf::link));
    }

    fn destroy(&self) {
        say("query", &self.cgroup, File::open(&self.cgroup).and_then(|dir| bpf::query(&dir)));
        say("detach", &self.cgroup, File::open(&self.cgroup).and_then(|dir| bpf::detach(&dir)));
        for id in &self.link {
            let detached = bpf::open_id(Kind::Link, *id).and_then(|link| bpf::detach_link(&link));
            say("detach-link", format!("link {id}"), detached);
        }
        for pin in &self.pins {
            say("unlink", pin, fs::remove_file(self.state.join(pin)));
        }
        let aside = self.state.with_file_name("aside");
        say("rename", &self.state, fs::rename(&self.state, &aside));
        let _ = fs::rename(&aside, &self.state);
        let mut flush = Command::new(&self.vipnat);
        let flush = flush.arg("--bpffs").arg(&self.state).arg("flush").output();
        say_result("run", "vipnat flush", flush.map(|output| output.status.to_string()));
    }
}

/// Starts a child inside a cgroup. The child ends at once.
fn fork_into(cgroup: &File) -> io::Result<()> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // `struct clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, …, cgroup
    let mut arguments = [0_u64; 11];
    arguments[0] = CLONE_INTO_CGROUP;
    arguments[4] = libc::SIGCHLD as u64;
    arguments[10] = cgroup.as_raw_fd() as u64;
    // SAFETY: this program has one thread, so the child may run any code.
    let child =
        unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
    match Errno::result(child)? {
        0 => process::exit(0),
        child => Ok(waitpid(Pid::from_raw(child as i32), None).map(drop)?),
    }
}

fn say(what: &str, on: impl AsRef<Path>, result: io::Result<()>) {
    say_result(what, on, result.map(|()| "OK".to_owned()));
}

fn say_found(what: &str, on: impl AsRef<Path>, result: io::Result<bool>) {
    let found = |found| if found { "found it" } else { "nothing in it" }.to_owned();
    say_result(what, on, result.map(found));
}

fn say_result(what: &str, on: impl AsRef<Path>, result: io::Result<String>) {
    let said = result.unwrap_or_else(|error| match error.raw_os_error() {
        Some(number) => format!("{:?}", Errno::from_raw(number)),
        None => error.to_string(),
    });
    let on = on.as_ref().display().to_string();
    let attempt = Attempt { what: what.to_owned(), on, said };
    println!("{}", serde_json::to_string(&attempt).expect("an attempt is JSON"));
}
