//! Decides whether vipnat may attach to a cgroup beside the programs on it, above it and below it.
//!
//! A link runs beside other programs, with three exceptions. A program may be attached exclusively. A link
//! may switch off the program of a cgroup above. And two vipnats would translate one after the other.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, HashSet},
    fs, io,
    os::{fd::BorrowedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use vipnat_common::hooks::HOOKS;

use super::{
    attached::{Attached, OnCgroup},
    obstacle::{Meeting, Obstacle, Place, meeting},
    owner::{Owner, Owners},
};
use crate::kernel::{
    bpf_syscall,
    cgroup::Tree,
    error::{Attempt as _, Error, Result},
    hook_query::{self, OnHook},
};

/// The time for which an unlinked link may stay attached. A kernel worker detaches it.
const PATIENCE: Duration = Duration::from_millis(500);

/// The links that the state directory has on a cgroup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    /// The directory of their pins.
    pub(crate) dir: &'a Path,
    /// The id of the program that each hook runs, in the order of [`HOOKS`]; `None` if it is not attached.
    pub(crate) programs: [Option<u32>; HOOKS.len()],
}

/// The other programs on hooks, as far as one command knows them.
pub(crate) struct Others<'a> {
    attached: Attached<'a>,
    /// Whether vipnat may switch off programs that cgroups inherit.
    override_inherited: bool,
    owners: Owners,
    /// Cgroups that are [`Others::is_alone`]. An apply asks more than once.
    alone: RefCell<HashSet<PathBuf>>,
    /// The ids of the cgroups with links of other vipnats, and the program of one link.
    other_vipnats: OnceCell<HashMap<u64, u32>>,
    /// Whether an app was admitted although the kernel refused the query.
    blindly: Cell<bool>,
    /// The end of the wait for unlinked links.
    deadline: Cell<Option<Instant>>,
}

impl<'a> Others<'a> {
    /// Knows nothing yet. The maps of the state directory need not exist.
    pub(crate) fn new(state: &Path, tree: &'a Tree, override_inherited: bool) -> Self {
        Self {
            attached: Attached::new(tree),
            override_inherited,
            owners: Owners::new(state),
            alone: RefCell::default(),
            other_vipnats: OnceCell::new(),
            blindly: Cell::new(false),
            deadline: Cell::new(None),
        }
    }

