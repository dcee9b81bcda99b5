//! All state of vipnat as text. States that behave alike have the same text.
//!
//! The text names scopes, slots and cursors, because their numbers depend on earlier changes. No scope is
//! given twice, and slots and cursors in use are not available.
//!
//! The text omits the turns that a cursor has given, retired slots, the counters, records of sockets, and the
//! mark of the last change.
//!
//! A cgroup whose scope is 0 counts as one without a scope. A removed cgroup has none, although the kernel
//! keeps its storage for a while.

mod read_map;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    net::Ipv4Addr,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

use vipnat_common::{
    Range, Slot, SlotFlags, VipKey,
    abi::{Cursor, Scope},
};

use self::read_map::{batch, lookup, mapped, scopes};
use crate::{
    Cgroup, Vipnat,
    bpf::{Attr, Info, open},
    patient,
};

/// A command of bpf(2).
const BPF_PROG_QUERY: libc::c_long = 16;

/// The attach types (`enum bpf_attach_type`) of all programs that see addresses of sockets in a cgroup: bind,
/// connect, sendmsg, recvmsg, getpeername, getsockname.
const SOCK_ADDR: [u32; 12] = [8, 9, 10, 11, 14, 15, 19, 20, 29, 30, 31, 32];

/// The number of cursors that are read. vipnat assigns the lowest free cursor, so small tables use only
/// these.
const CURSORS: usize = 4096;

/// The mark of the last change of the maps. Only whether it is another one matters, to a process that knows the
/// former.
const CHANGED: &str = "maps/changed";

/// Time limit for a link to disappear.
const PATIENCE: Duration = Duration::from_secs(10);

/// The run directory, which has the name index.
const RECORDS: &str = "/run/vipnat";

/// All state of an instance. It is empty if there is none.
///
/// It has the tree of pins, the object of each pin, and the content of the maps. It also has other programs
/// on these cgroups, the name index, and other files with its name.
pub fn dump(vipnat: &Vipnat, cgroups: &[&Cgroup]) -> String {
    text(vipnat, cgroups, patient(PATIENCE), &[])
}

/// The same beside a `vipnat run`. It has the lock of the state meanwhile, so no change is half done.
///
/// The text omits the lock file of `run`, and pending disconnects, which have times. It shows links that the
/// kernel is about to detach.
pub fn dump_beside_run(vipnat: &Vipnat, cgroups: &[&Cgroup]) -> String {
    let _lock = lock(vipnat.bpffs());
    text(vipnat, cgroups, Duration::ZERO, &["run", "drains.json"])
}

/// Locks a state directory, as vipnat does. `None` if there is none.
pub fn lock(bpffs: &Path) -> Option<Flock<File>> {
    loop {
        let lock = Flock::lock(File::open(bpffs).ok()?, FlockArg::LockExclusive);
        let lock = lock.unwrap_or_else(|(_, error)| panic!("lock {}: {error}", bpffs.display()));
        // Another command may have removed the directory meanwhile.
        if fs::metadata(bpffs).ok()?.ino() == lock.metadata().expect("inspect a directory").ino() {
            return Some(lock);
        }
    }
}

/// Waits this long for links to be detached, and leaves out records with these extensions.
fn text(vipnat: &Vipnat, cgroups: &[&Cgroup], patience: Duration, without: &[&str]) -> String {
    let mut text = String::new();
    let names = Cgroups::of(cgroups);
    let pins = Pins::read(vipnat.bpffs(), &names);
    text += &pins.text;
    for cgroup in cgroups {
        if let Some(what) = unaccounted(cgroup, &pins.links, patience) {
            text += &format!("attached to {}: {what}\n", cgroup.relative());
        }
    }
    // After a crash, maps may still be in `new`.
    for place in ["maps", "new/maps"] {
        let path = vipnat.bpffs().join(place);
        if path.exists() {
            text += &format!("{place}:\n{}", Maps::read(&path).text(&pins.apps, &names));
        }
    }
    text + &records(vipnat.bpffs(), without)
}

