//! Repairs pins that another program removed or replaced, before anything is read through them.
//!
//! vipnat can't make the map `scope` anew: attached cgroups keep the storage of the map with which their
//! links were made. The programs use that map, so vipnat finds it through them. It removes any other pin of
//! an object that the programs do not use. It makes a missing pin anew, as for another layout.

use std::{collections::HashSet, fs, io};

use vipnat_common::hooks::HOOKS;

use crate::{
    kernel::{
        bpf_syscall, compat,
        error::{Attempt as _, Error, MachineError, Result},
        hook_query::{self, ProgramInfo},
        pins::{LAYOUT_MAP, MAP_NAMES, PROGRAMS, map_pin},
    },
    state::{
        links,
        staging::{self, Condition},
        state_dir::StateDir,
    },
};

/// The map that stays in all layouts.
const SCOPE: &str = "scope";

/// Repairs the pins of maps and programs. Returns whether any was wrong.
pub(crate) fn repair_pins(dir: &StateDir) -> Result<bool> {
    if !staging::exists(dir)? {
        return Ok(false);
    }
    let mut programs = Vec::new();
    for (hook, _) in HOOKS {
        let pin = dir.path().join(PROGRAMS).join(hook);
        match hook_query::pinned_program(&pin) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            info => programs.push((hook, info.attempt(|| format!("open {}", pin.display()))?)),
        }
    }
    let mut wrong = repair_scope(dir, &programs)?;
    // During a takeover from another build, programs and maps need not belong together.
    if staging::condition(dir)? != Condition::Current {
        return Ok(wrong);
    }
    let scope = pinned(dir, SCOPE)?;
    let mut used = HashSet::new();
    for (hook, program) in programs {
        if program.name == hook && scope.is_some_and(|scope| program.maps.contains(&scope)) {
            used.extend(program.maps);
        } else {
            wrong = true;
            let pin = dir.path().join(PROGRAMS).join(hook);
            fs::remove_file(&pin).attempt(|| format!("remove {}", pin.display()))?;
        }
    }
    // Programs never read the layout map.
    for name in MAP_NAMES.into_iter().filter(|name| *name != LAYOUT_MAP) {
        if !used.is_empty() && pinned(dir, name)?.is_some_and(|map| !used.contains(&map)) {
            wrong = true;
            let pin = map_pin(dir.path(), name);
            fs::remove_file(&pin).attempt(|| format!("remove {}", pin.display()))?;
        }
    }
    Ok(wrong)
}

/// The id of a pinned map; `None` if it is missing.
fn pinned(dir: &StateDir, name: &str) -> Result<Option<u32>> {
    let pin = map_pin(dir.path(), name);
    match bpf_syscall::map_info(&pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        info => Ok(Some(info.attempt(|| format!("open {}", pin.display()))?.id)),
    }
}

/// Pins the map `scope` that the programs use, if another map or none is pinned.
fn repair_scope(dir: &StateDir, programs: &[(&str, ProgramInfo)]) -> Result<bool> {
    let of_name = |(hook, program): &&(&str, ProgramInfo)| program.name == *hook;
    let mut users: Vec<_> = programs.iter().filter(of_name).map(|(_, info)| info.clone()).collect();
    let right = compat::map_difference(&map_pin(dir.path(), SCOPE), SCOPE)?.is_none();
    let used = |id: u32| users.iter().any(|program| program.maps.contains(&id));
    if right && (users.is_empty() || pinned(dir, SCOPE)?.is_some_and(used)) {
        return Ok(false);
    }
    let privileged = |result: io::Result<Option<ProgramInfo>>| {
        match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::from(MachineError::MissingPrivileges(
                "the pin of the map scope was lost, and to find the map again, vipnat needs CAP_SYS_ADMIN; run \
                 it as root"
                    .to_owned(),
            )))
        }
        other => other.attempt(|| "read a program".to_owned()),
    }
    };
    // Programs that run on cgroups count more than pinned ones.
    for app in links::read(dir)? {
        for id in app.programs() {
            users.extend(privileged(hook_query::program_by_id(id))?);
        }
    }
    for id in users.iter().rev().flat_map(|program| &program.maps) {
        let info = hook_query::map_by_id(*id);
        let Some((_, name)) = info.attempt(|| format!("read map {id}"))? else {
            continue;
        };
        if name == SCOPE {
            let pin = map_pin(dir.path(), SCOPE);
            hook_query::pin_map(*id, &pin).attempt(|| format!("pin {}", pin.display()))?;
            return Ok(true);
        }
    }
    Err(Error::Refused(format!(
        "the map scope in {} was lost, and no program has it any more; run `vipnat flush`, then apply again",
        dir.path().display()
    )))
}
