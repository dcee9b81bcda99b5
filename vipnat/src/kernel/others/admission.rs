//! Others on the same hooks: who is attached to a cgroup, above it and below it, and whether vipnat may
//! join them.
//!
//! A link runs beside other programs, with three exceptions: a program may want to be alone, a link may
//! switch off the program of a parent, and two vipnats would translate one after the other.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use crate::kernel::others::{
    obstacle::{Meeting, Obstacle, Place, meeting},
    owner::{Owner, Owners},
};
use crate::kernel::{
    bpf_syscall,
    cgroup::Tree,
    error::{Attempt as _, Error, Result},
    hook_query::{self, OnHook},
    pins::HOOKS,
};
use vipnat_core::text::shown_name;

/// How long a link that is unlinked may take to be detached: a worker of the kernel does that.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is attached to a cgroup itself, in the order of [`HOOKS`].
type OnCgroup = Rc<[OnHook; HOOKS.len()]>;

/// The links that this state directory has on a cgroup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    /// Where they are pinned.
    pub(crate) dir: &'a Path,
    /// The program that each hook runs; `None` if it is not attached.
    pub(crate) programs: [Option<u32>; HOOKS.len()],
}

/// What a command learns of others. It asks the kernel once about each cgroup above those it looks at.
pub(crate) struct Others<'a> {
    tree: &'a Tree,
    /// Whether programs that cgroups inherit may be switched off.
    override_inherited: bool,
    owners: Owners,
    /// Cgroups above those that were looked at; `None` if the kernel does not tell.
    above: RefCell<HashMap<PathBuf, Option<OnCgroup>>>,
    /// Cgroups that were found to be [`Others::is_alone`]: an apply compares more than once.
    alone: RefCell<HashSet<PathBuf>>,
    /// The cgroups with links of other vipnats, by id, and the program of one.
    foreign: OnceCell<HashMap<u64, u32>>,
    /// Whether the kernel refused to tell what is attached to a cgroup.
    refused: Cell<bool>,
    /// Whether anything was attached all the same.
    blindly: Cell<bool>,
    /// Until when to wait for links that nobody holds any more.
    deadline: Cell<Option<Instant>>,
}

impl<'a> Others<'a> {
    /// Knows nothing yet. `state` is the state directory, whose maps need not exist.
    pub(crate) fn new(state: &Path, tree: &'a Tree, override_inherited: bool) -> Self {
        Self {
            tree,
            override_inherited,
            owners: Owners::new(state),
            above: RefCell::default(),
            alone: RefCell::default(),
            foreign: OnceCell::new(),
            refused: Cell::new(false),
            blindly: Cell::new(false),
            deadline: Cell::new(None),
        }
    }

