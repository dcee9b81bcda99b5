//! The eBPF object: what is in it, pinned once, and whether pinned state fits it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    EbpfLoader,
    maps::MapData,
    programs::{CgroupSockAddr, CgroupSockAddrAttachType as Hook},
};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use sha2::{Digest as _, Sha256};
use vipnat_common::layout::LAYOUT;

use super::{
    error::{Attempt as _, Error, Result},
    kernel,
    state_dir::{APPS, MAPS, NEW, PROGRAMS, StateDir, names},
    sys::ByteMap,
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

/// Makes sure that the maps and programs are pinned and of this layout.
///
/// They are pinned in a directory of their own that is renamed when it is complete; the maps come
/// last, so if they are there, everything is.
pub(super) fn ensure(dir: &StateDir) -> Result<()> {
    let path = dir.path();
    if path.join(MAPS).exists() {
        check_layout(path)?;
        // What an interrupted command left once everything was in its place.
        return dir.remove(NEW);
    }
    // What a crash in the middle of the following left. Links without these maps know nothing.
    for name in [NEW, PROGRAMS, APPS] {
        dir.remove(name)?;
    }

    kernel::check_features().attempt(|| "load the eBPF object into the kernel".to_owned())?;
    let mptcp = u32::from(kernel::has_mptcp());
    let mut object = EbpfLoader::new()
        .override_global("MPTCP", &mptcp, true)
        .load(OBJECT)
        .attempt(|| "load the eBPF object into the kernel".to_owned())?;
    let new = path.join(NEW);
    make_dir(&new)?;
    make_dir(&new.join(MAPS))?;
    make_dir(&new.join(PROGRAMS))?;
    for name in MAP_NAMES {
        let map = object.map(name).unwrap_or_else(|| panic!("the object has a map {name}"));
        let pin = new.join(MAPS).join(name);
        map.pin(&pin).attempt(|| format!("pin {}", pin.display()))?;
    }
    let layout = layout_map(&new)?;
    let ([a, b, c, d], [e, f, g, h]) = (LAYOUT.to_ne_bytes(), build());
    let value = [a, b, c, d, e, f, g, h, 0, 0, 0, 0];
    layout.update([0; 4], value).attempt(|| "write the layout version".to_owned())?;
    for (name, _) in HOOKS {
        let pin = new.join(PROGRAMS).join(name);
        let program: &mut CgroupSockAddr = object
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .unwrap_or_else(|| panic!("the object has a sock_addr program {name}"));
        program.load().attempt(|| format!("load the program {name}"))?;
        program.pin(&pin).attempt(|| format!("pin {}", pin.display()))?;
    }
    for name in [PROGRAMS, MAPS] {
        fs::rename(new.join(name), path.join(name))
            .attempt(|| format!("rename {}", new.join(name).display()))?;
    }
    dir.remove(NEW)
}

/// Whether the maps are pinned, and so everything is.
pub(super) fn exists(dir: &StateDir) -> bool {
    dir.path().join(MAPS).exists()
}

/// Compares the pinned maps with those of the object: the version first, which says most, then
/// kind, sizes and capacity, since aya takes a pinned map as it is.
pub(super) fn check_layout(path: &Path) -> Result<()> {
    let differs = |what: String| Err(Error::Layout { dir: path.to_owned(), what });

    match pinned_layout(path)? {
        Some((LAYOUT, _)) => {}
        Some((other, _)) => return differs(format!("version {other}, this vipnat has {LAYOUT}")),
        None => return differs("it has no readable version".to_owned()),
    }
    let object = aya_obj::Object::parse(OBJECT).attempt(|| "read the eBPF object".to_owned())?;
    for (name, expected) in object.maps.iter().filter(|(name, _)| is_pinned(name)) {
        let Ok(pinned) = MapData::from_pin(map_pin(path, name)) else {
            return differs(format!("map {name} is missing"));
        };
        let info = pinned.info().attempt(|| format!("inspect the map {name}"))?;
        let found = (
            info.map_type().map_or(0, |kind| kind as u32),
            info.key_size(),
            info.value_size(),
            info.max_entries(),
            info.map_flags(),
        );
        let wanted = (
            expected.map_type(),
            expected.key_size(),
            expected.value_size(),
            expected.max_entries(),
            expected.map_flags(),
        );
        if found != wanted {
            return differs(format!(
                "map {name} has (kind, key size, value size, entries, flags) {found:?}, not {wanted:?}"
            ));
        }
    }
    for (name, _) in HOOKS {
        if !names(&path.join(PROGRAMS))?.iter().any(|pinned| pinned == name) {
            return differs(format!("program {name} is missing"));
        }
    }
    Ok(())
}

/// Whether the pinned programs are those of this build.
pub(super) fn is_this_build(path: &Path) -> Result<bool> {
    Ok(pinned_layout(path)?.is_some_and(|(_, pinned)| pinned == build()))
}

/// What tells builds apart.
fn build() -> [u8; 4] {
    let hash: [u8; 32] = Sha256::digest(OBJECT).into();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

/// Version and build in the pinned state; `None` if there is no such map, or another of its name.
fn pinned_layout(path: &Path) -> Result<Option<(u32, [u8; 4])>> {
    let map = match layout_map(path) {
        Err(Error::Io { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    let value = map.lookup([0; 4]).attempt(|| "read the layout version".to_owned())?;
    Ok(value.map(|[a, b, c, d, build @ .., _, _, _, _]| (u32::from_ne_bytes([a, b, c, d]), build)))
}

pub(super) fn layout_map(path: &Path) -> Result<ByteMap<4, 12>> {
    let pin = map_pin(path, LAYOUT_MAP);
    ByteMap::open(&pin, BPF_MAP_TYPE_ARRAY).attempt(|| format!("open {}", pin.display()))
}

/// Whether a map of the object is part of the state. The section of constants is not: each program
/// holds its own.
fn is_pinned(name: &str) -> bool {
    !name.starts_with('.')
}

/// Where a map is pinned.
pub(super) fn map_pin(path: &Path, name: &str) -> PathBuf {
    path.join(MAPS).join(name)
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
        let mut maps: Vec<_> = maps.filter(|name| is_pinned(name)).collect();
        maps.sort_unstable();
        assert_eq!(maps, MAP_NAMES);
        let mut programs: Vec<_> = object.programs.keys().map(String::as_str).collect();
        programs.sort_unstable();
        let mut hooks = HOOKS.map(|(hook, _)| hook);
        hooks.sort_unstable();
        assert_eq!(programs, hooks);
    }
}
