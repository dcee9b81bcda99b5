//! Tests the fixtures themselves, without vipnat: the properties on which other tests rely.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::{fd::AsRawFd, unix::process::ExitStatusExt},
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use vipnat_testkit::{
    App, Backend, Cgroup, CommandExt, NetNs, Network, Report, Server, Vipnat, outcome, panics,
    probe::Listening, program, sweep,
};

const CLIENT: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(247, 221, 80, 48);
const SERVICE: SocketAddrV4 = SocketAddrV4::new(SERVER, 5432);
/// An address that no host has.
const NOBODY: &str = "169.254.37.209:5432";

/// An app and a backend on two hosts.
fn client_and_server() -> (Network, App, Backend) {
    let network = Network::new();
    let app = App::new(network.host(CLIENT));
    let backend = Backend::start(&network.host(SERVER), SERVICE, "postgres-1");
    (network, app, backend)
}

/// Asserts that this reports a connection to [`SERVICE`], from any port of the client.
fn good(report: &Report, mapped: bool) {
    let (local, peer) = if mapped {
        ("[::ffff:240.0.0.10]:", "[::ffff:247.221.80.48]:5432")
    } else {
        ("240.0.0.10:", "247.221.80.48:5432")
    };
    assert!(report.local.as_ref().is_some_and(|seen| seen.starts_with(local)), "{report:?}");
    let expected = Report {
        ok: true,
        banner: Some("postgres-1".into()),
        peer: Some(peer.into()),
        local: report.local.clone(),
        attempts: report.attempts.clone(),
        ..Report::default()
    };
    assert_eq!(*report, expected);
}

/// A process that only sleeps, for a minute or until it is killed.
fn sleeper(cgroup: &Cgroup) -> Child {
    Command::new("sleep").arg("60").in_cgroup(cgroup).spawn().expect("start sleep")
}

#[test]
fn a_host_reaches_its_own_addresses() {
    let host = NetNs::new();
    let vip = Ipv4Addr::new(169, 254, 37, 209);
    for address in [SERVER, vip] {
        host.add_address(address);
    }
    let _postgres = Backend::start(&host, SERVICE, "postgres-1");
    let _other = Backend::start(&host, SocketAddrV4::new(vip, 80), "other");
    let app = App::new(host);
    for (to, banner) in [("247.221.80.48:5432", "postgres-1"), ("169.254.37.209:80", "other")] {
        let report = app.probe(&format!("tcp {to}"));
        assert_eq!((report.ok, report.banner(), report.peer()), (true, banner, to));
    }
}

#[test]
fn every_way_to_connect_crosses_the_network() {
    let (_network, app, backend) = client_and_server();
    for way in ["tcp", "fastopen", "nonblocking", "udp"] {
        good(&app.probe(&format!("{way} {SERVICE}")), false);
        good(&app.probe(&format!("{way} {SERVICE} --mapped")), true);
    }
    assert_eq!((backend.connections(), backend.datagrams()), (6, 2));
    assert!(backend.clients().iter().all(|client| client.ip() == CLIENT));
}

#[test]
fn there_is_no_way_out() {
    let (_network, app, _backend) = client_and_server();
    let routes = outcome(app.command("ip").args(["-4", "route", "show"])).stdout;
    assert_eq!(routes.trim(), "240.0.0.0/4 dev eth0 scope link src 240.0.0.10");
    for way in ["tcp", "tcp --mapped", "udp", "nonblocking"] {
        let report = app.probe(&format!("{way} {NOBODY}"));
        assert_eq!((report.call.as_deref(), report.error()), (Some("connect"), "ENETUNREACH"));
        assert_eq!((report.ok, report.errno), (false, Some(101)), "{report:?}");
    }
}

#[test]
fn a_refused_connection_is_reported() {
    let (_network, app, _backend) = client_and_server();
    let closed = "247.221.80.48:1";
    let report = app.probe(&format!("tcp {closed}"));
    assert_eq!((report.call.as_deref(), report.error()), (Some("connect"), "ECONNREFUSED"));

    let report = app.probe(&format!("nonblocking {closed}"));
    assert_eq!(report.error(), "ECONNREFUSED", "{report:?}");

    let report = app.probe(&format!("udp {closed}"));
    assert_eq!((report.call.as_deref(), report.error()), (Some("recv"), "ECONNREFUSED"));
    assert_eq!(report.peer(), closed);
}

#[test]
fn nonblocking_calls_connect_twice() {
    let (_network, app, _backend) = client_and_server();
    let report = app.probe(&format!("nonblocking {SERVICE}"));
    good(&report, false);
    let [first, second] = &report.attempts[..] else { panic!("{report:?}") };
    assert_eq!(first, "EINPROGRESS");
    assert!(["EALREADY", "EISCONN", "OK"].contains(&second.as_str()), "{second}");
}