    /// The cgroups.
    pub(crate) fn tree(&self) -> &'a Tree {
        self.tree
    }

    /// Whether each hook of a cgroup that has all links runs one program of vipnat, and none above it runs
    /// another vipnat's. Without CAP_NET_ADMIN nothing else is known.
    pub(crate) fn is_alone(&self, path: &Path, held: Held<'_>) -> Result<bool> {
        if self.alone.borrow().contains(path) {
            return Ok(true);
        }
        self.owners.are_ours(&held.programs);
        let Some(own) = self.on_cgroup(path)? else {
            return Ok(true);
        };
        for on in own.iter().filter(|on| on.programs.len() != 1) {
            let mut vipnats = 0;
            for program in &on.programs {
                vipnats += usize::from(self.owners.owner(*program)? != Owner::Other);
            }
            if vipnats != 1 {
                return Ok(false);
            }
        }
        for above in self.above(path)? {
            for program in above.1.iter().flat_map(|on| &on.programs) {
                if matches!(self.owners.owner(*program)?, Owner::Vipnat(_)) {
                    return Ok(false);
                }
            }
        }
        self.alone.borrow_mut().insert(path.to_owned());
        Ok(true)
    }

    /// Makes sure that an app may be attached to a cgroup: nothing is in the way, and no link of ours is
    /// there but those that are pinned. Without CAP_NET_ADMIN nothing is known, and nothing refused.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] says what is in the way, and what to do.
    pub(crate) fn admit(&self, app: &str, at: (&Path, u64), held: Option<Held<'_>>) -> Result<()> {
        loop {
            match self.found(at.0, held)? {
                None => {
                    self.blindly.set(self.refused.get());
                    return Ok(());
                }
                Some(Obstacle::Doubled { .. }) if self.detach_unpinned(at.1, held)? > 0 => {}
                Some(obstacle) if obstacle.may_pass() && self.wait() => {}
                Some(obstacle) => return Err(refused(app, at.0, &obstacle)),
            }
        }
    }

    /// Why [`Others::admit`] would refuse, if it would.
    pub(crate) fn refusal(
        &self,
        app: &str,
        path: &Path,
        held: Option<Held<'_>>,
    ) -> Result<Option<Error>> {
        let found = self.found(path, held)?;
        // Links that are too many would be detached.
        let found = found.filter(|found| !matches!(found, Obstacle::Doubled { .. }));
        Ok(found.map(|obstacle| refused(app, path, &obstacle)))
    }

    /// What to say if an app was attached without a look at who else is there.
    pub(crate) fn warning(&self) -> Option<String> {
        self.blindly.get().then(|| {
            "who else is attached to the cgroups of apps can't be seen without CAP_NET_ADMIN, so a \
             program of another tool may be switched off, or another vipnat translate there too; \
             give vipnat that capability"
                .to_owned()
        })
    }

    fn found(&self, path: &Path, held: Option<Held<'_>>) -> Result<Option<Obstacle>> {
        let programs = held.map(|held| held.programs).unwrap_or_default();
        self.owners.are_ours(&programs);
        let Some(own) = self.on_cgroup(path)? else {
            return Ok(None);
        };
        match self.obstacle(path, &own, &programs)? {
            None => Ok(self.doubled(&own, &programs)?.map(|hook| Obstacle::Doubled { hook })),
            obstacle => Ok(obstacle),
        }
    }

    /// What is in the way of attaching the hooks that have no program yet, and which vipnat is anywhere
    /// near.
    fn obstacle(
        &self,
        path: &Path,
        own: &OnCgroup,
        programs: &[Option<u32>; HOOKS.len()],
    ) -> Result<Option<Obstacle>> {
        let above = self.above(path)?;
        let at = |level: usize| match level {
            0 => path.to_owned(),
            above_it => above[above_it - 1].0.clone(),
        };
        for (number, (hook, _)) in HOOKS.iter().enumerate() {
            let levels = [own].into_iter().chain(above.iter().map(|(_, on)| on));
            let levels: Vec<&OnHook> = levels.map(|on| &on[number]).collect();
            for (level, on) in levels.iter().enumerate() {
                for program in &on.programs {
                    if let Owner::Vipnat(scope) = self.owners.owner(*program)? {
                        let place = if level == 0 { Place::There } else { Place::Above };
                        return Ok(Some(self.vipnat(scope, *program, place, at(level))?));
                    }
                }
            }
            if programs[number].is_some() {
                continue;
            }
            match meeting(&levels) {
                Meeting::Alone { level, program } => {
                    let (program, at) = (self.owners.program(program)?, at(level));
                    return Ok(Some(Obstacle::Alone { hook, program, at, below: level > 0 }));
                }
                Meeting::SwitchesOff { level, program } if !self.override_inherited => {
                    let (program, at) = (self.owners.program(program)?, at(level));
                    return Ok(Some(Obstacle::Inherited { hook, program, at }));
                }
                Meeting::SwitchesOff { .. } | Meeting::Joins => {}
            }
        }
        if programs.iter().any(Option::is_none)
            && let Some((below, program)) = self.foreign_below(path)?
            && let Owner::Vipnat(scope) = self.owners.owner(program)?
        {
            return Ok(Some(self.vipnat(scope, program, Place::Below, below)?));
        }
        Ok(None)
    }

    fn vipnat(&self, scope: u32, program: u32, place: Place, at: PathBuf) -> Result<Obstacle> {
        let program = self.owners.program(program)?;
        Ok(Obstacle::Vipnat { dir: self.owners.directory_of(scope), program, place, at })
    }

    /// The first hook that runs more programs of ours than we have links there.
    fn doubled(
        &self,
        own: &OnCgroup,
        programs: &[Option<u32>; HOOKS.len()],
    ) -> Result<Option<&'static str>> {
        for (((hook, _), on), program) in HOOKS.iter().zip(own.iter()).zip(programs) {
            let mut ours = 0;
            for id in &on.programs {
                ours += usize::from(self.owners.owner(*id)? == Owner::Us);
            }
            if ours > usize::from(program.is_some()) {
                return Ok(Some(hook));
            }
        }
        Ok(None)
    }

    /// Detaches links of ours on a cgroup that are not pinned where they should be: somebody had them open
    /// when they were unlinked. Returns how many; none can be found without CAP_SYS_ADMIN.
    fn detach_unpinned(&self, cgroup: u64, held: Option<Held<'_>>) -> Result<usize> {
        let mut pinned = Vec::new();
        for pin in HOOKS.iter().filter_map(|(hook, _)| Some(held?.dir.join(hook))) {
            match bpf_syscall::link_info(&pin) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                info => pinned.push(info.attempt(|| format!("read {}", pin.display()))?.id),
            }
        }
        let links = match hook_query::cgroup_links() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(0),
            links => links.attempt(|| "read the links of this machine".to_owned())?,
        };
        let mut detached = 0;
        for link in links.iter().filter(|link| link.cgroup == cgroup) {
            if !pinned.contains(&link.id) && self.owners.owner(link.program)? == Owner::Us {
                link.detach()
                    .attempt(|| format!("detach link {} from cgroup {cgroup}", link.id))?;
                detached += 1;
            }
        }
        Ok(detached)
    }

    /// The cgroups above one, upwards, with what is attached to each.
    fn above(&self, path: &Path) -> Result<Vec<(PathBuf, OnCgroup)>> {
        let mut known = self.above.borrow_mut();
        let mut above = Vec::new();
        for outer in
            path.ancestors().skip(1).take_while(|outer| outer.starts_with(self.tree.mount()))
        {
            let on = match known.get(outer) {
                Some(on) => on.clone(),
                None => {
                    let on = self.on_cgroup(outer)?;
                    known.insert(outer.to_owned(), on.clone());
                    on
                }
            };
            above.extend(on.map(|on| (outer.to_owned(), on)));
        }
        Ok(above)
    }

    /// A cgroup below one to which another vipnat is attached, and its program. Only asked for where there
    /// is any cgroup below, which a container that is yet to start does not have.
    fn foreign_below(&self, path: &Path) -> Result<Option<(PathBuf, u32)>> {
        // Each directory in a directory links to it.
        if fs::metadata(path).is_ok_and(|directory| directory.nlink() <= 2) {
            return Ok(None);
        }
        let foreign = match self.foreign.get() {
            Some(foreign) => foreign,
            None => {
                let found = self.owners.foreign_cgroups()?;
                self.foreign.get_or_init(|| found)
            }
        };
        if foreign.is_empty() {
            return Ok(None);
        }
        let mut rest = vec![path.to_owned()];
        while let Some(directory) = rest.pop() {
            // One that goes meanwhile has no links.
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let inside = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if let Ok(metadata) = entry.metadata()
                    && inside
                {
                    if let Some(program) = foreign.get(&metadata.ino()) {
                        return Ok(Some((entry.path(), *program)));
                    }
                    rest.push(entry.path());
                }
            }
        }
        Ok(None)
    }

    /// What is attached to a cgroup itself; `None` if the kernel does not tell, or the cgroup is gone.
    fn on_cgroup(&self, path: &Path) -> Result<Option<OnCgroup>> {
        let what = || format!("read what is attached to {}", shown_name(path));
        let directory = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.attempt(what)?,
        };
        let mut all: [OnHook; HOOKS.len()] = Default::default();
        for ((_, kind), on) in HOOKS.iter().zip(&mut all) {
            match hook_query::query(directory.as_fd(), *kind) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.refused.set(true);
                    return Ok(None);
                }
                found => *on = found.attempt(what)?,
            }
        }
        Ok(Some(Rc::new(all)))
    }

    /// Waits a little for what may be about to go; `false` once that took too long.
    fn wait(&self) -> bool {
        let deadline = self.deadline.get().unwrap_or_else(|| Instant::now() + PATIENCE);
        self.deadline.set(Some(deadline));
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
        self.above.borrow_mut().clear();
        true
    }
}

fn refused(app: &str, cgroup: &Path, obstacle: &Obstacle) -> Error {
    let cgroup = shown_name(cgroup);
    Error::Refused(format!("app {app:?}: cannot attach to cgroup {cgroup}: {obstacle}"))
}