/// The number of retired and emptied slots, which are not free yet.
pub fn resting(vipnat: &Vipnat) -> usize {
    let slots = mapped::<24>(&vipnat.bpffs().join("maps/backends"));
    let slots = slots.into_iter().filter_map(Slot::from_bytes);
    slots.filter(|slot| slot.has(SlotFlags::RETIRED)).count()
}

/// The names of cgroups, by id.
struct Cgroups(HashMap<u64, String>);

impl Cgroups {
    fn of(cgroups: &[&Cgroup]) -> Self {
        let id = |cgroup: &Cgroup| Some(fs::metadata(cgroup.path()).ok()?.ino());
        let name = |cgroup: &&Cgroup| Some((id(cgroup)?, cgroup.relative().to_owned()));
        Self(cgroups.iter().filter_map(name).collect())
    }

    fn name(&self, id: u64) -> String {
        self.0.get(&id).cloned().unwrap_or_else(|| "another cgroup".to_owned())
    }
}

/// The tree of pins.
#[derive(Default)]
struct Pins {
    text: String,
    /// The names of programs and maps, by id.
    programs: HashMap<u32, String>,
    maps: HashMap<u32, String>,
    /// The names of apps, by scope.
    apps: HashMap<u32, String>,
    links: Vec<Link>,
}

/// A pinned link.
struct Link {
    cgroup: u64,
    /// The attach type.
    at: u32,
    program: u32,
}

impl Pins {
    fn read(root: &Path, cgroups: &Cgroups) -> Self {
        let mut pins = Self::default();
        let mut lines = BTreeSet::new();
        let mut paths = files(root);
        // Links refer to programs, and programs to maps, so these come first.
        paths.sort_by_key(|path| {
            ["maps", "progs"].iter().position(|at| path.starts_with(root.join(at))).unwrap_or(2)
        });
        for path in paths.iter().filter(|path| !path.ends_with(CHANGED)) {
            let below = path.strip_prefix(root).expect("it is below");
            let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
            let parts: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
            lines.insert(pins.line(path, &parts, cgroups));
        }
        if root.exists() {
            pins.text = "pins:\n".to_owned();
        }
        pins.text.extend(lines.iter().map(|line| format!("  {line}\n")));
        pins
    }

    fn line(&mut self, path: &Path, parts: &[&str], cgroups: &Cgroups) -> String {
        match parts {
            ["maps", name] if path.is_dir() => format!("maps/{name}"),
            ["maps", name] => {
                let info = Info::of(path);
                self.maps.insert(info.u32(4), (*name).to_owned());
                let [kind, key, value, entries] = [0, 8, 12, 16].map(|at| info.u32(at));
                // The number of entries is that of the largest table so far.
                let grows = ["backends", "cursors", "vips"].contains(name);
                let entries = if grows { String::new() } else { format!(", entries {entries}") };
                format!("maps/{name}: kind {kind}, key {key}, value {value}{entries}")
            }
            ["progs", name] => {
                let info = Info::of(path);
                self.programs.insert(info.u32(4), (*name).to_owned());
                let instructions = info.u32(20) / 8;
                let maps: BTreeSet<_> = info.maps().into_iter().map(|id| self.map(id)).collect();
                format!("progs/{name}: {instructions} instructions, maps {maps:?}")
            }
            ["apps", app, rest @ ..] => {
                let (scope, app) = app.split_once(':').unwrap_or(("no number", app));
                if let Ok(scope) = scope.parse() {
                    self.apps.insert(scope, app.to_owned());
                }
                let cgroup = |id: &str| id.parse().map(|id| cgroups.name(id));
                match rest {
                    [] => format!("apps/{app}"),
                    [id] => format!("apps/{app}/{}", cgroup(id).unwrap_or_default()),
                    [id, link @ ..] => {
                        let info = Info::of(path);
                        let (program, on, at) = (info.u32(8), info.u64(16), info.u32(24));
                        self.links.push(Link { cgroup: on, at, program });
                        let (program, on) = (self.program(program), cgroups.name(on));
                        let place = cgroup(id).unwrap_or_default();
                        let link = link.join("/");
                        format!("apps/{app}/{place}/{link}: {program} on {on} at {at}")
                    }
                }
            }
            other => other.join("/"),
        }
    }