#[test]
fn fastopen_sends_data_with_the_syn_once_it_has_a_cookie() {
    let network = Network::new();
    let app = App::new(network.host(CLIENT));
    let server = network.host(SERVER);
    let _backend = Backend::start(&server, SERVICE, "postgres-1");
    for expected in [0, 1] {
        good(&app.probe(&format!("fastopen {SERVICE}")), false);
        assert_eq!(tcp_counter(&server, "TCPFastOpenPassive"), expected);
    }
}

/// A counter of /proc/net/netstat, which has a line of names and a line of values.
fn tcp_counter(host: &NetNs, name: &str) -> u64 {
    let text = host.run(|| fs::read_to_string("/proc/thread-self/net/netstat").unwrap());
    let [names, values] = [0, 1].map(|line| text.lines().nth(line).unwrap().split(' '));
    names.zip(values).find(|(seen, _)| *seen == name).unwrap().1.parse().unwrap()
}

#[test]
fn each_of_many_connections_is_reported_and_counted() {
    let (_network, app, backend) = client_and_server();
    let reports = app.probes(&format!("tcp {SERVICE} --count 50 --threads 4"));
    assert_eq!(reports.len(), 200);
    reports.iter().for_each(|report| good(report, false));
    assert_eq!(backend.connections(), 200);
}

#[test]
fn one_socket_connects_again() {
    let (network, app, _backend) = client_and_server();
    let other = SocketAddrV4::new(Ipv4Addr::new(247, 221, 80, 52), 5432);
    let _other = Backend::start(&network.host(*other.ip()), other, "postgres-2");

    let reports = app.probes(&format!("reconnect {SERVICE} {other} --udp"));
    let seen: Vec<_> = reports.iter().map(Report::banner).collect();
    assert_eq!(seen, ["postgres-1", "postgres-2"]);

    for kind in ["", "--udp", "--mapped", "--udp --mapped"] {
        let reports = app.probes(&format!("reconnect {SERVICE} {other} --unspec {kind}"));
        let seen: Vec<_> = reports.iter().map(Report::banner).collect();
        assert_eq!(seen, ["postgres-1", "", "postgres-2"], "{kind} {reports:?}");
        assert!(reports.iter().all(|report| report.ok), "{kind} {reports:?}");
        assert_eq!(reports[1].peer(), "", "{kind}: still connected");
    }

    let reports = app.probes(&format!("reconnect 247.221.80.48:1 {other}"));
    assert_eq!((reports[0].error(), reports[1].banner()), ("ECONNREFUSED", "postgres-2"));

    let reports = app.probes(&format!("reconnect {SERVICE} {other}"));
    assert_eq!((reports[0].ok, reports[1].error()), (true, "EISCONN"));
}

#[test]
fn accept_reports_the_client() {
    let (network, app, _backend) = client_and_server();
    let server = App::new(network.host(Ipv4Addr::new(240, 0, 0, 11)));
    let mut accept = server
        .command(program("probe"))
        .args(["accept", "240.0.0.11:0"])
        .limited_to(Duration::from_secs(30))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(accept.stdout.take().unwrap()).lines();
    let Listening { listening } = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();

    let client = app.probe(&format!("tcp {listening}"));
    assert_eq!((client.peer(), client.banner()), (listening.as_str(), "accepted"));

    let server = Report::parse(&lines.next().unwrap().unwrap());
    assert!(server.ok, "{server:?}");
    assert_eq!((&server.accepted, &server.peer), (&client.local, &client.local));
    assert!(accept.wait().unwrap().success());
}

#[test]
fn a_backend_answers_a_held_connection_again_and_refuses_once_dropped() {
    let (_network, app, backend) = client_and_server();
    for kind in ["", "--udp"] {
        let mut hold = app
            .command(program("probe"))
            .args(format!("hold {SERVICE} {kind}").split_ascii_whitespace())
            .limited_to(Duration::from_secs(30))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(hold.stdout.take().unwrap()).lines();
        let mut stdin = hold.stdin.take().unwrap();
        good(&Report::parse(&lines.next().unwrap().unwrap()), false);
        stdin.write_all(b"\n").unwrap();
        good(&Report::parse(&lines.next().unwrap().unwrap()), false);
        drop(stdin);
        assert!(hold.wait().unwrap().success());
    }
    drop(backend);
    assert_eq!(app.probe(&format!("tcp {SERVICE}")).error(), "ECONNREFUSED");
}

