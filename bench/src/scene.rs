//! The hosts, the client and the server.
//!
//! Each client's host has one cable, to the server's host, and no other network. Modes without rules share
//! one host. There, clients differ by their cgroups alone.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command as Process, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail, ensure};
use vipnat_testkit::{
    Cgroup, NetNs, Session, TEST_PREFIX, Vipnat,
    bpf::{EmptyProgram, HOOKS},
};

use crate::{
    modes::Mode,
    protocol::{Answer, Cell, Command, Destination, Operation, Position, Sample},
    rules::{self, Table},
};

/// The address of the server.
pub(crate) const BACKEND: Ipv4Addr = Ipv4Addr::new(247, 0, 0, 1);

/// The CPU of the client. The server gets the last CPU.
const CLIENT_CPU: usize = 0;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Catches signals from now on: [`check_signals`] then fails.
pub(crate) fn catch_signals() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).context("catch signals")
}

/// Fails if a signal has arrived.
pub(crate) fn check_signals() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted; everything is removed");
    Ok(())
}

/// All that lasts from the first measurement to the last.
pub(crate) struct Scene {
    client: Session,
    server: Session,
    pinned: usize,
    /// Dropped before the cgroup to which the programs are attached.
    pub(crate) empty_programs: Vec<(&'static str, EmptyProgram)>,
    pub(crate) plain: Cgroup,
    pub(crate) empty: Cgroup,
    server_host: NetNs,
    shared: NetNs,
    hosts: u8,
    /// Another build of vipnat, for comparison.
    pub(crate) before: Option<PathBuf>,
}

impl Scene {
    pub(crate) fn new(before: Option<PathBuf>) -> Result<Self> {
        let server_host = NetNs::new();
        server_host.add_address(BACKEND);
        let mut server = server_host.command(myself()?);
        server.arg("server").arg(BACKEND.to_string());
        let server = open(server)?;
        let mut client = Process::new(myself()?);
        client.arg("client").arg(CLIENT_CPU.to_string());
        let client = open(client)?;
        let (plain, empty) = (Cgroup::new(), Cgroup::new());
        let shared = NetNs::new();
        let mut scene = Self {
            client,
            server,
            pinned: usize::MAX,
            empty_programs: Vec::new(),
            plain,
            empty,
            server_host,
            shared: shared.clone(),
            hosts: 0,
            before,
        };
        scene.cable(&shared)?;
        scene.attach_empty_programs()?;
        Ok(scene)
    }

    pub(crate) fn attach_empty_programs(&mut self) -> Result<()> {
        let attach = |&(name, hook)| Ok((name, EmptyProgram::attach(self.empty.path(), hook)?));
        self.empty_programs =
            HOOKS.iter().map(attach).collect::<Result<_>>().context("attach empty programs")?;
        Ok(())
    }

    /// The place of a client that connects to the backend directly.
    pub(crate) fn direct(&self) -> Place {
        Place {
            netns: self.shared.clone(),
            cgroup: self.plain.path().to_owned(),
            destination: Destination::Address(BACKEND),
        }
    }

    /// Makes a host with a cable to the server.
    fn host(&mut self) -> Result<NetNs> {
        let host = NetNs::new();
        self.cable(&host)?;
        Ok(host)
    }

    /// Lays a cable from a host to the server.
    ///
    /// VIPs need a route: without one, rules never see their packets. A UDP socket also needs it to connect
    /// to an address that is no VIP.
    fn cable(&mut self, host: &NetNs) -> Result<()> {
        let number = self.hosts;
        self.hosts += 1;
        let address = Ipv4Addr::new(240, 1, number, 1);
        let there = host.path().display().to_string();
        self.server_host.ip(&format!(
            "link add name c{number} type veth peer name eth0 netns {there}\n\
             link set dev c{number} up\n\
             route add {address}/32 dev c{number}"
        ));
        host.ip(&format!(
            "address add {address}/32 dev eth0\n\
             link set dev eth0 up\n\
             route add 240.0.0.0/4 dev eth0 src {address}\n\
             route add 169.254.0.0/16 dev eth0 src {address}"
        ));
        without_offload(&self.server_host, &format!("c{number}"))?;
        without_offload(host, "eth0")
    }