    /// The hierarchy.
    pub(crate) fn tree(&self) -> &'a Tree {
        self.attached.tree()
    }

    /// Whether each hook of a cgroup with all links runs one program of vipnat, and no cgroup above runs one
    /// of another vipnat. Without CAP_NET_ADMIN, it answers yes.
    pub(crate) fn is_alone(&self, path: &Path, held: Held<'_>) -> Result<bool> {
        if self.alone.borrow().contains(path) {
            return Ok(true);
        }
        let Some(own) = self.attached.on_cgroup(path)? else {
            return Ok(true);
        };
        let alone = self.is_alone_among(&own, path, held)?;
        if alone {
            self.alone.borrow_mut().insert(path.to_owned());
        }
        Ok(alone)
    }

    /// As [`Others::is_alone`], among these programs on the cgroup.
    pub(crate) fn is_alone_among(
        &self,
        own: &OnCgroup,
        path: &Path,
        held: Held<'_>,
    ) -> Result<bool> {
        self.owners.are_ours(&held.programs);
        for on in own.iter().filter(|on| on.programs.len() != 1) {
            let mut vipnats = 0;
            for program in &on.programs {
                vipnats += usize::from(self.owners.owner(*program)? != Owner::Other);
            }
            if vipnats != 1 {
                return Ok(false);
            }
        }
        Ok(!self.has_vipnat_above(path)?)
    }

    /// Whether another vipnat is attached to a cgroup above this one.
    pub(crate) fn has_vipnat_above(&self, path: &Path) -> Result<bool> {
        for above in self.attached.above(path)? {
            for program in above.1.iter().flat_map(|on| &on.programs) {
                if matches!(self.owners.owner(*program)?, Owner::Vipnat(_)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The programs on an opened cgroup itself; `None` if the kernel refuses the query.
    pub(crate) fn programs_on(&self, at: (&Path, BorrowedFd<'_>)) -> Result<Option<OnCgroup>> {
        self.attached.on_opened(at)
    }

    /// Whether just these programs are on an opened cgroup itself. If the kernel refuses the query, it
    /// answers no.
    pub(crate) fn runs_there(
        &self,
        at: (&Path, BorrowedFd<'_>),
        programs: &OnCgroup,
    ) -> Result<bool> {
        self.attached.is_as(at, programs)
    }

    /// Checks that an app may be attached to a cgroup, and detaches links of ours there that are not pinned.
    /// Without CAP_NET_ADMIN, it admits every app.
    ///
    /// # Errors
    ///
    /// [`Error::CannotAttach`] names the obstacle and the remedy.
    pub(crate) fn admit(&self, app: &str, at: (&Path, u64), held: Option<Held<'_>>) -> Result<()> {
        loop {
            match self.found(at.0, held)? {
                None => {
                    self.blindly.set(self.attached.was_refused());
                    return Ok(());
                }
                Some(Obstacle::Doubled { .. }) if self.detach_unpinned(at.1, held)? > 0 => {}
                Some(obstacle) if obstacle.may_pass() && self.wait() => {}
                Some(obstacle) => return Err(refused(app, at.0, &obstacle)),
            }
        }
    }

    /// The error that [`Others::admit`] would return, if any.
    pub(crate) fn refusal(
        &self,
        app: &str,
        path: &Path,
        held: Option<Held<'_>>,
    ) -> Result<Option<Error>> {
        let found = self.found(path, held)?;
        // `admit` would detach links of ours that are not pinned.
        let found = found.filter(|found| !matches!(found, Obstacle::Doubled { .. }));
        Ok(found.map(|obstacle| refused(app, path, &obstacle)))
    }

    /// The warning that an app was attached although the kernel refused to show the other programs.
    pub(crate) fn warning(&self) -> Option<String> {
        self.blindly.get().then(|| {
            "cannot see other programs on the apps' cgroups without CAP_NET_ADMIN, so this may switch \
             off a program of another tool, or another vipnat may translate there too; give vipnat that \
             capability"
                .to_owned()
        })
    }

    /// The first obstacle to attaching to a cgroup.
    fn found(&self, path: &Path, held: Option<Held<'_>>) -> Result<Option<Obstacle>> {
        let programs = held.map(|held| held.programs).unwrap_or_default();
        self.owners.are_ours(&programs);
        let Some(own) = self.attached.on_cgroup(path)? else {
            return Ok(None);
        };
        match self.obstacle(path, &own, &programs)? {
            None => Ok(self.doubled(&own, &programs)?.map(|hook| Obstacle::Doubled { hook })),
            obstacle => Ok(obstacle),
        }
    }

    /// Another vipnat on the cgroup, above or below it, or an obstacle to a hook that is not attached yet.
    fn obstacle(
        &self,
        path: &Path,
        own: &OnCgroup,
        programs: &[Option<u32>; HOOKS.len()],
    ) -> Result<Option<Obstacle>> {
        let above = self.attached.above(path)?;
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
            && let Some((below, program)) = self.vipnat_below(path)?
            && let Owner::Vipnat(scope) = self.owners.owner(program)?
        {
            return Ok(Some(self.vipnat(scope, program, Place::Below, below)?));
        }
        Ok(None)
    }

    /// The obstacle that another vipnat is, given by the id of its map `scope`.
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

    /// Detaches links of ours on a cgroup that are not pinned in their place in its directory: a process had
    /// them open when they were unlinked. Returns how many. It finds none without CAP_SYS_ADMIN.
    fn detach_unpinned(&self, cgroup: u64, held: Option<Held<'_>>) -> Result<usize> {
        let mut pinned = Vec::new();
        for (hook, attach_type) in HOOKS {
            let Some(pin) = held.map(|held| held.dir.join(hook)) else {
                break;
            };
            match bpf_syscall::link_info(&pin) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                info => {
                    let info = info.attempt(|| format!("read {}", pin.display()))?;
                    // Another program may have exchanged the pins of two hooks.
                    if (info.cgroup, info.hook) == (cgroup, attach_type) {
                        pinned.push(info.id);
                    }
                }
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

    /// A cgroup below this one to which another vipnat is attached, and its program. A cgroup without
    /// children, such as that of a container before its start, costs one system call.
    fn vipnat_below(&self, path: &Path) -> Result<Option<(PathBuf, u32)>> {
        // Each child of a directory counts as a hard link to it.
        if fs::metadata(path).is_ok_and(|directory| directory.nlink() <= 2) {
            return Ok(None);
        }
        let others = match self.other_vipnats.get() {
            Some(others) => others,
            None => {
                let found = self.owners.cgroups_of_others()?;
                self.other_vipnats.get_or_init(|| found)
            }
        };
        if others.is_empty() {
            return Ok(None);
        }
        let mut rest = vec![path.to_owned()];
        while let Some(directory) = rest.pop() {
            // A cgroup that is removed meanwhile has no links.
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let inside = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if let Ok(metadata) = entry.metadata()
                    && inside
                {
                    if let Some(program) = others.get(&metadata.ino()) {
                        return Ok(Some((entry.path(), *program)));
                    }
                    rest.push(entry.path());
                }
            }
        }
        Ok(None)
    }

    /// Waits a moment for a kernel worker; `false` once that took too long.
    fn wait(&self) -> bool {
        let deadline = self.deadline.get().unwrap_or_else(|| Instant::now() + PATIENCE);
        self.deadline.set(Some(deadline));
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
        self.attached.forget();
        true
    }
}

fn refused(app: &str, cgroup: &Path, obstacle: &Obstacle) -> Error {
    let (app, cgroup, obstacle) = (app.to_owned(), cgroup.to_owned(), obstacle.to_string());
    Error::CannotAttach { app, cgroup, obstacle }
}
