//! How connections are ended whose backend left: those of all apps at once, with nobody kept waiting, and
//! wherever their sockets are.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vipnat_testkit::{App, Cgroup, NetNs, Outcome, installed, outcome, patient};

use crate::{
    reconcile::backend_removed::{KILL, connect, db, shop, with_policy, works},
    scene::{DB, PORT, Scene, ip, list, strace},
    sockets::Sockets,
};

/// An apply that ends connections and is stopped there.
struct Ending {
    strace: Child,
    process: Pid,
}

impl Ending {
    /// One that has asked the kernel to end a first connection.
    fn of(scene: &Scene, table: &str) -> Self {
        Self::stopped(scene, table, "sendto", 1).expect("it ends a connection")
    }

    /// One that has made this system call so many times, if it makes that many.
    fn stopped(scene: &Scene, table: &str, call: &str, times: usize) -> Option<Self> {
        let file = scene.vipnat.table(table);
        let log = file.with_file_name("strace");
        let _ = fs::remove_file(&log);
        let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
        let log_name = log.display().to_string();
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:signal=STOP:when={times}");
        let stop = ["-o", &log_name, "-e", &trace, "-e", &inject];
        let mut strace = strace(&apply, &stop);
        strace.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ending =
            Self { strace: strace.spawn().expect("start strace"), process: Pid::from_raw(0) };
        let deadline = Instant::now() + patient(Duration::from_secs(60));
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let stopped = text.lines().find(|line| line.contains("--- stopped by SIGSTOP"));
            if let Some(process) = stopped.and_then(|line| line.split(' ').next()?.parse().ok()) {
                ending.process = Pid::from_raw(process);
                return Some(ending);
            }
            if ending.strace.try_wait().expect("ask for strace").is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "it does not stop:\n{text}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn go_on(mut self) -> Outcome {
        kill(self.process, Signal::SIGCONT).expect("continue vipnat");
        self.process = Pid::from_raw(0);
        let ended = self.strace.wait().expect("wait for strace");
        let read = |pipe: &mut dyn std::io::Read| {
            let mut text = String::new();
            pipe.read_to_string(&mut text).expect("output is UTF-8");
            text
        };
        let stdout = read(self.strace.stdout.as_mut().expect("stdout is piped"));
        let stderr = read(self.strace.stderr.as_mut().expect("stderr is piped"));
        Outcome { status: ended, stdout, stderr }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.process.as_raw() > 0 {
            let _ = kill(self.process, Signal::SIGKILL);
        }
        let _ = self.strace.wait();
    }
}

/// Between the moment in which notes are read and the one in which a connection is ended lies a look at the
/// table, under a lock that another command may have.
#[test]
fn a_udp_socket_that_reconnects_to_the_backend_itself_meanwhile_is_not_ended() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    let mut locks = 0;
    loop {
        scene.vipnat.apply(&shop(&scene, [0], KILL));
        let mut sockets = Sockets::of(&scene.app);
        connect(&mut sockets, "moves", "udp4", &v4, 0);
        connect(&mut sockets, "stays", "udp4", &v4, 0);
        let stopped = Ending::stopped(&scene, &shop(&scene, [1], KILL), "flock", locks + 1);
        let Some(ending) = stopped else {
            break;
        };
        locks += 1;
        assert_eq!(sockets.call(&format!("connect moves {}:{PORT}", ip(0))), "0");
        let applied = ending.go_on();
        assert!(applied.stdout.contains("ended "), "at lock {locks}: {applied}");
        // That it was ended before it reconnected, its next call tells.
        sockets.call("SO_ERROR moves");
        assert!(works(&mut sockets, "moves"), "at lock {locks}: {applied}");
        assert_eq!(sockets.call("recv stays"), "ECONNABORTED");
    }
    assert!(locks > 3, "{locks}");
}

fn apps_of(scene: &Scene, count: usize) -> Vec<App> {
    (0..count).map(|_| App::new(scene.app.host.clone())).collect()
}

/// A table in which each of some apps has a service of its own with these backends.
fn table_of(apps: &[App], backends: &str) -> String {
    let names: Vec<_> = (0..apps.len()).map(|number| format!("app{number}")).collect();
    let apps: Vec<_> = names
        .iter()
        .zip(apps)
        .map(|(name, app)| (name.as_str(), app.cgroup.relative(), backends))
        .collect();
    with_policy(&apps, KILL)
}

