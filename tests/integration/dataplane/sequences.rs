//! After any sequence of calls on a UDP socket, `getpeername` and each receive show the peer that it asked
//! for. Calls that fail do not change that peer.

use std::{ops::RangeInclusive, path::PathBuf, thread};

use vipnat_testkit::{App, Cgroup, bpf::Refusal};

use crate::{
    choice::Choice,
    scene::{DB, PORT, Scene, list},
    sockets::Sockets,
};

const CACHE: &str = "169.254.206.224";
const SEARCH: &str = "169.254.50.144";

/// The addresses that sockets use, and the number of the backend there, if there is one.
///
/// All have a route. After a failed connect to an address without one, the kernel sends all datagrams but the
/// next one there (`__ip4_datagram_connect` writes into `inet->cork.fl`, which `udp_sendmsg` reads).
const PLACES: [(&str, Option<u8>); 5] = [
    (DB, Some(0)),
    (CACHE, Some(1)),
    // This is the address of a VIP's backend.
    ("247.221.81.0", Some(0)),
    ("247.221.81.2", Some(2)),
    // This is a VIP without backends.
    (SEARCH, None),
];

/// One action on the socket.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It connects. Another program refuses that before vipnat's, after it, or not at all.
    Connect {
        place: usize,
        refused: Refused,
    },
    Disconnect,
    /// It sends to an address. Another program refuses that before vipnat's, or not at all.
    Send {
        place: usize,
        refused: Refused,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Refused {
    No,
    Before,
    After,
}

fn step(choice: &mut Choice) -> Step {
    let place = choice.below(PLACES.len());
    let refused = [Refused::No, Refused::Before, Refused::After][choice.below(3)];
    match choice.below(6) {
        0 => Step::Disconnect,
        1 | 2 => Step::Send { place, refused },
        _ => Step::Connect { place, refused },
    }
}

/// A socket, and the state that it should show.
struct Model {
    sockets: Sockets,
    mapped: bool,
    inner: App,
    outer: PathBuf,
    peer: Option<usize>,
}

impl Model {
    fn address(&self, place: usize) -> String {
        let (ip, _) = PLACES[place];
        if self.mapped { format!("[::ffff:{ip}]:{PORT}") } else { format!("{ip}:{PORT}") }
    }

    fn refusing(&self, refused: Refused, hooks: &[&str]) -> Option<Refusal> {
        let cgroup = match refused {
            Refused::No => return None,
            Refused::Before => self.inner.cgroup.path(),
            Refused::After => &self.outer,
        };
        Some(Refusal::attach(cgroup, hooks).expect("attach a program"))
    }

    /// Whether the kernel can't tell a failed connect to this place from a successful one: it leads to the
    /// backend to which the socket is connected under another name.
    fn is_the_peer_by_another_name(&self, place: usize) -> bool {
        self.peer.is_some_and(|peer| {
            peer != place && PLACES[peer].1.is_some() && PLACES[peer].1 == PLACES[place].1
        })
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Disconnect => {
                assert_eq!(self.sockets.call("connect a unspec"), "0");
                self.peer = None;
            }
            Step::Connect { place, refused } => {
                if refused == Refused::After && self.is_the_peer_by_another_name(place) {
                    return;
                }
                let refusal = self.refusing(refused, &["connect4", "connect6"]);
                let operation = format!("connect a {}", self.address(place));
                let result = self.sockets.call(&operation);
                drop(refusal);
                match (PLACES[place], refused) {
                    ((_, Some(_)), Refused::No) => {
                        assert_eq!(result, "0");
                        self.peer = Some(place);
                    }
                    ((_, None), Refused::No | Refused::After) => assert_eq!(result, "EHOSTUNREACH"),
                    _ => assert_eq!(result, "EPERM"),
                }
            }
            Step::Send { place, refused } => {
                let refusal = self.refusing(refused, &["sendmsg4", "sendmsg6"]);
                let result = self.sockets.call(&format!("sendto a ? {}", self.address(place)));
                drop(refusal);
                // A connected socket receives only from its peer, and shows the peer's name.
                let heard = self.peer.is_none_or(|peer| PLACES[peer].1 == PLACES[place].1);
                if result == "1" && heard {
                    self.hears("recvfrom a", self.peer.unwrap_or(place));
                }
            }
        }
    }

    /// Receives the answer from a place, and checks the source that it shows.
    fn hears(&mut self, operation: &str, place: usize) {
        let name = format!("\"{}\" ", PLACES[place].1.expect("a server is there"));
        let mut received = self.sockets.call(operation);
        // An answer of another server may come before it. That happens if the socket was connected when it
        // asked there, and is not connected any more.
        while received.starts_with('"') && !received.starts_with(&name) {
            if operation.ends_with("MSG_PEEK") {
                self.sockets.call("recvfrom a");
            }
            received = self.sockets.call(operation);
        }
        let expected = format!("{name}from {}", self.address(place));
        assert!(received.starts_with(&expected), "{operation}: {received}");
    }

    /// Checks the peer and the sources that the socket shows.
    fn look(&mut self, choice: &mut Choice) {
        let shown = self.sockets.call("getpeername a");
        let Some(peer) = self.peer else {
            assert_eq!(shown, "ENOTCONN");
            return;
        };
        assert_eq!(shown, self.address(peer));
        for operation in ["recvfrom a", "recvmsg a", "recvmmsg a 1", "recvfrom a MSG_PEEK"] {
            if choice.below(2) == 0 {
                continue;
            }
            assert_eq!(self.sockets.call("send a ?"), "1");
            assert_eq!(self.sockets.call("poll a in"), "in");
            self.hears(operation, peer);
        }
        while self.sockets.call("recvfrom a MSG_DONTWAIT") != "EAGAIN" {}
    }
}

