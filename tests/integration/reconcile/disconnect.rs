//! `apply` ends the connections of all apps to removed backends together, without delaying other commands.

use std::{
    fs,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vipnat_testkit::{App, Outcome, outcome, patient};

use crate::{
    reconcile::policy::{KILL, connect, db, shop, with_policy, works},
    scene::{DB, PORT, Scene, ip, list, strace},
    sockets::Sockets,
};

/// An apply that is stopped while it ends connections.
struct Ending {
    strace: Child,
    process: Pid,
}

impl Ending {
    /// An apply that has asked the kernel to end a first connection.
    fn of(scene: &Scene, table: &str) -> Self {
        Self::stopped(scene, table, "sendto", 1).expect("it ends a connection")
    }

    /// An apply that has made this system call this number of times; `None` if it makes fewer.
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

/// After vipnat reads the records, and before it ends a connection, it looks at the table. It needs a lock
/// for that, which another command may have.
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
        // If vipnat ended it before it reconnected, its next call returns the error.
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
    // If the apply held the lock, `attach` would wait until the apply goes on, which it does not.
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
    // The stopped apply ends one of the two connections first. New connections may use the backend again.
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

/// The pending disconnect of the second removal looks like that of the first.
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
            // It notes the removal, and has no time to end the connection.
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

/// The kernel may have no memory at one moment, and enough at the next.
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
    let before = calls.lines().take_while(|line| !line.contains("\"list_conns\"")).count();

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