#[test]
fn a_container_is_attached_while_an_apply_ends_connections() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    scene.vipnat.apply(&shop(&scene, [0], KILL));
    let mut sockets = Sockets::of(&scene.app);
    connect(&mut sockets, "a", "tcp4", &v4, 0);
    let ending = Ending::of(&scene, &shop(&scene, [1], KILL));
    let container = App::new(scene.app.host.clone());
    let path = container.cgroup.relative();
    // It would wait for the lock until the apply goes on, which it does not.
    let attached = scene.vipnat.ok(["attach", "--app", "shop", "--cgroup", path]);
    assert_eq!(attached, format!("+ app shop in cgroup {path}\n"));
    assert_eq!(container.probe(&format!("tcp {DB}:{PORT}")).banner(), "1");
    let applied = ending.go_on();
    assert!(applied.stdout.contains("ended 1 connection"), "{applied}");
    assert_eq!(sockets.call("recv a"), "ECONNABORTED");
}

#[test]
fn what_another_command_notes_meanwhile_is_kept_and_a_backend_that_is_back_meanwhile_is_spared() {
    let scene = Scene::new(3);
    let apps = apps_of(&scene, 2);
    let (v4, _) = db();
    scene.vipnat.apply(&table_of(&apps, &list([0])));
    let mut first = Sockets::of(&apps[0]);
    let mut second = Sockets::of(&apps[1]);
    connect(&mut first, "a", "tcp4", &v4, 0);
    connect(&mut second, "a", "tcp4", &v4, 0);
    let ending = Ending::of(&scene, &table_of(&apps, &list([1])));
    // What ends first is one of the two; the backend is back for whatever connects now.
    let file = scene.vipnat.table(&table_of(&apps, &list([0])));
    scene.vipnat.ok(["apply".as_ref(), file.as_os_str()]);
    connect(&mut first, "b", "tcp4", &v4, 0);
    let drains = scene.vipnat.beside("drains.json");
    let long = "on-backend-removed = \"drain\"\ndrain-seconds = 600";
    scene.vipnat.apply(&table_of(&apps, &list([2])).replace(KILL, long));
    let noted = fs::read_to_string(&drains).expect("what drains is noted");
    let applied = ending.go_on();
    assert_eq!(applied.code(), Some(0), "{applied}");
    assert!(works(&mut first, "b"), "{applied}");
    assert_eq!(fs::read_to_string(&drains).expect("it is still noted"), noted);
}

#[test]
fn connections_of_all_apps_are_ended_in_the_same_looks_at_all_sockets() {
    const APPS: usize = 8;
    let scene = Scene::new(2);
    let apps = apps_of(&scene, APPS);
    let (v4, _) = db();
    scene.vipnat.apply(&table_of(&apps, &list([0])));
    let mut sockets: Vec<_> = apps.iter().map(Sockets::of).collect();
    for sockets in &mut sockets {
        connect(sockets, "a", "tcp4", &v4, 0);
    }
    let file = scene.vipnat.table(&table_of(&apps, &list([1])));
    let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let log = file.with_file_name("strace");
    let options = ["-o", &log.display().to_string(), "-e", "trace=bpf,sendto"];
    let applied = outcome(&mut strace(&apply, &options));
    assert_eq!(applied.stdout.matches("ended 1 connection").count(), APPS, "{applied}");
    for sockets in &mut sockets {
        assert_eq!(sockets.call("recv a"), "ECONNABORTED");
    }
    let calls = fs::read_to_string(log).expect("read the log of strace");
    let looks = calls.matches("BPF_ITER_CREATE").count();
    assert!((1..=6).contains(&looks), "{looks} looks for {APPS} apps");
    assert_eq!(calls.matches("sendto(").count(), APPS, "nothing but what is to be ended");
}

