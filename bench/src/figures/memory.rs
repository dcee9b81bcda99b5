//! Figure 4: memory that vipnat takes in the kernel, and memory of the loader.

use std::{collections::HashMap, fs, thread::sleep, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::json;
use vipnat_testkit::{Following, Vipnat, bpf};

use super::process::{peak, resident};
use crate::{
    apps::Apps,
    modes::Mode,
    options::{Build, Options},
    protocol::Command,
    report::grouped,
    results::{Results, Row, Unit},
    rules::Table,
    scene::{Modes, Scene, check_signals},
    shape::Shape,
};

const MEMORY: &str = "memory";

fn row(what: &str, shape: Shape) -> Row {
    Row {
        figure: MEMORY,
        what: what.to_owned(),
        metric: "bytes",
        unit: Unit::Bytes,
        shape,
        position: None,
    }
}

/// Measures the memory of the maps and of the loader.
pub(super) fn of_tables(options: &Options, results: &mut Results) -> Result<()> {
    let none = Shape::one_app(0);
    let [nothing, _] = applied(none, 1)?;
    results.add(&row("maps, in all", none), Mode::Vipnat, nothing);
    for shape in options.shapes(&[1000]) {
        let [one, peak] = applied(shape, 1)?;
        let [three, _] = applied(shape, 3)?;
        let of_one = f64::from(shape.vips);
        for (what, bytes) in [
            ("maps, in all", one),
            ("maps, for each VIP with one backend", one / of_one),
            ("maps, for each VIP more", (one - nothing) / of_one),
            ("maps, for each backend more", (three - one) / (2.0 * of_one)),
            ("the loader, at most", peak),
        ] {
            results.add(&row(what, shape), Mode::Vipnat, bytes);
        }
    }
    Ok(())
}

/// The bytes of all maps with `backends` backends for each VIP, and the peak memory of `apply`.
fn applied(shape: Shape, backends: u8) -> Result<[f64; 2]> {
    let (apps, vipnat) = (Apps::new(shape)?, Vipnat::new());
    let service: Vec<_> = (1..=backends).map(|n| json!(format!("247.0.0.{n}"))).collect();
    let services = vec![service.into(); shape.services()];
    let table = Table { cgroups: apps.relative(), each: shape.each(), services, last: None };
    let table = vipnat.table(&table.json());
    let peak = peak(&vipnat.command(["apply".as_ref(), table.as_os_str()]))?;
    let mut bytes = 0;
    for pin in fs::read_dir(vipnat.bpffs().join("maps"))? {
        let pin = pin?;
        // A directory there marks the last change.
        if pin.file_type()?.is_file() {
            bytes += bpf::memory(&pin.path())?;
        }
    }
    Ok([bytes as f64, peak])
}

/// Number of changes of the file, and of those after which all memory is there.
const CHANGES: (usize, usize) = (5500, 500);

/// Measures the memory of `vipnat run`, and its growth over many changes of the file.
pub(super) fn of_run(options: &Options, results: &mut Results) -> Result<()> {
    for build in options.builds() {
        for shape in options.shapes(&[10, 1000]) {
            let run = Run::start(&build, shape)?;
            let memory = resident(run.following.pid())? as f64;
            results.add(&row("vipnat run, once it follows", shape), build.mode, memory);
        }
        let shape = Shape::one_app(10);
        let (all, first) = if options.short { (120, 20) } else { CHANGES };
        let mut run = Run::start(&build, shape)?;
        let mut before = 0;
        for number in 0..all {
            check_signals()?;
            if number == first {
                before = resident(run.following.pid())?;
            }
            run.change(number)?;
        }
        let grown = resident(run.following.pid())? as f64 - before as f64;
        results.add(&growth("vipnat run", all - first, shape), build.mode, grown);
    }
    Ok(())
}

/// The row for the memory that a process has after this many changes, and had not before.
pub(super) fn growth(process: &str, changes: usize, shape: Shape) -> Row {
    let changes = grouped(changes as u32);
    row(&format!("{process}: growth over {changes} changes"), shape)
}

/// `vipnat run`, with a table that changes. It ends before its state is removed, and the cgroups come last.
struct Run {
    following: Following,
    vipnat: Vipnat,
    tables: [String; 2],
    _apps: Apps,
}

impl Run {
    fn start(build: &Build, shape: Shape) -> Result<Self> {
        let (apps, vipnat) = (Apps::new(shape)?, build.vipnat());
        let services: Vec<_> = ["247.0.1.1", "247.0.1.2"].map(|ip| json!([ip])).into();
        let tables = [0, 1].map(|last| {
            let (cgroups, services) = (apps.relative(), services.clone());
            Table { cgroups, each: shape.each(), services, last: Some(last) }.json()
        });
        let following = vipnat.follow(&tables[1], &[]);
        Ok(Self { following, vipnat, tables, _apps: apps })
    }

    /// Changes the file, and waits until the change is made.
    fn change(&mut self, number: usize) -> Result<()> {
        self.vipnat.replace_table(&self.tables[number % 2]);
        self.following.wait_for(|line| line.starts_with('~'));
        self.following.forget();
        Ok(())
    }
}

/// Measures the memory of sockets: the kernel's general caches, with and without the sockets.
pub(super) fn of_sockets(
    options: &Options,
    scene: &mut Scene,
    modes: &Modes,
    count: u32,
    results: &mut Results,
) -> Result<()> {
    // Number of sockets that are open at once, and number of repetitions.
    let (sockets, rounds) = if options.short { (8000, 2) } else { (16_000, 7) };
    for round in 0..=rounds {
        for (mode, place) in modes.rotated(round) {
            if mode.has_rules() {
                continue;
            }
            scene.go(place)?;
            let mut caches = |sockets| {
                let destination = place.destination;
                scene.tell(&Command::Hold { count: sockets, destination })?;
                // The kernel returns freed memory after a grace period.
                sleep(Duration::from_millis(200));
                caches()
            };
            let none = caches(0)?;
            let many = caches(sockets)?;
            caches(0)?;
            // Each socket has a whole number of objects in each cache. Other processes cause the remainder.
            let each = |(name, more): (&String, &Cache)| {
                let before = none.get(name).map_or(0.0, |cache| cache.objects);
                ((more.objects - before) / sockets as f64).round().max(0.0) * more.size
            };
            let bytes: f64 = many.iter().map(each).sum();
            if round > 0 {
                let row = row("each connected UDP socket", Shape::one_app(count));
                results.add(&row, mode, bytes);
            }
        }
    }
    Ok(())
}

/// A cache of kernel objects of one size.
struct Cache {
    objects: f64,
    size: f64,
}

/// All `kmalloc-` caches. The kernel keeps the hooks' socket records there.
fn caches() -> Result<HashMap<String, Cache>> {
    let text = fs::read_to_string("/proc/slabinfo").context("read /proc/slabinfo")?;
    // name <active_objs> <num_objs> <objsize> …
    let cache = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next().filter(|name| name.starts_with("kmalloc-"))?;
        let objects = fields.next()?.parse().ok()?;
        let size = fields.nth(1)?.parse().ok()?;
        Some((name.to_owned(), Cache { objects, size }))
    };
    Ok(text.lines().filter_map(cache).collect())
}
