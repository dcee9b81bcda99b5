//! A service that all apps share loses a backend, and vipnat ends the connections to it.

use std::{fs::File, net::Ipv4Addr, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use vipnat_testkit::{NetNs, Session};

use super::{
    Fleet, apps_with,
    ground::{Ground, service},
    grouped,
};
use crate::{figures::process::wait, results::Unit, scene::myself, vips::vip};

/// Number of apps.
const APPS: usize = 1000;
/// Number of UDP sockets in the second case, for all apps together. Each app also has a TCP connection.
const DATAGRAMS: usize = 17_500;
/// The most containers that are attached meanwhile.
const ATTACHED: usize = 200;

/// The first backend leaves. All TCP connections and every other UDP socket go to it.
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
        fleet.add_times(&format!("{what}: apply"), apps_with(apps, 1), took);
        let longest = longest.as_nanos() as f64;
        let what = format!("{what}: an attach meanwhile, at most");
        fleet.add(&what, apps_with(apps, 1), "wall time", Unit::Nanoseconds, longest);
    }
    Ok(())
}

/// Starts the processes with the sockets, on the host that has the backends.
fn containers(ground: &Ground, apps: usize, datagrams: usize) -> Result<Session> {
    let host = NetNs::new();
    host.add_addresses(BACKENDS.map(|ip| ip.parse::<Ipv4Addr>().expect("an address")));
    let mut command = host.command(myself()?);
    command.arg("containers").arg(ground.path());
    command.args([apps.to_string(), datagrams.to_string(), vip(0).to_string()]);
    // From here on, these processes keep the host's network namespace alive.
    let mut session = Session::open(command)?;
    session.hear().context("the containers")?;
    Ok(session)
}

/// Sums the ended connections from lines such as `x a0 r0 169.254.1.0: ended 3 connections to 247.0.0.1`.
fn ended(said: &str) -> usize {
    let counts = said
        .lines()
        .filter_map(|line| line.split_once(": ended ")?.1.split(' ').next()?.parse::<usize>().ok());
    counts.sum()
}