    fn ask(&mut self, command: &Command) -> Result<Answer> {
        check_signals()?;
        let answer = self.client.ask(&serde_json::to_string(command)?).context("the client")?;
        match serde_json::from_str(&answer)? {
            Answer::Failed(why) => bail!("{why}"),
            answer => Ok(answer),
        }
    }

    /// Has the client carry out a command that measures nothing.
    pub(crate) fn tell(&mut self, command: &Command) -> Result<()> {
        self.ask(command).map(drop)
    }

    /// Has the client carry out a measurement.
    pub(crate) fn sample(&mut self, command: &Command) -> Result<Sample> {
        match self.ask(command)? {
            Answer::Sample(sample) => Ok(sample),
            other => bail!("{command:?}: {other:?}"),
        }
    }

    /// Moves the client to the place of a mode.
    pub(crate) fn go(&mut self, place: &Place) -> Result<()> {
        let Place { netns, cgroup, destination: _ } = place;
        self.tell(&Command::Move { netns: netns.path(), cgroup: cgroup.clone() })
    }

    /// Moves the client out of the cgroup of a mode that ends. Otherwise the end of the cgroup would end the
    /// client too.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.go(&self.direct())
    }

    /// Measures one cell at the place of a mode.
    pub(crate) fn measure(
        &mut self,
        place: &Place,
        operation: Operation,
        position: Position,
        milliseconds: u64,
    ) -> Result<Sample> {
        self.go(place)?;
        // With client and server on one CPU, the time includes the work of both, and no other CPU has to wake
        // up.
        let together = matches!(
            operation,
            Operation::TcpCrr
                | Operation::TcpRr
                | Operation::TcpBulk
                | Operation::UdpRr
                | Operation::UdpRrUnconnected
        );
        self.pin_server(if together { CLIENT_CPU } else { crate::cpus() - 1 })?;
        let destination = place.destination;
        let cell = Cell { operation, destination, position, milliseconds };
        let sample = self.sample(&Command::Measure(cell))?;
        if operation == Operation::TcpConnect {
            self.drain()?;
        }
        Ok(sample)
    }

    fn pin_server(&mut self, cpu: usize) -> Result<()> {
        if self.pinned != cpu {
            self.server.ask(&format!("pin {cpu}")).context("the server")?;
            self.pinned = cpu;
        }
        Ok(())
    }

    /// Has the server end the connections in its queue.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.server.ask("drain").context("the server").map(drop)
    }
}

/// The place of a client of a mode, and the destination of its connects.
pub(crate) struct Place {
    pub(crate) netns: NetNs,
    pub(crate) cgroup: PathBuf,
    pub(crate) destination: Destination,
}

/// All modes, with the same number of VIPs.
pub(crate) struct Modes {
    places: Vec<(Mode, Place)>,
    /// The programs, dropped before their cgroup.
    pub(crate) vipnat: Option<(Vipnat, Cgroup)>,
    /// The programs of the other build, dropped before their cgroup.
    pub(crate) before: Option<(Vipnat, Cgroup)>,
}

impl Modes {
    /// Sets the modes up, and checks that each does its work.
    pub(crate) fn new(scene: &mut Scene, modes: &[Mode], count: u32) -> Result<Self> {
        let mut all = Self { places: Vec::new(), vipnat: None, before: None };
        for &mode in modes {
            check_signals()?;
            let place = all.place(scene, mode, count)?;
            let what = || format!("{mode} does not do what it should, with {count} VIPs");
            scene.go(&place)?;
            scene.tell(&Command::Verify(place.destination)).with_context(what)?;
            verify(mode, &place).with_context(what)?;
            all.places.push((mode, place));
        }
        Ok(all)
    }

