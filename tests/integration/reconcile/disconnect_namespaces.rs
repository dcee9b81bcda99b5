//! `apply` ends connections in network namespaces of single threads and of processes that left the cgroup.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
};

use vipnat_testkit::{App, Cgroup, NetNs, installed, outcome};

use crate::{
    reconcile::policy::{KILL, shop, with_policy},
    scene::{DB, PORT, Scene, ip, list},
};

/// A client with threads that enter a cgroup and a network namespace, and may go back. It prints the result
/// of a connect, and later of a read.
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
    /// A client whose thread in `cgroup`, if there is one, connects from `host`. With `back`, it then goes
    /// back.
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

    /// Asks over the connection, and returns the result.
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

/// A threaded cgroup refuses to list processes. A thread may be in another network namespace than the first
/// thread of its process.
#[test]
fn threads_in_a_cgroup_of_threads_and_in_a_namespace_of_their_own_are_found() {
    let scene = Scene::new(2);
    // It is removed together with its parent.
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
        "app \"shop\": 1 connection to {} of db {DB} stay: no visible process is in",
        ip(0)
    );
    assert!(applied.code() == Some(0) && applied.stderr.contains(&stays), "{applied}");
    assert_eq!(hidden.ask(), "answered 0");
    drop(hidden);

    // The namespace is kept by a mount, as `ip netns` does it.
    scene.vipnat.apply(&shop(&scene, [0], KILL));
    let mut hidden = Threads::connected(&scene.app, None, &away, true);
    let name = file.with_file_name("netns");
    fs::write(&name, "").expect("make a file");
    let mut mount = Command::new("sh");
    let apply = scene
        .vipnat
        .command(["apply".as_ref(), scene.vipnat.table(&shop(&scene, [1], KILL)).as_os_str()]);
    // The mount ends with its mount namespace.
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    mount.args(["-c", script, "sh"]).arg(away.path()).arg(&name);
    mount.arg(apply.get_program()).args(apply.get_args());
    let mut unshared = Command::new("unshare");
    unshared.args(["--mount", "sh"]).args(mount.get_args());
    let applied = outcome(&mut unshared);
    assert!(applied.stdout.contains("ended 1 connection"), "{applied}");
    assert_eq!(hidden.ask(), "ConnectionAbortedError");
}
