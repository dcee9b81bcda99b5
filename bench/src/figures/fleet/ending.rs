//! A service that all apps share loses a backend, and what is connected to it ends.

use std::{fs::File, net::Ipv4Addr, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use vipnat_testkit::{NetNs, Session};

use super::{
    Fleet,
    ground::{Ground, service},
    grouped,
};
use crate::{figures::process::wait, results::Unit, scene::myself, vips::vip};

/// How many apps there are.
const APPS: usize = 1000;
/// How many UDP sockets they have beside a TCP connection each, in the second case.
const DATAGRAMS: usize = 17_500;
/// How many containers at most are attached meanwhile.
const ATTACHED: usize = 200;

/// The first one leaves, to which all TCP connections and every other UDP socket go.
const BACKENDS: [&str; 2] = ["247.0.0.1", "247.0.0.2"];

pub(super) fn measure(fleet: &mut Fleet<'_>) -> Result<()> {
    let apps = fleet.scaled(APPS);
    for datagrams in [0, fleet.scaled(DATAGRAMS)] {
        let sockets = grouped(apps + datagrams);
        let what = format!("{} apps with {sockets} sockets lose a backend", grouped(apps));
        let ground = fleet.ground()?;
        ground.make_many("a", apps)?;
        let table = |backends: &[&str]| {
            let apps = (0..apps).map(|index| (format!("a{index}"), format!("a{index}")));
            ground.table(&service(backends), apps, 1)
        };
        ground.apply(&table(&BACKENDS))?;
        let _containers = containers(&ground, apps, datagrams)?;
        let mut cgroups = ground.make_many("more", ATTACHED)?.into_iter();
        let fewer = table(&BACKENDS[1..]);
        let said = fewer.with_extension("said");
        let mut apply = ground.vipnat.command(["apply".as_ref(), fewer.as_os_str()]);
        apply.stdout(Stdio::from(File::create(&said)?));
        let (took, longest) = ground.attach_beside(&mut cgroups, || wait(apply))?;
        let ended = ended(&std::fs::read_to_string(said)?);
        ensure!(ended >= (apps + datagrams) / 3, "{what}: only {ended} were ended");
        fleet.add_times(&format!("{what}: apply"), apps, took);
        let longest = longest.as_nanos() as f64;
        let what = format!("{what}: an attach meanwhile, at most");
        fleet.add(&what, apps, "wall time", Unit::Nanoseconds, longest);
    }
    Ok(())
}

/// The processes with the sockets, on a host where the backends are.
fn containers(ground: &Ground, apps: usize, datagrams: usize) -> Result<Session> {
    let host = NetNs::new();
    host.add_addresses(BACKENDS.map(|ip| ip.parse::<Ipv4Addr>().expect("an address")));
    let mut command = host.command(myself()?);
    command.arg("containers").arg(ground.path());
    command.args([apps.to_string(), datagrams.to_string(), vip(0).to_string()]);
    // From now on they are what keeps the host.
    let mut session = Session::open(command)?;
    session.hear().context("the containers")?;
    Ok(session)
}

/// How many connections were ended: `x a0 r0 169.254.1.0: ended 3 connections to 247.0.0.1`.
fn ended(said: &str) -> usize {
    let counts = said
        .lines()
        .filter_map(|line| line.split_once(": ended ")?.1.split(' ').next()?.parse::<usize>().ok());
    counts.sum()
}