    fn place(&mut self, scene: &mut Scene, mode: Mode, count: u32) -> Result<Place> {
        let netns = if mode.has_rules() { scene.host()? } else { scene.shared.clone() };
        let load = |program: &[&str], text: &str| load(&netns, program, text);
        let mut cgroup = scene.plain.path().to_owned();
        match mode {
            Mode::Untouched | Mode::Direct => {}
            Mode::Empty => scene.empty.path().clone_into(&mut cgroup),
            Mode::Vipnat => {
                let own = translated(Vipnat::new(), count);
                own.1.path().clone_into(&mut cgroup);
                self.vipnat = Some(own);
            }
            Mode::Before => {
                let program = scene.before.as_ref().context("no build to compare with")?;
                let own = translated(Vipnat::with(program, TEST_PREFIX), count);
                own.1.path().clone_into(&mut cgroup);
                self.before = Some(own);
            }
            Mode::IptablesLegacy => {
                load(&["iptables-legacy-restore", "-w"], &rules::iptables(count, BACKEND))?;
            }
            Mode::IptablesNft => {
                load(&["iptables-nft-restore"], &rules::iptables(count, BACKEND))?;
            }
            Mode::NftMap => load(&["nft", "-f", "-"], &rules::nft_map(count, BACKEND))?,
            Mode::Conntrack => load(&["nft", "-f", "-"], rules::CONNTRACK)?,
            Mode::BesideLegacy | Mode::BesideIptablesNft | Mode::BesideNft => {
                let (vipnat, own) =
                    self.vipnat.as_ref().context("vipnat comes before rules beside it")?;
                own.path().clone_into(&mut cgroup);
                let table = vipnat.table(&Table::simple(own.relative(), count, BACKEND).json());
                let (format, program): (_, &[&str]) = match mode {
                    Mode::BesideLegacy => ("iptables", &["iptables-legacy-restore", "-w"]),
                    Mode::BesideIptablesNft => ("iptables", &["iptables-nft-restore"]),
                    _ => ("nft", &["nft", "-f", "-"]),
                };
                let table = table.to_str().context("a path that is not UTF-8")?;
                let export = ["export", format, table, "--app", "a0", "--beside-vipnat"];
                load(program, &vipnat.ok(export))?;
            }
        }
        let destination = if mode.translates() {
            Destination::Vips { count }
        } else {
            Destination::Address(BACKEND)
        };
        Ok(Place { netns, cgroup, destination })
    }

    /// All modes. Each round begins with another one.
    pub(crate) fn rotated(&self, round: usize) -> impl Iterator<Item = (Mode, &Place)> {
        let count = self.places.len();
        (0..count).map(move |turn| {
            let (mode, place) = &self.places[(round + turn) % count];
            (*mode, place)
        })
    }
}

/// Makes a cgroup whose VIPs a build of vipnat translates.
fn translated(vipnat: Vipnat, count: u32) -> (Vipnat, Cgroup) {
    let cgroup = Cgroup::new();
    vipnat.apply(&Table::simple(cgroup.relative(), count, BACKEND).json());
    (vipnat, cgroup)
}

/// Checks after an answered request whether the kernel tracked the connection, and whether the right rules
/// took it.
fn verify(mode: Mode, place: &Place) -> Result<()> {
    let tracked = place.netns.run(|| {
        fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")
            .map_or(0, |count| count.trim().parse().unwrap_or(0))
    });
    ensure!((tracked > 0) == mode.tracks(), "{tracked} connections are tracked");
    let save: &[&str] = match mode {
        Mode::IptablesLegacy => &["iptables-legacy-save", "-c", "-t", "nat"],
        Mode::IptablesNft => &["iptables-nft-save", "-c", "-t", "nat"],
        _ => return Ok(()),
    };
    let output = place.netns.command(save[0]).args(&save[1..]).output()?;
    let rules = String::from_utf8(output.stdout)?;
    let used = rules.lines().filter(|line| line.contains("DNAT") && !line.starts_with("[0:"));
    ensure!(used.count() > 0, "no rule was used");
    Ok(())
}

/// Runs a program in a network namespace with `text` as its input.
pub(crate) fn load(netns: &NetNs, program: &[&str], text: &str) -> Result<()> {
    let mut child = netns
        .command(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", program[0]))?;
    child.stdin.take().context("no input")?.write_all(text.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "{}: {status}", program.join(" "));
    Ok(())
}

/// Turns offload off, so each segment is one packet. A network card that can't take more at once does the
/// same.
fn without_offload(host: &NetNs, device: &str) -> Result<()> {
    let mut ethtool = host.command("ethtool");
    ethtool.args(["-K", device, "tso", "off", "gso", "off", "gro", "off"]);
    let output = ethtool.output().context("start ethtool")?;
    ensure!(output.status.success(), "ethtool: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Starts a program that Ctrl-C does not reach. The driver ends the program when the driver itself ends.
fn open(mut program: Process) -> Result<Session> {
    program.process_group(0);
    Session::open(program)
}

pub(crate) fn myself() -> Result<PathBuf> {
    std::env::current_exe().context("the path of this program")
}
