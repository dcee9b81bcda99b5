//! Changes tables without pause, while two apps with one VIP connect from all CPUs.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{App, Backend, Load, NetNs, Network, Tally, Vipnat, disturbance::Disturbance, program};

/// The VIP of the relationship `db`, which both apps have.
const DB: &str = "169.254.37.209";
const PORT: u16 = 5432;
/// The number of backends of each app. The apps share none.
const BACKENDS: u8 = 8;
/// The number of VIPs beside `db` to which the apps connect too.
const CONNECTED: usize = 20;

/// Two apps on two hosts, with separate backends.
pub struct Churn {
    /// The instance of vipnat.
    pub vipnat: Vipnat,
    apps: [(&'static str, App); 2],
    _backends: Vec<Backend>,
    _network: Network,
    /// The number of VIPs of each app beside `db`. Each table changes their backends.
    others: usize,
    tables: usize,
}

/// The results of a run.
#[derive(Debug, Default)]
pub struct Churned {
    /// The number of changed backend lists.
    pub changes: u64,
    /// The number of tables with these changes.
    pub tables: u64,
    /// The duration of the run.
    pub took: Duration,
    /// The tally of each app.
    pub tallies: Vec<Tally>,
}

/// The results of a soak test.
#[derive(Debug, Default)]
pub struct Soaked {
    /// The number of changed backend lists that `vipnat run` reported.
    pub changes: u64,
    /// The number of times that `vipnat run` was killed.
    pub kills: u64,
    /// The number of commands and foreign writes beside `vipnat run`.
    pub disturbances: u64,
    /// The duration of the soak test.
    pub took: Duration,
    /// The tally of each app, filled at the end.
    pub tallies: Vec<Tally>,
}

impl Churn {
    /// Starts the backends, and applies the first table: each app has `others` VIPs beside `db`.
    ///
    /// With many, each table makes many changes at once. With few, tables, grace periods and the reuse of
    /// slots follow each other as fast as possible.
    pub fn new(others: usize) -> Self {
        let network = Network::new();
        let mut backends = Vec::new();
        let apps = [("shop", 1), ("blog", 2)].map(|(name, number)| {
            let services = network.host(Ipv4Addr::new(247, 10, number, 1));
            for last in 0..BACKENDS {
                let ip = backend(name, last);
                services.add_address(ip);
                let says = format!("{name}-{last}");
                backends.push(Backend::start(&services, SocketAddrV4::new(ip, PORT), &says));
            }
            (name, App::new(network.host(Ipv4Addr::new(247, 10, number, 2))))
        });
        let churn = Self {
            vipnat: Vipnat::new(),
            apps,
            _backends: backends,
            _network: network,
            others,
            tables: 0,
        };
        churn.vipnat.apply(&churn.table());
        churn
    }

    /// The host of the first app.
    pub fn host(&self) -> &NetNs {
        &self.apps[0].1.host
    }

    /// The current table.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, app) in &self.apps {
            // Each list has 1 to 5 backends, and differs from that of the table before.
            for list in 0..7 {
                let count = 1 + (self.tables + list) % 5;
                let members: Vec<_> = (0..count)
                    .map(|i| (self.tables * 3 + list + i) % usize::from(BACKENDS))
                    .map(|last| format!("\"{}\"", backend(name, last as u8)))
                    .collect();
                let _ =
                    writeln!(text, "[services.{name}{list}]\nbackends = [{}]", members.join(", "));
            }
            let _ = writeln!(text, "[apps.{name}]\ncgroup = \"{}\"", app.cgroup.relative());
            let _ = writeln!(text, "[apps.{name}.relationships.db]\nservice = \"{name}0\"");
            for number in 0..self.others {
                let list = number % 7;
                let _ = writeln!(
                    text,
                    "[apps.{name}.relationships.r{number}]\nservice = \"{name}{list}\"\nvip = \"{}\"",
                    other(number)
                );
            }
        }
        text
    }

    /// A table that differs from the current one.
    pub fn next_table(&mut self) -> String {
        self.tables += 1;
        self.table()
    }

    /// The number of backend lists that each table changes.
    pub fn changes_in_a_table(&self) -> usize {
        2 * (1 + self.others)
    }

