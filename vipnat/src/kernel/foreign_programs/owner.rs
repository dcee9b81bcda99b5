//! Finds out which vipnat a program belongs to, if any.

use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeSet, HashMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
};

use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED;
use vipnat_common::hooks::{HOOKS, is_hook};

use crate::kernel::{
    bpf_syscall,
    dir_names::names,
    error::{Attempt as _, Result},
    hook_query::{self, ProgramInfo},
    pins::{BPFFS, PROGRAMS, map_pin},
};

/// The owner of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The vipnat of this state directory, of any build.
    Us,
    /// Another vipnat, by the id of its map `scope`.
    Vipnat(u32),
    /// Another tool; or the owner is unknown.
    Other,
}

/// A program; its display is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) id: u32,
    /// Empty if it has no name, or the name is unknown.
    pub(crate) name: String,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program {}", self.id)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " ({:?})", self.name) }
    }
}

/// Another state directory.
struct Instance {
    dir: PathBuf,
    scope: u32,
    programs: Vec<u32>,
}

/// The known programs and their owners.
///
/// Every vipnat has one map `scope`, which all its programs use. Its layout never changes, and it outlives
/// upgrades. So the id of this map identifies the owner of a program.
pub(crate) struct Owners {
    state: PathBuf,
    /// The id of our own map `scope`, once it was asked for; 0 if there is none.
    scope: OnceCell<u32>,
    /// Whether the pinned programs of our own state directory are known.
    read: OnceCell<()>,
    programs: RefCell<HashMap<u32, (Program, Owner)>>,
    instances: OnceCell<Vec<Instance>>,
}

impl Owners {
    /// Knows nothing yet. Most changes of a table ask for no owner.
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            scope: OnceCell::new(),
            read: OnceCell::new(),
            programs: RefCell::default(),
            instances: OnceCell::new(),
        }
    }

    fn scope(&self) -> u32 {
        *self.scope.get_or_init(|| scope_of(&self.state))
    }

    /// Records the pinned programs of our own state directory as ours.
    fn read_pinned(&self) {
        self.read.get_or_init(|| {
            let pinned = pinned_programs(&self.state);
            self.are_ours(&pinned.into_iter().map(Some).collect::<Vec<_>>());
        });
    }

    /// Records that these programs are ours.
    pub(crate) fn are_ours(&self, programs: &[Option<u32>]) {
        let mut known = self.programs.borrow_mut();
        for id in programs.iter().flatten() {
            let program = Program { id: *id, name: String::new() };
            known.entry(*id).or_insert((program, Owner::Us));
        }
    }

    /// The owner of a program, given by its id.
    pub(crate) fn owner(&self, id: u32) -> Result<Owner> {
        Ok(self.look_up(id)?.1)
    }

    /// A program, given by its id.
    pub(crate) fn program(&self, id: u32) -> Result<Program> {
        Ok(self.look_up(id)?.0)
    }

    fn look_up(&self, id: u32) -> Result<(Program, Owner)> {
        self.read_pinned();
        if let Some(known) = self.programs.borrow().get(&id) {
            return Ok(known.clone());
        }
        let found = match hook_query::program_by_id(id) {
            // Without CAP_SYS_ADMIN, only the pins show an owner.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let instance = self.instances().iter().find(|other| other.programs.contains(&id));
                let owner = instance.map_or(Owner::Other, |other| Owner::Vipnat(other.scope));
                (Program { id, name: String::new() }, owner)
            }
            info => {
                let info = info.attempt(|| format!("read program {id}"))?.unwrap_or_default();
                let owner = self.owner_by_maps(&info)?;
                (Program { id, name: info.name }, owner)
            }
        };
        self.programs.borrow_mut().insert(id, found.clone());
        Ok(found)
    }

    /// The owner of a program, by the maps that it uses.
    fn owner_by_maps(&self, program: &ProgramInfo) -> Result<Owner> {
        if !is_hook(&program.name) {
            return Ok(Owner::Other);
        }
        for id in &program.maps {
            if *id == self.scope() {
                return Ok(Owner::Us);
            }
            let map = hook_query::map_by_id(*id).attempt(|| format!("read map {id}"))?;
            let kind = BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED as u32;
            if map.is_some_and(|(info, name)| {
                name == "scope" && (info.type_, info.key_size, info.value_size) == (kind, 8, 8)
            }) {
                return Ok(Owner::Vipnat(*id));
            }
        }
        Ok(Owner::Other)
    }

    /// The ids of the cgroups to which other vipnats are attached, with one of the programs there. Without
    /// CAP_SYS_ADMIN, it finds none.
    pub(crate) fn cgroups_of_others(&self) -> Result<HashMap<u64, u32>> {
        let all = match hook_query::programs() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(HashMap::new());
            }
            all => all.attempt(|| "read the programs of this machine".to_owned())?,
        };
        let mut of_others = HashSet::new();
        for program in all {
            if matches!(self.owner_by_maps(&program)?, Owner::Vipnat(_)) {
                of_others.insert(program.id);
            }
        }
        if of_others.is_empty() {
            return Ok(HashMap::new());
        }
        let links = hook_query::cgroup_links();
        let links = links.attempt(|| "read the links of this machine".to_owned())?;
        let theirs = links.iter().filter(|link| of_others.contains(&link.program));
        Ok(theirs.map(|link| (link.cgroup, link.program)).collect())
    }

    /// The state directory of the vipnat with this map `scope`, if it is in a usual place.
    pub(crate) fn directory_of(&self, scope: u32) -> Option<PathBuf> {
        let other = self.instances().iter().find(|other| other.scope == scope)?;
        Some(other.dir.clone())
    }

    /// Other state directories: those beside ours, and those on the usual bpffs.
    fn instances(&self) -> &[Instance] {
        self.instances.get_or_init(|| {
            let places = [self.state.parent().unwrap_or(Path::new("/")), Path::new(BPFFS)];
            let places: BTreeSet<_> = places.into_iter().collect();
            let beside = places.into_iter().flat_map(|place| {
                names(place).unwrap_or_default().into_iter().map(|name| place.join(name))
            });
            let found = beside.map(|dir| {
                let (scope, programs) = (scope_of(&dir), pinned_programs(&dir));
                Instance { dir, scope, programs }
            });
            found.filter(|other| ![0, self.scope()].contains(&other.scope)).collect()
        })
    }
}

/// The id of a state directory's map `scope`; 0, which is no valid id, if there is none.
fn scope_of(state: &Path) -> u32 {
    bpf_syscall::map_info(&map_pin(state, "scope")).map_or(0, |info| info.id)
}

/// The ids of the programs that a state directory has pinned.
fn pinned_programs(state: &Path) -> Vec<u32> {
    let pins = HOOKS.iter().map(|(hook, _)| state.join(PROGRAMS).join(hook));
    pins.filter_map(|pin| bpf_syscall::program_id(&pin).ok()).collect()
}
