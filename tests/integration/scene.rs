//! The usual scene: an app on one host, backends on another, and a vipnat between them.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    process::Command,
};

use vipnat_testkit::{App, Backend, NetNs, Network, Report, Vipnat};

/// The VIP of the name `db`.
pub(crate) const DB: &str = "169.254.37.209";

/// The port on which backends listen, unless a test names another one.
pub(crate) const PORT: u16 = 5432;

/// A scene. Fields are dropped in this order: first translation, then its backends.
pub(crate) struct Scene {
    pub(crate) vipnat: Vipnat,
    pub(crate) app: App,
    pub(crate) backends: Vec<Backend>,
    pub(crate) service_host: NetNs,
    pub(crate) network: Network,
}

impl Scene {
    /// An app, and this number of backends, whose names count from 0.
    pub(crate) fn new(backends: u8) -> Self {
        let network = Network::new();
        let app = App::new(network.host(Ipv4Addr::new(247, 221, 80, 10)));
        let service_host = network.host(Ipv4Addr::new(247, 221, 80, 20));
        let mut scene =
            Self { vipnat: Vipnat::new(), app, backends: Vec::new(), service_host, network };
        for number in 0..backends {
            scene.add_backend(ip(number), PORT, &number.to_string());
        }
        scene
    }

    /// Starts another backend on the service host.
    pub(crate) fn add_backend(&mut self, ip: Ipv4Addr, port: u16, name: &str) {
        if !self.backends.iter().any(|backend| *backend.address().ip() == ip) {
            self.service_host.add_address(ip);
        }
        let address = SocketAddrV4::new(ip, port);
        self.backends.push(Backend::start(&self.service_host, address, name));
    }

    /// A table in which the app's `db` is a service with these backends, as TOML writes them.
    pub(crate) fn table(&self, backends: &str) -> String {
        self.table_with(backends, "")
    }

    /// The same with more lines in the relationship.
    pub(crate) fn table_with(&self, backends: &str, lines: &str) -> String {
        table(&[("shop", self.app.cgroup.relative(), backends, lines)])
    }

    /// Applies [`Scene::table`] with the first backends.
    pub(crate) fn apply_first(&self, backends: u8) -> String {
        self.vipnat.apply(&self.table(&list(0..backends)))
    }

    /// Makes one TCP connection to `db`, which must work. Returns the backend that answers.
    pub(crate) fn who(&self) -> String {
        banner(&self.app.probe(&format!("tcp {DB}:{PORT}")))
    }

    /// Makes several connections, one after the other.
    pub(crate) fn who_of(&self, count: usize) -> Vec<String> {
        self.app.probes(&format!("tcp {DB}:{PORT} --count {count}")).iter().map(banner).collect()
    }
}

/// The banner of a connection, which must have worked.
pub(crate) fn banner(report: &Report) -> String {
    assert!(report.ok, "{report:?}");
    report.banner().to_owned()
}

/// The address of the backend with this number.
pub(crate) fn ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(247, 221, 81, number)
}

/// A TOML list of the addresses of backends.
pub(crate) fn list(numbers: impl IntoIterator<Item = u8>) -> String {
    let quoted: Vec<_> = numbers.into_iter().map(|number| format!("\"{}\"", ip(number))).collect();
    format!("[{}]", quoted.join(", "))
}

/// A table of apps: name, cgroup, the backends of its `db`, more lines of that relationship.
pub(crate) fn table(apps: &[(&str, &str, &str, &str)]) -> String {
    let app = |(name, cgroup, backends, lines): &(&str, &str, &str, &str)| {
        format!(
            "[services.{name}]\nbackends = {backends}\n[apps.{name}]\ncgroup = \"{cgroup}\"\n\
             [apps.{name}.relationships.db]\nservice = \"{name}\"\n{lines}\n"
        )
    };
    apps.iter().map(app).collect()
}

/// Lines that make a table too large for the kernel's maps: an app with many relationships to a service with
/// nearly the largest number of turns.
pub(crate) fn too_much(app: &str) -> String {
    let weight = |n: u8| if n == 0 { 255 } else { 256 };
    let backend = |n| format!("{{ ip = \"247.221.90.{n}\", weight = {} }}", weight(n));
    let backends: Vec<_> = (0..64).map(backend).collect();
    let mut text = format!("[services.large]\nbackends = [{}]\n", backends.join(", "));
    for n in 0..260 {
        text += &format!("[apps.{app}.relationships.large{n}]\nservice = \"large\"\n");
    }
    text
}

/// Runs a command under strace with these options. The last one names the injected fault.
pub(crate) fn strace(command: &Command, options: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.arg("-f").args(options).arg(command.get_program()).args(command.get_args());
    strace
}