/// The steps so far, printed when the test fails.
struct Taken {
    seed: u64,
    mapped: bool,
    steps: Vec<Step>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { seed, mapped, steps } = self;
            eprintln!("seed {seed}, mapped {mapped}: {steps:?}");
        }
    }
}

/// Services of a table, and relationships of an app of these names, with their backends.
fn relationships(app: &str, services: &[(&str, &[u8])]) -> String {
    let relationship = |(name, backends): &(&str, &[u8])| {
        let backends = list(backends.iter().copied());
        format!(
            "[services.{app}-{name}]\nbackends = {backends}\n\
             [apps.{app}.relationships.{name}]\nservice = \"{app}-{name}\"\n"
        )
    };
    services.iter().map(relationship).collect()
}

/// Takes sockets of cgroups below this one through sequences of steps.
fn walk(scene: &Scene, below: &Cgroup, seeds: RangeInclusive<u64>) {
    for seed in seeds {
        let mut choice = Choice::new(seed);
        let cgroup = below.child(&format!("inner{seed}"));
        let inner = App { host: scene.app.host.clone(), cgroup };
        let mut sockets = Sockets::of(&inner);
        let mapped = choice.below(2) == 0;
        sockets.call(if mapped { "socket a udp6" } else { "socket a udp4" });
        if choice.below(2) == 0 {
            let app = if mapped { "[::ffff:247.221.80.10]:4000" } else { "247.221.80.10:4000" };
            assert_eq!(sockets.call(&format!("bind a {app}")), "0");
        }
        let outer = scene.app.cgroup.path().to_owned();
        let mut model = Model { sockets, mapped, inner, outer, peer: None };
        let mut taken = Taken { seed, mapped, steps: Vec::new() };
        for _ in 0..12 {
            let step = step(&mut choice);
            taken.steps.push(step);
            model.take(step);
            model.look(&mut choice);
        }
    }
}

#[test]
fn a_udp_socket_shows_one_peer_everywhere_whatever_it_went_through() {
    let scene = Scene::new(3);
    let cgroup = scene.app.cgroup.relative();
    let services = relationships("shop", &[("db", &[0]), ("cache", &[1]), ("search", &[])]);
    scene.vipnat.apply(&format!("[apps.shop]\ncgroup = \"{cgroup}\"\n{services}"));
    walk(&scene, &scene.app.cgroup, 1..=40);
}

/// The hooks of both apps run. The outer app's hook runs last, and sees the address that the inner one wrote.
#[test]
fn so_does_one_of_an_app_inside_another() {
    let scene = Scene::new(3);
    let inside = scene.app.cgroup.child("inside");
    let (outer, inner) = (scene.app.cgroup.relative(), inside.relative());
    scene.vipnat.apply(&format!(
        "[apps.shop]\ncgroup = \"{outer}\"\n[apps.inner]\ncgroup = \"{inner}\"\n{}{}",
        relationships("shop", &[("db", &[2]), ("cache", &[1]), ("search", &[])]),
        relationships("inner", &[("db", &[0])]),
    ));
    walk(&scene, &inside, 1..=40);
}
