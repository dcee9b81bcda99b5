//! The eBPF object: what is in it, pinned once, and whether pinned state fits it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use aya::{
    EbpfLoader,
    programs::{CgroupSockAddr, CgroupSockAddrAttachType as Hook},
};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use sha2::{Digest as _, Sha256};
use vipnat_common::layout::{LAYOUT, Layout};

use super::{
    capacity::Capacity,
    error::{Attempt as _, Error, Result},
    kernel::{self, Need},
    state_dir::{APPS, MAPS, NEW, PROGRAMS, StateDir, names},
    sys::{self, ByteMap},
};

/// The programs, each under the name of its hook. Listed in the order in which they are attached:
/// what undoes a translation comes before what does it.
pub(super) const HOOKS: [(&str, Hook); 7] = [
    ("getpeername4", Hook::GetPeerName4),
    ("getpeername6", Hook::GetPeerName6),
    ("recvmsg4", Hook::UDPRecvMsg4),
    ("recvmsg6", Hook::UDPRecvMsg6),
    ("connect4", Hook::Connect4),
    ("connect6", Hook::Connect6),
    ("sendmsg4", Hook::UDPSendMsg4),
];

/// The maps of the object; nothing else in their directory is ours.
pub(super) const MAP_NAMES: [&str; 8] =
    ["backends", "counters", "cursors", "datagrams", "flows", LAYOUT_MAP, "scope", "vips"];

/// Holds the layout version.
pub(super) const LAYOUT_MAP: &str = "layout";

/// The object as the linker made it. Aligned, since it is read in place.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vipnat-ebpf"));

/// What there is of the pinned maps and programs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing that counts.
    Absent,
    /// Maps and programs of this very build.
    Current,
    /// Maps of this layout, programs of another build.
    OtherBuild,
    /// Maps of another layout; what differs.
    OtherLayout(String),
}

/// What it takes to make a state directory what a table says, unless another build's programs are
/// there: [`Staged::load`] asks for more.
pub(super) fn need(path: &Path) -> Need {
    if path.join(MAPS).exists() { Need::Change } else { Need::Load }
}

/// Looks at what is pinned.
pub(super) fn condition(dir: &StateDir) -> Result<Condition> {
    if !exists(dir)? {
        return Ok(Condition::Absent);
    }
    if let Some(what) = difference(dir.path())? {
        return Ok(Condition::OtherLayout(what));
    }
    let layout = pinned_layout(dir.path())?;
    let current = layout.is_some_and(|layout| layout.build == build());
    Ok(if current { Condition::Current } else { Condition::OtherBuild })
}

/// Whether all that is pinned says that it is this build's, at the cost of one look.
pub(super) fn is_current(path: &Path) -> bool {
    let layout = pinned_layout(path).ok().flatten();
    layout.is_some_and(|layout| layout.version == LAYOUT && layout.build == build())
}

/// Pins maps and programs where there are none.
///
/// They are pinned in a directory of their own that is renamed when it is complete; the maps come
/// last, so if they are there, everything is.
pub(super) fn install(dir: &StateDir, capacity: Capacity) -> Result<()> {
    let path = dir.path();
    // What a crash in the middle of the following left. Links without these maps know nothing.
    for name in [PROGRAMS, APPS] {
        dir.remove(name)?;
    }
    let new = Staged::load(dir, &[], capacity)?;
    new.stamp(build(), 0)?;
    for name in [PROGRAMS, MAPS] {
        fs::rename(new.path.join(name), path.join(name))
            .attempt(|| format!("rename {}", new.path.join(name).display()))?;
    }
    dir.remove(NEW)
}

/// Maps and programs that are loaded and pinned beside those in force.
pub(super) struct Staged {
    path: PathBuf,
}