    fn map(&self, id: u32) -> String {
        self.maps.get(&id).cloned().unwrap_or_else(|| "one without a pin".to_owned())
    }

    fn program(&self, id: u32) -> String {
        self.programs.get(&id).cloned().unwrap_or_else(|| "a program without a pin".to_owned())
    }
}

/// The files and directories below a directory.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten() {
        let path = entry.expect("read a directory").path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found
}

/// Programs on a cgroup that don't match the pinned links.
///
/// After the pin of a link is gone, the kernel detaches the link only after an RCU grace period
/// (`bpf_free_inode` in kernel/bpf/inode.c). So this waits.
fn unaccounted(cgroup: &Cgroup, links: &[Link], patience: Duration) -> Option<String> {
    let directory = File::open(cgroup.path()).ok()?;
    let id = directory.metadata().expect("inspect a cgroup").ino();
    let links = links.iter().filter(|link| link.cgroup == id);
    let pinned: BTreeSet<_> = links.map(|link| (link.at, link.program)).collect();
    let deadline = Instant::now() + patience;
    loop {
        let at = |at: &u32| query(&directory, *at).into_iter().map(|id| (*at, id)).collect();
        let attached: Vec<Vec<_>> = SOCK_ADDR.iter().map(at).collect();
        let attached = attached.concat();
        if attached.len() == pinned.len() && attached.iter().all(|it| pinned.contains(it)) {
            return None;
        }
        if Instant::now() > deadline {
            return Some(format!("(place, program): {attached:?}, by pinned links: {pinned:?}"));
        }
        sleep(Duration::from_millis(2));
    }
}

/// The ids of the programs of a kind that are attached to a cgroup.
fn query(cgroup: &File, kind: u32) -> Vec<u32> {
    let mut ids = vec![0_u32; 64];
    let mut attr = Attr::default();
    attr.u32(0, cgroup.as_raw_fd() as u32).u32(4, kind);
    attr.u64(16, ids.as_mut_ptr() as u64).u32(24, ids.len() as u32);
    attr.call(BPF_PROG_QUERY).expect("query a cgroup");
    ids.truncate(attr.read(24) as usize);
    ids
}

/// The name index, and other files with its name, except some extensions.
fn records(bpffs: &Path, without: &[&str]) -> String {
    // Follows `record::file`, for the paths of tests.
    let name = bpffs.to_string_lossy().trim_matches('/').replace('-', "%2D").replace('/', "-");
    let mut text = String::new();
    let mut paths = files(Path::new(RECORDS));
    paths.sort();
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(extension) = file.strip_prefix(&format!("{name}."))
            && !without.contains(&extension)
        {
            // The file may be gone by now. A name index without names is like none.
            let content = fs::read_to_string(&path).unwrap_or_default();
            if !(content.is_empty() && extension == "names") {
                text += &format!("record .{extension}:\n{content}\n");
            }
        }
    }
    text
}

/// The content of the maps that apply writes.
struct Maps {
    entries: BTreeMap<[u8; 12], Range>,
    slots: BTreeMap<u32, Slot>,
    cursors: Vec<Cursor>,
    scopes: BTreeMap<u64, Scope>,
    layout: [u8; 12],
}

