//! The eBPF object: loaded into the kernel, and pinned.

use std::{fs, path::Path, sync::OnceLock};

use aya::{EbpfLoader, programs::CgroupSockAddr};
use sha2::{Digest as _, Sha256};
use vipnat_core::model::Capacity;

use super::{
    bpf_syscall,
    error::{Attempt as _, Result},
    pins::{HOOKS, MAP_NAMES, MAPS, PROGRAMS, carried_pin},
    preflight::{self},
};

/// The object as the linker made it. Aligned, since it is read in place.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vipnat-ebpf"));

/// The maps and programs of the object.
pub(crate) fn object() -> &'static aya_obj::Object {
    static PARSED: OnceLock<aya_obj::Object> = OnceLock::new();
    PARSED.get_or_init(|| aya_obj::Object::parse(OBJECT).expect("the object is what was built"))
}

/// What tells builds apart.
pub(crate) fn build() -> [u8; 4] {
    static BUILD: OnceLock<[u8; 4]> = OnceLock::new();
    *BUILD.get_or_init(|| {
        let hash: [u8; 32] = Sha256::digest(OBJECT).into();
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    })
}

/// Loads the object, with the maps of `kept` as they are pinned in `state` instead of new ones, which
/// hold as much as `capacity` says, and pins all of it in `path`, which does not exist.
///
/// # Errors
///
/// System calls that fail; what the verifier refuses.
pub(crate) fn load_into(
    path: &Path,
    state: &Path,
    kept: &[&'static str],
    capacity: Capacity,
) -> Result<()> {
    preflight::check_features().attempt(|| "load the eBPF object into the kernel".to_owned())?;
    let mut loader = EbpfLoader::new();
    let Capacity { vips, backends, cursors } = capacity;
    loader.map_max_entries("vips", vips);
    loader.map_max_entries("backends", backends);
    loader.map_max_entries("cursors", cursors);
    let mptcp = u32::from(preflight::has_mptcp());
    loader.override_global("MPTCP", &mptcp, true);
    for name in kept {
        // aya would make a map where it can't open a pin.
        let pin = carried_pin(state, name);
        bpf_syscall::map_info(&pin).attempt(|| format!("open {}", pin.display()))?;
        loader.map_pin_path(name, pin);
    }
    let mut object =
        loader.load(OBJECT).attempt(|| "load the eBPF object into the kernel".to_owned())?;
    for directory in [path.to_owned(), path.join(MAPS), path.join(PROGRAMS)] {
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
    Ok(())
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