/// The note of the second departure is like that of the first.
#[test]
fn a_backend_that_leaves_again_meanwhile_is_not_forgotten_with_its_first_departure() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    let (mut locks, mut noted) = (0, 0);
    loop {
        scene.vipnat.apply(&shop(&scene, [0], KILL));
        let mut sockets = Sockets::of(&scene.app);
        connect(&mut sockets, "a", "tcp4", &v4, 0);
        let stopped = Ending::stopped(&scene, &shop(&scene, [1], KILL), "flock", locks + 1);
        let Some(ending) = stopped else {
            break;
        };
        locks += 1;
        let drains = scene.vipnat.beside("drains.json");
        let between =
            drains.exists() && Flock::lock(open(&scene), FlockArg::LockExclusiveNonblock).is_ok();
        if between {
            scene.vipnat.apply(&shop(&scene, [0], KILL));
            connect(&mut sockets, "b", "tcp4", &v4, 0);
            // It notes that, and has no time to end it.
            let file = scene.vipnat.table(&shop(&scene, [1], KILL));
            let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
            let options = ["-e", "trace=sendto", "-e", "inject=sendto:signal=KILL:when=1"];
            let killed = outcome(&mut strace(&apply, &options));
            assert!(!killed.status.success(), "{killed}");
            noted += 1;
        }
        let applied = ending.go_on();
        assert_eq!(applied.code(), Some(0), "{applied}");
        scene.vipnat.apply(&shop(&scene, [1], KILL));
        assert_eq!(sockets.call("recv a"), "ECONNABORTED", "at lock {locks}: {applied}");
        if between {
            assert_eq!(sockets.call("recv b"), "ECONNABORTED", "at lock {locks}: {applied}");
        }
    }
    assert!(noted > 1, "{noted} of {locks}");
}

fn open(scene: &Scene) -> fs::File {
    fs::File::open(scene.vipnat.bpffs()).expect("open the state directory")
}

/// What the kernel has no memory for at one moment it may have at the next.
#[test]
fn what_could_not_be_ended_for_lack_of_memory_is_named_and_the_next_apply_ends_it() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    scene.vipnat.apply(&shop(&scene, [0], KILL));
    let mut sockets = Sockets::of(&scene.app);
    let log = scene.vipnat.table("").with_file_name("strace");
    let log_name = log.display().to_string();
    let traced = |inject: &[&str]| {
        let file = scene.vipnat.table(&shop(&scene, [1], KILL));
        let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
        let options = [&["-o", &log_name, "-e", "trace=bpf"], inject].concat();
        outcome(&mut strace(&apply, &options))
    };
    connect(&mut sockets, "a", "tcp4", &v4, 0);
    let applied = traced(&[]);
    assert!(applied.stdout.contains("ended 1 connection"), "{applied}");
    let calls = fs::read_to_string(&log).expect("read the log of strace");
    let before = calls.lines().take_while(|line| !line.contains("\"list_flows\"")).count();

    scene.vipnat.apply(&shop(&scene, [0], KILL));
    connect(&mut sockets, "b", "tcp4", &v4, 0);
    let applied = traced(&["-e", &format!("inject=bpf:error=ENOMEM:when={}+", before + 1)]);
    assert_eq!(applied.code(), Some(0), "{applied}");
    let says = format!(
        "could not end connections to removed backends of 1 VIP (app \"shop\": db {DB} to {}",
        ip(0)
    );
    assert!(applied.stderr.contains(&says), "{applied}");
    assert!(applied.stderr.contains(&format!("ss --kill dst {}", ip(0))), "{applied}");
    assert!(works(&mut sockets, "b"), "{applied}");
    let printed = scene.vipnat.apply(&shop(&scene, [1], KILL));
    assert_eq!(printed, format!("x shop db {DB}: ended 1 connection to {}\n", ip(0)));
    assert_eq!(sockets.call("recv b"), "ECONNABORTED");
    assert_eq!(scene.vipnat.apply(&shop(&scene, [1], KILL)), "nothing to change\n");
}

/// A client of which each thread goes where it likes: into a cgroup, a network namespace, and back. It says
/// what came of a connect, and later of a read.
const THREADS: &str = r#"
import ctypes, os, socket, sys, threading
cgroup, host, back, to, port = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)

def enter(path):
    with open(path) as file:
        assert libc.setns(file.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())

def client():
    own = "/proc/thread-self/ns/net"
    with open(own) as home:
        if cgroup:
            with open(cgroup + "/cgroup.threads", "w") as threads:
                threads.write(str(threading.get_native_id()))
        enter(host)
        made = socket.create_connection((to, int(port)), 10)
        made.settimeout(60)
        print(made.recv(64).decode().strip(), flush=True)
        if back:
            assert libc.setns(home.fileno(), 0x40000000) == 0
    sys.stdin.readline()
    try:
        made.send(b"?")
        print("answered", made.recv(64).decode().strip(), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)

thread = threading.Thread(target=client)
thread.start()
thread.join()
"#;