impl Maps {
    /// Reads the maps. A missing map counts as empty.
    fn read(path: &Path) -> Self {
        let open = |name: &str| open(&path.join(name)).ok();
        let entries = open("vips").map(|map| batch::<12, 8>(&map, 4096)).unwrap_or_default();
        let entries = entries.into_iter().map(|(key, range)| (key, Range::from_bytes(range)));
        let backends = path.join("backends");
        let slots = if backends.exists() { mapped::<24>(&backends) } else { Vec::new() };
        let slots = (0..).zip(slots).filter(|(_, slot)| *slot != Slot::FREE);
        let slots = slots.map(|(index, slot)| (index, Slot::from_bytes(slot).expect("a slot")));
        let cursors = open("cursors").map(|map| batch::<4, 16>(&map, CURSORS)).unwrap_or_default();
        let cursors = cursors.into_iter().map(|(_, cursor)| Cursor::from_bytes(cursor));
        let layout = open("layout").map(|map| lookup::<12>(&map, &[0; 4]).expect("an array"));
        Self {
            entries: entries.collect(),
            slots: slots.collect(),
            cursors: cursors.collect(),
            scopes: open("scope").map(|map| scopes(&map)).unwrap_or_default(),
            layout: layout.unwrap_or_default(),
        }
    }

    fn text(&self, apps: &HashMap<u32, String>, cgroups: &Cgroups) -> String {
        let Self { entries, slots, cursors, scopes, layout } = self;
        let app = |app_id: u32| {
            let unknown = || format!("an app that is gone ({app_id})");
            apps.get(&app_id).cloned().unwrap_or_else(unknown)
        };
        let mut lines = BTreeSet::new();
        let mut rest = slots.clone();
        let mut owners: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
        for (key, range) in entries {
            let key = VipKey::from_bytes(*key).expect("a key");
            let mut line = format!("vips: {}", entry(&key, app));
            for index in range.first..range.first + range.count {
                // Another entry also leads to this slot, or the slot is free.
                let Some(slot) = rest.remove(&index) else {
                    line += " (not its slot)";
                    continue;
                };
                line += &target(&slot);
                if slot.owner != key {
                    line += " (another's slot)";
                }
                owners.entry(slot.cursor).or_default().insert((app(key.app), key.vip));
            }
            lines.insert(line);
        }
        // Retired slots become free in time.
        for slot in rest.values().filter(|slot| !slot.has(SlotFlags::RETIRED)) {
            lines.insert(format!("leftover slot of {}:{}", entry(&slot.owner, app), target(slot)));
        }
        for owners in owners.values().filter(|owners| owners.len() > 1) {
            lines.insert(format!("one cursor for {owners:?}"));
        }
        for (index, cursor) in cursors.iter().enumerate() {
            let index = index as u32;
            let retired = || rest.values().any(|slot| slot.cursor == index);
            if *cursor != Cursor::default() && !owners.contains_key(&index) && !retired() {
                lines.insert("leftover cursor".to_owned());
            }
        }
        for (cgroup, Scope { app: id, reserved }) in
            scopes.iter().filter(|(_, scope)| scope.app != 0)
        {
            if let Some(cgroup) = cgroups.0.get(cgroup) {
                lines.insert(format!("scope: {cgroup} {}, {reserved}", app(*id)));
            }
        }
        let [made_by @ .., a, b, c, d] = layout;
        let last = u32::from_ne_bytes([*a, *b, *c, *d]);
        if let Some(scope) = apps.keys().find(|scope| **scope > last) {
            lines.insert(format!("layout: scope {scope} may be given twice, the last is {last}"));
        }
        lines.insert(format!("layout: {made_by:?}"));
        lines.into_iter().map(|line| format!("  {line}\n")).collect()
    }
}

fn entry(key: &VipKey, app: impl Fn(u32) -> String) -> String {
    let VipKey { app: id, vip, port, protocol, reserved } = key;
    format!("{} {} port {port} {protocol:?} {reserved}", app(*id), Ipv4Addr::from(*vip))
}

fn target(slot: &Slot) -> String {
    let Slot { owner: _, ip, port, flags, cursor: _ } = slot;
    format!(" -> {}:{port} flags {flags}", Ipv4Addr::from(*ip))
}
