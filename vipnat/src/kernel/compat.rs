//! Compares the layout, maps and programs of a state directory with those of this build.

use std::{io, path::Path};

use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use vipnat_common::{
    abi::{LAYOUT, Layout},
    hooks::HOOKS,
};

use super::{
    bpf_syscall,
    byte_map::ByteMap,
    dir_names::names,
    error::{Attempt as _, Error, Result},
    loader::{build, object},
    pins::{LAYOUT_MAP, MAP_NAMES, MAPS, PROGRAMS, map_pin},
    preflight::Privilege,
};

/// The privilege that an apply needs. If the pinned programs are of another build, it needs
/// [`Privilege::Load`] later, when it replaces them.
pub(crate) fn need(path: &Path) -> Privilege {
    if path.join(MAPS).exists() { Privilege::Change } else { Privilege::Load }
}

/// Whether the layout map names this build. It reads nothing else.
pub(crate) fn is_current(path: &Path) -> bool {
    pinned_layout(path).ok().flatten().is_some_and(is_of_this_build)
}

/// Whether a layout map with this content names this build.
pub(crate) fn is_of_this_build(layout: Layout) -> bool {
    layout.version == LAYOUT && layout.build == build()
}

/// Refuses maps of another layout.
pub(crate) fn check_layout(path: &Path) -> Result<()> {
    match difference(path)? {
        Some(what) => Err(Error::Layout { dir: path.to_owned(), what }),
        None => Ok(()),
    }
}

/// Compares the pinned maps with those of the object, and returns the first difference.
///
/// It compares the version first, since that explains most, then kind, sizes and flags. aya does not
/// check these when it takes over a pinned map.
pub(crate) fn difference(path: &Path) -> Result<Option<String>> {
    match pinned_layout(path)? {
        Some(Layout { version: LAYOUT, .. }) => {}
        Some(Layout { version, .. }) => {
            return Ok(Some(format!("version {version}, this vipnat has {LAYOUT}")));
        }
        None => return Ok(Some("it has no readable version".to_owned())),
    }
    for name in MAP_NAMES {
        if let Some(what) = map_difference(&map_pin(path, name), name)? {
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

/// Refuses a state directory whose programs are for other hooks than this build's. Attaching an app would
/// leave out some of its hooks.
pub(crate) fn check_hooks(path: &Path) -> Result<()> {
    let mut ours = HOOKS.map(|(hook, _)| hook);
    ours.sort_unstable();
    let pinned = names(&path.join(PROGRAMS))?;
    if pinned == ours {
        return Ok(());
    }
    let what = format!("it has programs for {}", pinned.join(", "));
    Err(Error::Layout { dir: path.to_owned(), what })
}

/// How a pinned map differs in kind, sizes and flags from the object's map of this name. Its capacity may
/// be any.
pub(crate) fn map_difference(pin: &Path, name: &str) -> Result<Option<String>> {
    let Some(expected) = object().maps.get(name) else {
        return Ok(Some(format!("map {name} is unknown")));
    };
    let info = match bpf_syscall::map_info(pin) {
        Ok(info) => info,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(format!("map {name} is missing")));
        }
        // Other errors say nothing about the map itself.
        Err(error) => return Err(error).attempt(|| format!("open {}", pin.display())),
    };
    let found = (info.type_, info.key_size, info.value_size, info.map_flags);
    let wanted =
        (expected.map_type(), expected.key_size(), expected.value_size(), expected.map_flags());
    Ok((found != wanted).then(|| {
        format!("map {name} has (kind, key size, value size, flags) {found:?}, not {wanted:?}")
    }))
}

/// Reads the layout of the pinned state; `None` if there is no layout map, or it has another kind or size.
pub(crate) fn pinned_layout(path: &Path) -> Result<Option<Layout>> {
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

/// Writes the layout of a state directory.
pub(crate) fn write_layout(path: &Path, layout: Layout) -> Result<()> {
    let map = layout_map(path)?;
    map.update([0; 4], layout.to_bytes()).map(drop).attempt(|| "write the map layout".to_owned())
}

/// Opens the layout map of a state directory.
pub(crate) fn layout_map(path: &Path) -> Result<ByteMap<4, 12>> {
    let pin = map_pin(path, LAYOUT_MAP);
    ByteMap::open(&pin, BPF_MAP_TYPE_ARRAY).attempt(|| format!("open {}", pin.display()))
}