struct Threads {
    process: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Threads {
    /// One that is connected from `host`, by a thread in `cgroup`, if any, which then goes back or not.
    fn connected(app: &App, cgroup: Option<&Path>, host: &NetNs, back: bool) -> Self {
        let python = installed("python3").expect("python3 is installed");
        let mut command = app.command(python);
        command.args(["-c", THREADS]);
        command.arg(cgroup.unwrap_or(Path::new(""))).arg(host.path());
        command.args([if back { "back" } else { "" }, DB, &PORT.to_string()]);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start python3");
        let stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut threads = Self { process, stdout };
        assert_eq!(threads.line(), "0");
        threads
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("read from python3");
        line.trim_end().to_owned()
    }

    /// What the connection is good for.
    fn ask(&mut self) -> String {
        writeln!(self.process.stdin.as_mut().expect("stdin is piped")).expect("write to python3");
        self.line()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A cgroup of threads refuses to list processes, and a thread may be in another network namespace than the
/// first one of its process.
#[test]
fn threads_in_a_cgroup_of_threads_and_in_a_namespace_of_their_own_are_found() {
    let scene = Scene::new(2);
    // Goes with the one that it is in.
    let threads = scene.app.cgroup.path().join("threads");
    fs::create_dir(&threads).expect("make a cgroup");
    fs::write(threads.join("cgroup.type"), "threaded").expect("make it one of threads");
    assert!(fs::read_to_string(threads.join("cgroup.procs")).is_err());
    let away = scene.network.host(Ipv4Addr::new(247, 221, 80, 13));
    let relative = format!("{}/threads", scene.app.cgroup.relative());
    let table = |backend| with_policy(&[("shop", &relative, &list([backend]))], KILL);
    scene.vipnat.apply(&table(0));
    let mut client = Threads::connected(&scene.app, Some(&threads), &away, false);
    let printed = scene.vipnat.apply(&table(1));
    let line = format!("x shop db {DB}: ended 1 connection to {}\n", ip(0));
    assert!(printed.ends_with(&line), "{printed}");
    assert_eq!(client.ask(), "ConnectionAbortedError");
}

#[test]
fn a_process_that_left_the_cgroup_is_found_and_a_namespace_without_any_is_named() {
    let scene = Scene::new(2);
    let away = scene.network.host(Ipv4Addr::new(247, 221, 80, 13));
    let elsewhere = Cgroup::new();
    scene.vipnat.apply(&shop(&scene, [0], KILL));
    let mut left = Threads::connected(&scene.app, None, &away, false);
    let pid = left.process.id().to_string();
    fs::write(elsewhere.path().join("cgroup.procs"), pid).expect("move a process");
    let printed = scene.vipnat.apply(&shop(&scene, [1], KILL));
    assert!(printed.contains("ended 1 connection"), "{printed}");
    assert_eq!(left.ask(), "ConnectionAbortedError");
    drop(left);

    scene.vipnat.apply(&shop(&scene, [0], KILL));
    let mut hidden = Threads::connected(&scene.app, None, &away, true);
    let file = scene.vipnat.table(&shop(&scene, [1], KILL));
    let applied = scene.vipnat.run(["apply".as_ref(), file.as_os_str()]);
    let stays = format!(
        "app \"shop\": 1 connection to {} of db {DB} stay: no process that can be seen from here is in",
        ip(0)
    );
    assert!(applied.code() == Some(0) && applied.stderr.contains(&stays), "{applied}");
    assert_eq!(hidden.ask(), "answered 0");
    drop(hidden);

    // As `ip netns` keeps it.
    scene.vipnat.apply(&shop(&scene, [0], KILL));
    let mut hidden = Threads::connected(&scene.app, None, &away, true);
    let name = file.with_file_name("netns");
    fs::write(&name, "").expect("make a file");
    let mut mount = Command::new("sh");
    let apply = scene
        .vipnat
        .command(["apply".as_ref(), scene.vipnat.table(&shop(&scene, [1], KILL)).as_os_str()]);
    // In a mount namespace of its own, that goes with it.
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    mount.args(["-c", script, "sh"]).arg(away.path()).arg(&name);
    mount.arg(apply.get_program()).args(apply.get_args());
    let mut unshared = Command::new("unshare");
    unshared.args(["--mount", "sh"]).args(mount.get_args());
    let applied = outcome(&mut unshared);
    assert!(applied.stdout.contains("ended 1 connection"), "{applied}");
    assert_eq!(hidden.ask(), "ConnectionAbortedError");
}
