//! The containers that the test compares.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddrV4},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use vipnat_testkit::{
    App, Cgroup, CommandExt, NetNs, Network, Vipnat, bpf::Refusal, patient, program,
};

use crate::{
    gate::Gate, record::Record, session::Session, tables::backend, translator::Translator,
};

/// The VIP of the relationship `db`, which most cases use.
pub const DB: &str = "169.254.37.209";
/// The container's address.
pub const APP: Ipv4Addr = Ipv4Addr::new(247, 221, 80, 10);
/// The ports on which the servers listen.
const PORTS: [u16; 2] = [5432, 6380];
/// The numbers of the backends with servers. These servers are called B1, B2, …
const SERVERS: std::ops::RangeInclusive<u8> = 1..=4;
/// The number of a backend without servers: it refuses connections and datagrams.
const REFUSES: u8 = 8;
/// The longest time for a process of the container. It is longer than the longest case.
const LIMIT: Duration = Duration::from_secs(600);

/// A container behind one translator, and the hosts that it reaches. Each case gets new ones, with the same
/// addresses for each translator.
///
/// Fields are dropped in this order.
#[derive(Debug)]
pub struct Container {
    translator: Translator,
    vipnat: Vipnat,
    _servers: Server,
    app: App,
    /// A cgroup without processes.
    elsewhere: Cgroup,
    service_host: NetNs,
    _network: Network,
    gate: Arc<Gate>,
}

impl Container {
    /// A container without translation.
    pub(crate) fn new(translator: Translator, gate: Arc<Gate>) -> Self {
        let network = Network::new();
        let app = App::new(network.host(APP));
        // With iptables a VIP needs a route: rules see a connection only after it has left connect().
        app.host.ip(&format!("route add 169.254.0.0/16 dev eth0 src {APP}"));
        let service_host = network.host(Ipv4Addr::new(247, 221, 80, 20));
        service_host.add_addresses(SERVERS.chain([REFUSES]).map(backend));
        let places: Vec<_> = SERVERS
            .flat_map(|number| PORTS.map(|port| (number, port)))
            .map(|(number, port)| (name(number, port), SocketAddrV4::new(backend(number), port)))
            .collect();
        let servers = Server::start(&mut service_host.command(program("talker")), &places);
        let vipnat = Vipnat::new();
        Self {
            translator,
            vipnat,
            _servers: servers,
            app,
            elsewhere: Cgroup::new(),
            service_host,
            _network: network,
            gate,
        }
    }

    /// The translator. Cases must not use it to decide what they record.
    pub fn translator(&self) -> Translator {
        self.translator
    }

    /// The container itself, to run commands in.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The host that has the backend address with this number.
    pub fn server(&self, _number: u8) -> &NetNs {
        &self.service_host
    }

    /// Plays a script in a process of the container, behind a table.
    pub fn play(&self, table: &str, script: &str, record: &mut Record) {
        self.apply(table);
        self.session().play(script, record);
    }

    /// Applies this table: services, and relationships of the app `app`, without `[apps.app]` itself. Cases
    /// may call it several times.
    pub fn apply(&self, services: &str) {
        let cgroup = self.app.cgroup.relative();
        let table = self.vipnat.table(&format!("{services}\n[apps.app]\ncgroup = \"{cgroup}\"\n"));
        self.translator.apply(&self.vipnat, &self.app, &table);
    }

    /// A new process of the container.
    pub fn session(&self) -> Session {
        Session::start(self.app.command(program("sockets")).limited_to(patient(LIMIT)))
    }

    /// A new process of the container in a cgroup below its own.
    pub fn session_below(&self, cgroup: &Cgroup) -> Session {
        let mut command = self.app.host.command(program("sockets"));
        Session::start(command.in_cgroup(cgroup).limited_to(patient(LIMIT)))
    }

    /// A new process in the container's network namespace and outside its cgroup, as `nsenter --net`
    /// starts it.
    pub fn session_without_cgroup(&self) -> Session {
        let mut command = self.app.host.command(program("sockets"));
        Session::start(command.limited_to(patient(LIMIT)))
    }

    /// A new process outside, on the host of the servers.
    pub fn session_outside(&self) -> Session {
        Session::start(self.service_host.command(program("sockets")).limited_to(patient(LIMIT)))
    }

    /// Starts more servers, inside the container.
    pub fn serve_inside(&self, places: &[(&str, SocketAddrV4)]) -> Server {
        let places: Vec<_> =
            places.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        Server::start(&mut self.app.command(program("talker")), &places)
    }

    /// The same, but the app has another cgroup meanwhile: the container itself translates nothing.
    pub fn apply_elsewhere(&self, services: &str) {
        match self.translator {
            Translator::Vipnat => {
                let elsewhere = &self.elsewhere;
                let text =
                    format!("{services}\n[apps.app]\ncgroup = \"{}\"\n", elsewhere.relative());
                self.translator.apply(&self.vipnat, &self.app, &self.vipnat.table(&text));
            }
            // Rules are those of the container's network namespace.
            _ => self.apply(""),
        }
    }

    /// Attaches programs of another tool that refuse every call of these hooks in the container. They run
    /// after earlier programs. `Drop` detaches them.
    pub fn refuse(&self, hooks: &[&str]) -> Refusal {
        Refusal::attach(self.app.cgroup.path(), hooks).expect("attach programs that refuse")
    }

    /// Waits, and lets other cases run meanwhile.
    pub fn wait(&self, time: Duration) {
        self.gate.while_away(|| thread::sleep(time));
    }
}

/// The name of a server: `B1`, and `B1:6380` on another port than the first.
fn name(number: u8, port: u16) -> String {
    if port == PORTS[0] { format!("B{number}") } else { format!("B{number}:{port}") }
}

/// A running `talker`. `Drop` ends it.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    fn start(command: &mut Command, places: &[(String, SocketAddrV4)]) -> Self {
        let mut process = command
            .args(places.iter().map(|(name, address)| format!("{name}={address}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("read from talker");
        assert_eq!(line, "ready\n", "talker at {places:?} did not start");
        Self(process)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