#[test]
fn a_backend_that_cannot_bind_says_so() {
    let host = NetNs::new();
    let panicked = panics(|| Backend::start(&host, SERVICE, "postgres-1"));
    let message = *panicked.downcast::<String>().unwrap();
    assert!(message.starts_with("backend postgres-1: bind 247.221.80.48:5432/tcp: "), "{message}");
}

#[test]
fn a_command_runs_in_its_cgroup_and_on_its_host() {
    let network = Network::new();
    let host = network.host(CLIENT);
    let cgroup = Cgroup::new();
    let child = cgroup.child("web");
    assert_eq!(child.path(), cgroup.path().join("web"));

    let seen = outcome(host.command("cat").arg("/proc/self/cgroup").in_cgroup(&child)).stdout;
    let line = format!("0::/{}/web", cgroup.relative());
    assert!(seen.lines().any(|seen| seen == line), "{line} is not in\n{seen}");

    let inside = |link| fs::read_link(link).unwrap();
    let seen = outcome(host.command("readlink").arg("/proc/self/ns/net")).stdout;
    let theirs = host.run(|| inside("/proc/thread-self/ns/net"));
    assert_eq!(PathBuf::from(seen.trim()), theirs);
    assert_ne!(inside("/proc/self/ns/net"), theirs);
    assert_eq!(outcome(&mut host.command("pwd")).code(), Some(0));
}