    /// Starts the load of both apps: each connects by TCP and UDP from four threads.
    pub fn loads(&self) -> Vec<Load> {
        let destinations: Vec<_> = [format!("{DB}:{PORT}")]
            .into_iter()
            .chain(
                (0..self.others.min(CONNECTED)).map(|number| format!("{}:{PORT}", other(number))),
            )
            .collect();
        let load = |(name, app): &(&str, App)| {
            let mut load = app.command(program("load"));
            load.args(["--expect", name, "--tcp", "2", "--udp", "1", "--sendto", "1"]);
            Load::start({
                load.args(&destinations);
                load
            })
        };
        self.apps.iter().map(load).collect()
    }

    /// Lets `vipnat run` follow tables that change as fast as it can apply them.
    ///
    /// Ends after `changes` changes, or after `time`.
    pub fn run(&mut self, changes: u64, time: Duration) -> Churned {
        let mut churned = Churned::default();
        let loads = self.loads();
        let file = self.vipnat.table(&self.table());
        let mut following =
            crate::Following::start(self.vipnat.command(["run".as_ref(), file.as_os_str()]));
        let begun = Instant::now();
        while churned.changes < changes && begun.elapsed() < time {
            let table = self.next_table();
            self.vipnat.replace_table(&table);
            following.wait_for_many(self.changes_in_a_table(), |line| line.starts_with("~ "));
            following.forget();
            churned.changes += self.changes_in_a_table() as u64;
            churned.tables += 1;
        }
        churned.took = begun.elapsed();
        churned.tallies = loads.into_iter().map(Load::stop).collect();
        churned
    }

    /// The same, but kills `vipnat run` again and again, at random moments. Before that, other commands and
    /// other hands change its state.
    ///
    /// It starts `vipnat run` again, sometimes from another build. `tell` gets the results so far after each
    /// kill.
    pub fn soak(&mut self, time: Duration, mut tell: impl FnMut(&Self, &Soaked)) -> Soaked {
        let mut soaked = Soaked::default();
        let loads = self.loads();
        let begun = Instant::now();
        let mut random = 1_u32;
        while begun.elapsed() < time {
            let table = self.next_table();
            let file = self.vipnat.table(&table);
            let arguments = ["run".as_ref(), file.as_os_str()];
            let mut following = crate::Following::start(if soaked.kills % 4 == 3 {
                self.vipnat.command_of("other-build", arguments)
            } else {
                self.vipnat.command(arguments)
            });
            // xorshift32, so that runs are as equal as possible.
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let life = Duration::from_millis(u64::from(random % 3000));
            let born = Instant::now();
            while born.elapsed() < life {
                let said = following.says_meanwhile(Duration::from_millis(u64::from(random % 50)));
                soaked.changes += said.iter().filter(|line| line.starts_with("~ ")).count() as u64;
                let table = self.next_table();
                self.vipnat.replace_table(&table);
                // One in four changes is disturbed, and one in four disturbances is reviewed at once.
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if random >> 30 == 0 {
                    let other = self.next_table();
                    Disturbance::of(random >> 8).happen(&self.vipnat, "shop", &other);
                    soaked.disturbances += 1;
                    if (random >> 28).is_multiple_of(4) {
                        following.signal(Signal::SIGHUP);
                    }
                }
            }
            following.signal(Signal::SIGKILL);
            following.ends();
            soaked.kills += 1;
            soaked.took = begun.elapsed();
            tell(self, &soaked);
        }
        soaked.tallies = loads.into_iter().map(Load::stop).collect();
        soaked
    }

    /// Panics unless one more apply repairs all leftovers, and a second one finds nothing to do.
    pub fn assert_repaired(&self) {
        self.vipnat.apply(&self.table());
        assert_eq!(self.vipnat.apply(&self.table()), "nothing to change\n");
    }

    /// Panics unless the cursors have counted each connection since the first table exactly once.
    pub fn assert_cursors(&self, tallies: &[Tally]) {
        let listing: Value =
            serde_json::from_str(&self.vipnat.ok(["list", "--json"])).expect("JSON");
        for (tally, (name, _)) in tallies.iter().zip(&self.apps) {
            let apps = listing["apps"].as_array().expect("apps");
            let app = apps.iter().find(|app| app["app"] == *name).expect("the app is listed");
            for relationship in app["relationships"].as_array().expect("relationships") {
                let vip = relationship["vip"].as_str().expect("a VIP");
                let counted = relationship["connections"].as_u64();
                let made = tally.answered.get(&format!("{vip}:{PORT}")).copied().unwrap_or(0);
                assert_eq!(counted, Some(made), "turns of {name} {vip}");
            }
        }
    }
}

fn backend(app: &str, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(247, 20, app.as_bytes()[0], 10 + last)
}

fn other(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(169, 254, 100 + (number / 200) as u8, (number % 200) as u8)
}
