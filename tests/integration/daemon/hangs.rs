//! Files, file systems, readers and locks that block for ever. SIGTERM ends `run` in any wait, and vipnat
//! waits only for regular files.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{
            net::{UnixDatagram, UnixListener},
            process::ExitStatusExt as _,
        },
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl},
    sys::{
        signal::{SigHandler, Signal, kill, signal},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use vipnat_testkit::{App, Following, patient};

use crate::scene::{DB, PORT, Scene, banner, ip, list, table};

/// The longest time for an action that does not hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A `run` with its output in a place that the test chooses. `Drop` ends it.
struct Run(Child);

impl Run {
    fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("start vipnat run"))
    }

    /// Waits until one of its threads is inside this system call. The first argument of the call is
    /// `descriptor`.
    fn wait_until_inside(&self, call: libc::c_long, descriptor: Option<i32>) {
        let begun = Instant::now();
        let inside = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
            tasks.flatten().any(|task| {
                let text = fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
                let mut fields = text.split(' ');
                let found = fields.next().and_then(|number| number.parse().ok()) == Some(call);
                let first = fields.next().map(|first| first.trim_start_matches("0x"));
                let first = first.and_then(|first| i32::from_str_radix(first, 16).ok());
                found && descriptor.is_none_or(|descriptor| first == Some(descriptor))
            })
        };
        // The thread must stay inside for a while: one visit does not mean that it hangs.
        let mut seen = 0;
        while seen < 10 {
            seen = if inside() { seen + 1 } else { 0 };
            assert!(begun.elapsed() < patient(PATIENCE), "it never waits in system call {call}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends it with SIGTERM.
    fn terminate(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < patient(PATIENCE), "SIGTERM does not end it");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes until the pipe is full, and leaves the descriptor as it was.
fn fill(mut writer: impl io::Write + std::os::fd::AsFd) {
    let flags = OFlag::from_bits_retain(fcntl(&writer, FcntlArg::F_GETFL).unwrap());
    fcntl(&writer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    for length in [4096, 1] {
        while writer.write(&vec![b'.'; length]).is_ok() {}
    }
    fcntl(&writer, FcntlArg::F_SETFL(flags)).unwrap();
}

#[test]
fn what_is_no_file_is_refused_by_every_command_that_reads_one() {
    let scene = Scene::new(0);
    let directory = scene.vipnat.table("").parent().unwrap().to_owned();
    let (fifo, socket) = (directory.join("fifo"), directory.join("socket"));
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    let null = Path::new("/dev/null");
    for (file, kind) in
        [(&*fifo, "a pipe (FIFO)"), (&socket, "a socket"), (null, "a character device")]
    {
        let file = file.to_str().unwrap();
        for arguments in [
            &["check", file][..],
            &["apply", file],
            &["apply", "--dry-run", file],
            &["run", file],
            &["env", file, "--app", "shop"],
            &["export", "iptables", file, "--app", "shop"],
            &["import", "platform", file, "--app", "shop", "--cgroup", "shop"],
            &["import", "iptables", file, "--app", "shop", "--cgroup", "shop"],
            &["exec", "--app", "shop", file, "--", "true"],
        ] {
            let outcome = scene.vipnat.run(arguments);
            assert_eq!(outcome.code(), Some(2), "{arguments:?}: {outcome}");
            let expected = format!("vipnat: {file}: this is {kind}, not a file");
            assert!(outcome.stderr.starts_with(&expected), "{arguments:?}: {outcome}");
        }
    }
    // Standard input may be a file of any kind.
    let mut check = scene.vipnat.command(["check", "-"]);
    let mut check = check.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(scene.table("[]").as_bytes()).unwrap();
    assert!(check.wait().unwrap().success());
}

/// vipnat once waited for a writer when it opened the FIFO, and no signal ended that.
#[test]
fn a_fifo_in_the_place_of_the_table_is_refused_and_the_table_before_it_stays() {
    let scene = Scene::new(2);
    let mut run = scene.vipnat.follow(&scene.table(&list([0])), &[]);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let fifo = file.with_file_name("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    fs::rename(&fifo, &file).unwrap();
    run.wait_for(|line| line.contains("this is a pipe (FIFO), not a file"));
    run.wait_for(|line| line.contains("the previous table stays in force"));
    assert_eq!(scene.who(), "0");
    scene.vipnat.replace_table(&scene.table(&list([1])));
    run.wait_for(|line| line.contains(&ip(1).to_string()));
    run.signal(Signal::SIGTERM);
    assert!(run.ends().success());
}

/// A file that can't be opened for now, as on a file system whose server is gone. The kernel waits for the
/// holder of a lease on it, for 45 seconds (`fs.lease-break-time`).
struct Lease(File);

impl Lease {
    /// Takes a lease on a file that `run` has just got. `run` reads the file first.
    fn take(file: &Path, run: &mut Following) -> Self {
        // SAFETY: no handler. The kernel sends this signal to the holder of a lease.
        unsafe { signal(Signal::SIGIO, SigHandler::SigIgn).unwrap() };
        assert_eq!(run.says_meanwhile(Duration::from_millis(300)), [""; 0]);
        let lease = Self(File::options().read(true).write(true).open(file).unwrap());
        let begun = Instant::now();
        while lease.fcntl(libc::F_SETLEASE, libc::F_WRLCK) != 0 {
            assert!(begun.elapsed() < patient(PATIENCE), "{}", io::Error::last_os_error());
            sleep(Duration::from_millis(20));
        }
        lease
    }

    /// Waits until another process opens the file.
    fn wait_for_a_reader(&self) {
        let begun = Instant::now();
        while self.fcntl(libc::F_GETLEASE, 0) == libc::F_WRLCK {
            assert!(begun.elapsed() < patient(PATIENCE), "nobody opens the file");
            sleep(Duration::from_millis(20));
        }
    }

    fn fcntl(&self, command: libc::c_int, kind: libc::c_int) -> libc::c_int {
        // SAFETY: both commands take or return a number.
        unsafe { libc::fcntl(self.0.as_raw_fd(), command, kind) }
    }
}

#[test]
fn sigterm_ends_a_run_whose_table_cannot_be_opened_for_now() {
    let scene = Scene::new(1);
    let text = scene.table(&list([0]));
    let mut run = scene.vipnat.follow(&text, &[]);
    let lease = Lease::take(&scene.vipnat.table(&text), &mut run);
    run.signal(Signal::SIGHUP);
    lease.wait_for_a_reader();
    run.signal(Signal::SIGTERM);
    assert!(run.ends().success());
    assert_eq!(scene.who(), "0", "translation goes on");
}

/// Only the read of the table hangs.
#[test]
fn containers_are_attached_while_the_table_cannot_be_opened() {
    let scene = Scene::new(1);
    let pattern = format!("{}/shop-*", scene.app.cgroup.relative());
    let text = table(&[("shop", &pattern, &list([0]), "")]);
    let mut run = scene.vipnat.follow(&text, &[]);
    let lease = Lease::take(&scene.vipnat.table(&text), &mut run);
    run.signal(Signal::SIGHUP);
    lease.wait_for_a_reader();
    let container = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-1") };
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    assert_eq!(banner(&container.probe(&format!("tcp {DB}:{PORT}"))), "0");
    // `run` reads the table when it can.
    drop(lease);
    scene.vipnat.replace_table(&text.replace("[apps.shop]", "[apps.blog]\n[apps.shop]"));
    run.wait_for(|line| line.contains("app blog"));
}

#[test]
fn sigterm_ends_a_run_whose_output_nobody_reads() {
    for descriptor in [1, 2] {
        let scene = Scene::new(1);
        let file = scene.vipnat.table(&scene.table(&list([0])));
        let (_reader, writer) = io::pipe().unwrap();
        fill(&writer);
        let mut command = scene.vipnat.command(["run".as_ref(), file.as_os_str()]);
        if descriptor == 1 {
            command.stdout(writer).stderr(Stdio::null());
        } else {
            // vipnat writes problems to standard error.
            scene.vipnat.apply(&scene.table(&list([0])));
            scene.vipnat.table("nonsense");
            command.stdout(Stdio::null()).stderr(writer);
        }
        let mut run = Run::start(command);
        run.wait_until_inside(libc::SYS_write, Some(descriptor));
        let status = run.terminate();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "descriptor {descriptor}");
        assert_eq!(scene.who(), "0", "translation goes on");
    }
}

#[test]
fn sigterm_ends_a_run_whose_service_manager_stands_still() {
    let scene = Scene::new(1);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let socket = file.with_file_name("notify");
    let _manager = UnixDatagram::bind(&socket).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(&socket).unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send(b"STATUS=").is_ok() {}
    let mut command = scene.vipnat.command(["run".as_ref(), file.as_os_str()]);
    command.env("NOTIFY_SOCKET", &socket).stdout(Stdio::null());
    let mut run = Run::start(command);
    run.wait_until_inside(libc::SYS_write, None);
    assert!(run.terminate().success());
    assert_eq!(scene.who(), "0", "translation goes on");
}

#[test]
fn sigterm_ends_a_run_whose_state_another_process_keeps_locked() {
    for (arguments, code) in [(&[][..], 0), (&["--flush-on-exit"], 1)] {
        let scene = Scene::new(1);
        let text = scene.table(&list([0]));
        let mut run = scene.vipnat.follow(&text, arguments);
        let lock = File::open(scene.vipnat.bpffs()).unwrap();
        let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
        run.signal(Signal::SIGHUP);
        run.wait_for(|line| line.contains("waiting for another vipnat"));
        run.signal(Signal::SIGTERM);
        if code == 1 {
            run.wait_for(|line| line.contains("cannot remove everything: waiting for the process"));
        }
        assert_eq!(run.ends().code(), Some(code));
        assert_eq!(scene.who(), "0", "translation goes on");
        drop(lock);
    }
}

/// The thread that had waited for the lock once got it, and kept it for ever.
#[test]
fn a_run_that_flushes_at_its_end_does_so_when_the_lock_it_waited_for_is_free() {
    let scene = Scene::new(1);
    let mut run = scene.vipnat.follow(&scene.table(&list([0])), &["--flush-on-exit"]);
    let lock = File::open(scene.vipnat.bpffs()).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.contains("waiting for another vipnat"));
    run.signal(Signal::SIGTERM);
    run.wait_for(|line| line.contains("stopped while waiting for the process"));
    // Wait until the flush waits for the lock.
    run.wait_for(|line| line.contains("waiting for another vipnat"));
    drop(lock);
    assert_eq!(run.ends().code(), Some(0));
    assert!(!scene.vipnat.bpffs().exists(), "all is removed");
}

/// SIGTERM ends `run` even before it has begun.
#[test]
fn sigterm_ends_a_run_that_cannot_begin() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let lock = File::open(scene.vipnat.bpffs()).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    let mut run = Following::start(scene.vipnat.command(["run".as_ref(), file.as_os_str()]));
    run.wait_for(|line| line.contains("waiting for another vipnat"));
    run.signal(Signal::SIGTERM);
    assert!(run.ends().success());
}