#[test]
fn a_panic_leaves_no_cgroup_and_ends_only_what_ran_in_it() {
    let other = Cgroup::new();
    let mut bystander = sleeper(&other);
    let mut started = Vec::new();
    let mut path = PathBuf::new();

    let panicked = panics(|| {
        let cgroup = Cgroup::new();
        let child = cgroup.child("web");
        started.extend([sleeper(&cgroup), sleeper(&child)]);
        path = cgroup.path().to_owned();
        assert!(child.path().is_dir());
        panic!("on purpose");
    });
    assert_eq!(panicked.downcast_ref(), Some(&"on purpose"));
    assert!(path.is_absolute() && !path.exists(), "{}", path.display());
    for mut process in started {
        assert_eq!(process.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
    assert_eq!(bystander.try_wait().unwrap(), None, "not ours to end");
    drop(other);
    assert_eq!(bystander.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn a_cgroup_may_go_before_the_ones_below_it() {
    let parent = Cgroup::new();
    let child = parent.child("web");
    let _grandchild = child.child("worker");
    drop(parent);
    assert!(!child.path().exists());
}

#[test]
fn a_network_namespace_ends_with_its_last_handle() {
    let (a, b) = (NetNs::new(), NetNs::new());
    // A cable ends with either of its ends, so `a` shows whether `b` still exists.
    let inside_b = b.run(|| fs::File::open("/proc/thread-self/ns/net").unwrap());
    let there = format!("/proc/{}/fd/{}", process::id(), inside_b.as_raw_fd());
    a.ip(&format!("link add name cable type veth peer name eth0 netns {there}"));
    drop(inside_b);
    let exists = || a.run(|| nix::net::if_::if_nametoindex("cable").is_ok());

    let server = b.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let clone = b.clone();
    drop(b);
    clone.ip("link set eth0 up");
    drop((clone, server));

    // The kernel removes namespaces in a work queue.
    let deadline = Instant::now() + Duration::from_secs(20);
    while exists() {
        assert!(Instant::now() < deadline, "the namespace is still there");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn run_passes_results_and_panics_on() {
    let host = NetNs::new();
    assert_eq!(host.run(|| 7), 7);
    let panicked = panics(|| host.run(|| panic!("on purpose")));
    assert_eq!(panicked.downcast_ref(), Some(&"on purpose"));
}

#[test]
fn panics_on_purpose_print_nothing_into_a_passing_run() {
    // Like libtest, but without its capture, which covers only output of the test's own thread.
    let mut tests = Command::new(env::current_exe().unwrap());
    tests.args(["--exact", "--nocapture", "run_passes_results_and_panics_on"]);
    tests.args(["a_backend_that_cannot_bind_says_so", "vipnat_that_fails_fails_the_test"]);
    tests.arg("a_panic_leaves_no_cgroup_and_ends_only_what_ran_in_it").env("RUST_BACKTRACE", "1");
    let run = outcome(&mut tests);
    assert!(run.stdout.contains("test result: ok. 4 passed"), "{run}");
    assert!(!run.stderr.contains("panicked at") && !run.stdout.contains("panicked at"), "{run}");
    // Other threads print as usual.
    let mut tests = Command::new(env::current_exe().unwrap());
    tests.args(["--exact", "--nocapture", "--ignored", "a_thread_panics_beside_one_on_purpose"]);
    let run = outcome(&mut tests);
    assert!(run.stdout.contains("test result: ok. 1 passed"), "{run}");
    assert!(run.stderr.contains("that is printed"), "{run}");
    assert!(!run.stderr.contains("that is not"), "{run}");
}

#[test]
#[ignore = "panics_on_purpose_print_nothing_into_a_passing_run runs it, and looks at what it prints"]
fn a_thread_panics_beside_one_on_purpose() {
    panics(|| panic!("that is not"));
    panics(|| thread::spawn(|| panic!("that is printed")).join().unwrap());
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let mut sleep = Command::new("sleep");
    let status = sleep.arg("60").limited_to(Duration::from_secs(1)).status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGALRM));
}

#[test]
fn real_servers_say_who_they_are_and_end_with_all_they_made() {
    let (_network, app, _backend) = client_and_server();
    let (host, ip) = (app.host.clone(), CLIENT);
    let web = SocketAddrV4::new(ip, 80);
    let servers =
        [Server::redis(&host, ip, "R1"), Server::dns(&host, ip, 7), Server::http(&host, web, "W1")];
    for (command, expected) in [
        ("redis-cli -h 240.0.0.10 get who", "R1"),
        ("dig @240.0.0.10 +short who.test", "10.0.0.7"),
        ("dig @240.0.0.10 +tcp +short who.test txt", "\"7\""),
        ("curl --silent http://240.0.0.10/who", "W1"),
    ] {
        let (program, arguments) = command.split_once(' ').unwrap();
        let said = outcome(app.command(program).args(arguments.split(' ')));
        assert_eq!(said.stdout.trim(), expected, "{command}: {said}");
    }
    drop(servers);
    for port in [6379, 53, 80] {
        assert_eq!(app.probe(&format!("tcp {ip}:{port}")).error(), "ECONNREFUSED");
    }
}

#[test]
fn sweep_removes_what_the_dead_left() {
    let prefix = "vipnat-sweeptest";
    let living = Cgroup::with_prefix(prefix);
    let mounted = living.path().parent().unwrap().to_owned();
    // From here on, the bpffs is mounted.
    let vipnat = Vipnat::with("true", prefix);
    fs::create_dir(vipnat.bpffs()).unwrap();
    let bpffs = vipnat.bpffs().parent().unwrap().to_owned();

    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let name = format!("{prefix}-{}-0", dead.id());
    let temporary = env::temp_dir();
    for path in
        [mounted.join(&name).join("web"), bpffs.join(&name).join("links"), temporary.join(&name)]
    {
        fs::create_dir_all(path).unwrap();
    }
    let mut orphan = Command::new("sh")
        .args(["-c", "echo 0 > \"$0\"/cgroup.procs && exec sleep 60"])
        .arg(mounted.join(&name).join("web"))
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fs::read_to_string(mounted.join(&name).join("cgroup.events"))
        .unwrap()
        .contains("populated 1")
    {
        assert!(Instant::now() < deadline, "the orphan did not start");
        thread::sleep(Duration::from_millis(5));
    }

    sweep(prefix);
    for place in [mounted, bpffs, temporary] {
        assert!(!place.join(&name).exists(), "{}", place.display());
    }
    assert_eq!(orphan.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(living.path().is_dir() && vipnat.bpffs().is_dir());
}

#[test]
fn vipnat_is_told_where_its_state_is_and_leaves_none() {
    // echo takes any arguments and prints them.
    let vipnat = Vipnat::with("echo", "vipnat-test");
    let bpffs = vipnat.bpffs().to_owned();
    let printed = vipnat.apply("[services]\n");
    let (head, file) = printed.trim().rsplit_once(' ').unwrap();
    assert_eq!(head, format!("--bpffs {} apply", bpffs.display()));
    assert_eq!(fs::read_to_string(file).unwrap(), "[services]\n");

    fs::create_dir_all(bpffs.join("shop")).unwrap();
    drop(vipnat);
    assert!(!bpffs.exists() && !PathBuf::from(file).exists());
}

#[test]
fn vipnat_that_fails_fails_the_test() {
    let vipnat = Vipnat::with("false", "vipnat-test");
    assert_eq!(vipnat.apply_fails("", 1), "");
    panics(|| vipnat.apply(""));
    panics(|| vipnat.apply_fails("", 2));

    // A failed flush fails the test too, and the state it left is removed all the same.
    let bpffs = vipnat.bpffs().to_owned();
    fs::create_dir(&bpffs).unwrap();
    panics(|| drop(vipnat));
    assert!(!bpffs.exists());
}
