//! The ids of the pinned maps and programs, to find out later whether pins were removed or exchanged.

use std::{io, path::Path};

use vipnat_common::hooks::HOOKS;

use super::{
    bpf_syscall,
    error::{Attempt as _, Result},
    pins::{MAP_NAMES, PROGRAMS, map_pin},
};

/// The id of each pinned object; `None` if the pin is missing, or another kind of object has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinnedIds {
    maps: [Option<u32>; MAP_NAMES.len()],
    programs: [Option<u32>; HOOKS.len()],
}

impl PinnedIds {
    /// Reads the ids of a state directory.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let (mut maps, mut programs) = ([None; MAP_NAMES.len()], [None; HOOKS.len()]);
        for (name, id) in MAP_NAMES.into_iter().zip(&mut maps) {
            let pin = map_pin(path, name);
            *id = known(bpf_syscall::map_info(&pin).map(|info| info.id))
                .attempt(|| format!("open {}", pin.display()))?;
        }
        for ((hook, _), id) in HOOKS.into_iter().zip(&mut programs) {
            let pin = path.join(PROGRAMS).join(hook);
            *id = known(bpf_syscall::program_id(&pin))
                .attempt(|| format!("open {}", pin.display()))?;
        }
        Ok(Self { maps, programs })
    }

    /// What happened to the pins of this value, if `now` was read later.
    pub(crate) fn differences(&self, now: &Self) -> Vec<String> {
        let maps = MAP_NAMES.into_iter().zip(self.maps.iter().zip(&now.maps));
        let maps = maps.map(|(name, ids)| ("map", name, ids));
        let programs = HOOKS.into_iter().zip(self.programs.iter().zip(&now.programs));
        let programs = programs.map(|((hook, _), ids)| ("program", hook, ids));
        let differ = maps.chain(programs).filter(|(_, _, (before, now))| before != now);
        let text = |(kind, name, (_, now)): (&str, &str, (_, &Option<u32>))| match now {
            None => format!("the pin of {kind} {name} was removed"),
            Some(_) => format!("the pin of {kind} {name} leads to another object"),
        };
        differ.map(text).collect()
    }
}

/// The id, if the pin leads to an object of the right kind.
fn known(id: io::Result<u32>) -> io::Result<Option<u32>> {
    match id {
        Ok(id) => Ok(Some(id)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