impl Staged {
    /// Loads the object, with those of the pinned maps that are named instead of new ones, which are
    /// made so large, and pins all of it below `new`.
    pub(super) fn load(dir: &StateDir, kept: &[&'static str], capacity: Capacity) -> Result<Self> {
        kernel::check(Need::Load)?;
        dir.remove(NEW)?;
        kernel::check_features().attempt(|| "load the eBPF object into the kernel".to_owned())?;
        let mut loader = EbpfLoader::new();
        let Capacity { vips, backends, cursors } = capacity;
        loader.map_max_entries("vips", vips);
        loader.map_max_entries("backends", backends);
        loader.map_max_entries("cursors", cursors);
        let mptcp = u32::from(kernel::has_mptcp());
        loader.override_global("MPTCP", &mptcp, true);
        for name in kept {
            // aya would make a map where it can't open a pin.
            let pin = map_pin(dir.path(), name);
            sys::map_info(&pin).attempt(|| format!("open {}", pin.display()))?;
            loader.map_pin_path(name, pin);
        }
        let mut object =
            loader.load(OBJECT).attempt(|| "load the eBPF object into the kernel".to_owned())?;
        let path = dir.path().join(NEW);
        for directory in [path.clone(), path.join(MAPS), path.join(PROGRAMS)] {
            make_dir(&directory)?;
        }
        for name in MAP_NAMES {
            let map = object.map(name).unwrap_or_else(|| panic!("the object has a map {name}"));
            let pin = path.join(MAPS).join(name);
            map.pin(&pin).attempt(|| format!("pin {}", pin.display()))?;
        }
        for (name, _) in HOOKS {
            let pin = path.join(PROGRAMS).join(name);
            let program: &mut CgroupSockAddr = object
                .program_mut(name)
                .and_then(|program| program.try_into().ok())
                .unwrap_or_else(|| panic!("the object has a sock_addr program {name}"));
            program.load().attempt(|| format!("load the program {name}"))?;
            program.pin(&pin).attempt(|| format!("pin {}", pin.display()))?;
        }
        Ok(Self { path })
    }

    /// The directory that has them.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what these maps are, and who made the programs.
    pub(super) fn stamp(&self, build: [u8; 4], last_scope: u32) -> Result<()> {
        write_layout(&self.path, Layout { version: LAYOUT, build, last_scope })
    }
}

/// Whether the maps are pinned, and so everything is.
///
/// # Errors
///
/// If that can't be told: what is there must not be taken for missing.
pub(super) fn exists(dir: &StateDir) -> Result<bool> {
    let maps = dir.path().join(MAPS);
    maps.try_exists().attempt(|| format!("read {}", maps.display()))
}

/// Refuses maps that are not of this layout.
pub(super) fn check_layout(path: &Path) -> Result<()> {
    match difference(path)? {
        Some(what) => Err(Error::Layout { dir: path.to_owned(), what }),
        None => Ok(()),
    }
}

/// Compares the pinned maps with those of the object: the version first, which says most, then
/// kind, sizes and flags, since aya takes a pinned map as it is.
fn difference(path: &Path) -> Result<Option<String>> {
    match pinned_layout(path)? {
        Some(Layout { version: LAYOUT, .. }) => {}
        Some(Layout { version, .. }) => {
            return Ok(Some(format!("version {version}, this vipnat has {LAYOUT}")));
        }
        None => return Ok(Some("it has no readable version".to_owned())),
    }
    for name in MAP_NAMES {
        if let Some(what) = map_difference(path, name)? {
            return Ok(Some(what));
        }
    }
    for (name, _) in HOOKS {
        if !names(&path.join(PROGRAMS))?.iter().any(|pinned| pinned == name) {
            return Ok(Some(format!("program {name} is missing")));
        }
    }
    Ok(None)
}

/// Refuses programs for other hooks than this build's: what attaches some of them would leave the others
/// out.
pub(super) fn check_hooks(path: &Path) -> Result<()> {
    let mut ours = HOOKS.map(|(hook, _)| hook);
    ours.sort_unstable();
    let pinned = names(&path.join(PROGRAMS))?;
    if pinned == ours {
        return Ok(());
    }
    let what = format!("it has programs for {}", pinned.join(", "));
    Err(Error::Layout { dir: path.to_owned(), what })
}

/// How a pinned map differs from the object's of its name, in kind, sizes and flags. How much it holds is
/// left to whoever made it.
pub(super) fn map_difference(path: &Path, name: &str) -> Result<Option<String>> {
    static PARSED: OnceLock<aya_obj::Object> = OnceLock::new();
    let object = PARSED
        .get_or_init(|| aya_obj::Object::parse(OBJECT).expect("the object is what was built"));
    let Some(expected) = object.maps.get(name) else {
        return Ok(Some(format!("map {name} is unknown")));
    };
    let pin = map_pin(path, name);
    let info = match sys::map_info(&pin) {
        Ok(info) => info,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(format!("map {name} is missing")));
        }
        // Whatever else keeps it from being read says nothing of what it is.
        Err(error) => return Err(error).attempt(|| format!("open {}", pin.display())),
    };
    let found = (info.type_, info.key_size, info.value_size, info.map_flags);
    let wanted =
        (expected.map_type(), expected.key_size(), expected.value_size(), expected.map_flags());
    Ok((found != wanted).then(|| {
        format!("map {name} has (kind, key size, value size, flags) {found:?}, not {wanted:?}")
    }))
}

