//! Whose a program is.

use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeSet, HashMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
};

use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED;

use crate::kernel::{
    bpf_syscall,
    error::{Attempt as _, Result},
    hook_query::{self, ProgramInfo},
    pins::{BPFFS, HOOKS, PROGRAMS, map_pin, names},
};

/// Who a program belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The vipnat of this state directory, of whichever build.
    Us,
    /// Another vipnat, by the id of its map `scope`.
    Vipnat(u32),
    /// Somebody else; or it can't be told.
    Other,
}

/// A program, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) id: u32,
    /// Empty if it has none, or it can't be told.
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

/// What is known of programs.
///
/// Every vipnat has one map `scope`, whose layout is frozen for ever, and which outlives upgrades. All its
/// programs use it. So it tells which program is whose.
pub(crate) struct Owners {
    state: PathBuf,
    /// The id of our own map `scope`; 0 if there is none.
    scope: u32,
    programs: RefCell<HashMap<u32, (Program, Owner)>>,
    instances: OnceCell<Vec<Instance>>,
}

impl Owners {
    pub(crate) fn new(state: &Path) -> Self {
        let owners = Self {
            state: state.to_owned(),
            scope: scope_of(state),
            programs: RefCell::default(),
            instances: OnceCell::new(),
        };
        let pinned = pinned_programs(state);
        owners.are_ours(&pinned.into_iter().map(Some).collect::<Vec<_>>());
        owners
    }

    /// Notes that these programs are ours.
    pub(crate) fn are_ours(&self, programs: &[Option<u32>]) {
        let mut known = self.programs.borrow_mut();
        for id in programs.iter().flatten() {
            let program = Program { id: *id, name: String::new() };
            known.entry(*id).or_insert((program, Owner::Us));
        }
    }

    pub(crate) fn owner(&self, id: u32) -> Result<Owner> {
        Ok(self.look_up(id)?.1)
    }

    pub(crate) fn program(&self, id: u32) -> Result<Program> {
        Ok(self.look_up(id)?.0)
    }

    fn look_up(&self, id: u32) -> Result<(Program, Owner)> {
        if let Some(known) = self.programs.borrow().get(&id) {
            return Ok(known.clone());
        }
        let found = match hook_query::program_by_id(id) {
            // Only what pins say can be known.
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

    fn owner_by_maps(&self, program: &ProgramInfo) -> Result<Owner> {
        if !HOOKS.iter().any(|(hook, _)| *hook == program.name) {
            return Ok(Owner::Other);
        }
        for id in &program.maps {
            if *id == self.scope {
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

    /// The cgroups to which other vipnats are attached, by id, with one of the programs there. None are
    /// known without CAP_SYS_ADMIN.
    pub(crate) fn foreign_cgroups(&self) -> Result<HashMap<u64, u32>> {
        let all = match hook_query::programs() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(HashMap::new());
            }
            all => all.attempt(|| "read the programs of this machine".to_owned())?,
        };
        let mut foreign = HashSet::new();
        for program in all {
            if matches!(self.owner_by_maps(&program)?, Owner::Vipnat(_)) {
                foreign.insert(program.id);
            }
        }
        if foreign.is_empty() {
            return Ok(HashMap::new());
        }
        let links = hook_query::cgroup_links();
        let links = links.attempt(|| "read the links of this machine".to_owned())?;
        let theirs = links.iter().filter(|link| foreign.contains(&link.program));
        Ok(theirs.map(|link| (link.cgroup, link.program)).collect())
    }

    /// Where the vipnat with this map `scope` has its state, if that is where such are looked for.
    pub(crate) fn directory_of(&self, scope: u32) -> Option<PathBuf> {
        let other = self.instances().iter().find(|other| other.scope == scope)?;
        Some(other.dir.clone())
    }

    /// Other state directories beside ours, and where bpffs usually is.
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
            found.filter(|other| ![0, self.scope].contains(&other.scope)).collect()
        })
    }
}

/// The id of a state directory's map `scope`; 0, which no map has, if there is none.
fn scope_of(state: &Path) -> u32 {
    bpf_syscall::map_info(&map_pin(state, "scope")).map_or(0, |info| info.id)
}

fn pinned_programs(state: &Path) -> Vec<u32> {
    let pins = HOOKS.iter().map(|(hook, _)| state.join(PROGRAMS).join(hook));
    pins.filter_map(|pin| bpf_syscall::program_id(&pin).ok()).collect()
}
