//! The eBPF object: parses it, loads it into the kernel, and pins its maps and programs.

use std::{fs, path::Path, sync::OnceLock};

use aya::{EbpfLoader, programs::CgroupSockAddr};
use sha2::{Digest as _, Sha256};
use vipnat_common::hooks::HOOKS;
use vipnat_core::model::Capacity;

use super::{
    bpf_syscall,
    error::{Attempt as _, Result},
    pins::{MAP_NAMES, MAPS, PROGRAMS, carried_pin},
    preflight,
};

/// The object as the linker made it. It is aligned, because aya reads it in place.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vipnat-ebpf"));

/// The maps and programs of the object.
pub(crate) fn object() -> &'static aya_obj::Object {
    static PARSED: OnceLock<aya_obj::Object> = OnceLock::new();
    PARSED.get_or_init(|| aya_obj::Object::parse(OBJECT).expect("the built object parses"))
}

/// The build id: the first bytes of the object's SHA-256.
pub(crate) fn build() -> [u8; 4] {
    static BUILD: OnceLock<[u8; 4]> = OnceLock::new();
    *BUILD.get_or_init(|| {
        let hash: [u8; 32] = Sha256::digest(OBJECT).into();
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    })
}

/// Loads the object, and pins its maps and programs in `path`, which must not exist yet.
///
/// The maps of `kept` are those pinned in `state`; all others are new, and as large as `capacity` says.
///
/// # Errors
///
/// A system call fails, or the verifier refuses a program.
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
        // If aya can't open a pin, it makes a new map. So check the pin first.
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
    use aya_obj::{ProgramSection, generated::bpf_attach_type};

    use super::*;

    #[test]
    fn the_object_has_these_maps_and_hooks() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let maps = object.maps.keys().map(String::as_str);
        // Sections of constants are not part of the state: each program holds its own.
        let mut maps: Vec<_> = maps.filter(|name| !name.starts_with('.')).collect();
        maps.sort_unstable();
        assert_eq!(maps, MAP_NAMES);
        let programs = object.programs.iter().map(|(name, program)| match program.section {
            ProgramSection::CgroupSockAddr { attach_type } => {
                (name.as_str(), bpf_attach_type::from(attach_type) as u32)
            }
            ref other => panic!("{name} is in the section {other:?}"),
        });
        let mut programs: Vec<_> = programs.collect();
        programs.sort_unstable();
        let mut hooks = HOOKS;
        hooks.sort_unstable();
        assert_eq!(programs, hooks);
    }
}