/// What tells builds apart.
pub(super) fn build() -> [u8; 4] {
    static BUILD: OnceLock<[u8; 4]> = OnceLock::new();
    *BUILD.get_or_init(|| {
        let hash: [u8; 32] = Sha256::digest(OBJECT).into();
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    })
}

/// What the pinned state is; `None` if there is no such map, or another of its name.
pub(super) fn pinned_layout(path: &Path) -> Result<Option<Layout>> {
    let map = match layout_map(path) {
        Err(Error::Io { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    let value = map.lookup([0; 4]).attempt(|| "read the map layout".to_owned())?;
    Ok(value.map(Layout::from_bytes))
}

/// Writes what the pinned state is.
pub(super) fn write_layout(path: &Path, layout: Layout) -> Result<()> {
    let map = layout_map(path)?;
    map.update([0; 4], layout.to_bytes()).map(drop).attempt(|| "write the map layout".to_owned())
}

pub(super) fn layout_map(path: &Path) -> Result<ByteMap<4, 12>> {
    let pin = map_pin(path, LAYOUT_MAP);
    ByteMap::open(&pin, BPF_MAP_TYPE_ARRAY).attempt(|| format!("open {}", pin.display()))
}

/// Where a map is pinned.
pub(super) fn map_pin(path: &Path, name: &str) -> PathBuf {
    path.join(MAPS).join(name)
}

/// The pinned programs.
pub(super) struct Programs {
    dir: PathBuf,
    ids: [u32; HOOKS.len()],
}

impl Programs {
    /// Looks them up.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let dir = path.join(PROGRAMS);
        let mut ids = [0; HOOKS.len()];
        for ((hook, _), id) in HOOKS.iter().zip(&mut ids) {
            let pin = dir.join(hook);
            *id = sys::program_id(&pin).attempt(|| format!("open {}", pin.display()))?;
        }
        Ok(Self { dir, ids })
    }

    /// The id of each, in the order of [`HOOKS`].
    pub(super) fn ids(&self) -> [u32; HOOKS.len()] {
        self.ids
    }

    /// Where the program of a hook is pinned.
    pub(super) fn pin(&self, hook: &str) -> PathBuf {
        self.dir.join(hook)
    }
}

/// Opens a pinned program.
pub(super) fn program(path: &Path, name: &str, hook: Hook) -> Result<CgroupSockAddr> {
    let pin = path.join(PROGRAMS).join(name);
    CgroupSockAddr::from_pin(&pin, hook).attempt(|| format!("open {}", pin.display()))
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir(path).attempt(|| format!("make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_these_maps_and_hooks() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let maps = object.maps.keys().map(String::as_str);
        // The section of constants is no part of the state: each program holds its own.
        let mut maps: Vec<_> = maps.filter(|name| !name.starts_with('.')).collect();
        maps.sort_unstable();
        assert_eq!(maps, MAP_NAMES);
        let mut programs: Vec<_> = object.programs.keys().map(String::as_str).collect();
        programs.sort_unstable();
        let mut hooks = HOOKS.map(|(hook, _)| hook);
        hooks.sort_unstable();
        assert_eq!(programs, hooks);
    }
}
