//! One look at some links: what it needs is opened once.

use std::{
    cell::RefCell,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use vipnat_common::AppId;
use vipnat_core::{model::Place, text::shown_name};

use super::{
    difference::{LinkDifference, LinkFault},
    reviewed::ReviewedLinks,
};
use crate::{
    kernel::{
        cgroup::{OpenTree, Paths, Tree},
        compat,
        dir_names::names,
        error::Result,
        foreign_programs::{OnCgroup, Others},
        maps::Switch,
        pinned_programs::Programs,
        pins::APPS,
    },
    reconcile::holders::{CgroupHolders, Held, Proof},
    state::{
        app_dirs::parse_dir_name,
        links::{self, AttachedApp, Stamp, Tick},
        state_dir::StateDir,
    },
};

/// One look at some links.
pub(super) struct Look<'a> {
    state: &'a Path,
    tree: &'a Tree,
    others: &'a Others<'a>,
    cgroups: OpenTree,
    switch: Switch,
    /// The locked state, once something has to be read again.
    locked: Option<Locked>,
    /// The programs that were seen last. Most cgroups have the same.
    programs: Option<OnCgroup>,
    /// The directory of the cgroup that was looked at last, and whether another vipnat is on it or above.
    outer: RefCell<(PathBuf, bool)>,
}

struct Locked {
    /// Keeps the state locked.
    _dir: StateDir,
    /// The pinned programs.
    programs: Programs,
}

impl<'a> Look<'a> {
    pub(super) fn new(state: &'a Path, tree: &'a Tree, others: &'a Others<'a>) -> Result<Self> {
        let (cgroups, switch) = (OpenTree::of(tree)?, Switch::open(state)?);
        let outer = RefCell::default();
        Ok(Self { state, tree, others, cgroups, switch, locked: None, programs: None, outer })
    }

    /// Locks the state. Returns `false` if it is not as an apply leaves it.
    fn lock(&mut self) -> Result<bool> {
        if self.locked.is_none() {
            let dir = StateDir::open_again(self.state)?;
            let Some(dir) = dir.filter(|dir| compat::is_current(dir.path())) else {
                return Ok(false);
            };
            if dir.is_changing()? {
                return Ok(false);
            }
            let programs = Programs::read(dir.path())?;
            self.locked = Some(Locked { _dir: dir, programs });
        }
        Ok(true)
    }

    /// Looks whether there are the directories of all apps, and no others.
    pub(super) fn at_apps(
        &mut self,
        holders: &mut CgroupHolders,
        reviewed: &mut ReviewedLinks,
    ) -> Result<()> {
        if holders.stamp.is_some() && Stamp::of_apps(self.state)? == holders.stamp {
            return Ok(());
        }
        if !self.lock()? {
            reviewed.needs_apply = true;
            return Ok(());
        }
        let tick = Tick::now()?;
        let stamp = Stamp::of_apps(self.state)?;
        let mut found = 0;
        for file in names(&self.state.join(APPS))? {
            let known = parse_dir_name(&file)
                .filter(|(app_id, name)| holders.name(*app_id) == Some(name.as_str()));
            if known.is_some() {
                found += 1;
            } else {
                let fault = LinkFault::UnexpectedDirectory;
                reviewed.differs(LinkDifference { app: file, cgroup: None, fault });
            }
        }
        // The look at each app finds the one that is gone.
        let complete = found == holders.count() && reviewed.differences.is_empty();
        holders.stamp = stamp.filter(|stamp| complete && stamp.is_before(tick));
        Ok(())
    }

    /// Looks whether an app has the directories of its cgroups, and no others. Returns whether there is
    /// anything to see of its cgroups.
    pub(super) fn at_app(
        &mut self,
        holders: &mut CgroupHolders,
        app_id: AppId,
        reviewed: &mut ReviewedLinks,
    ) -> Result<bool> {
        let Some(app) = holders.app(app_id) else {
            return Ok(false);
        };
        if app.stamp.is_some() && Stamp::of_app(self.state, app_id, &app.name)? == app.stamp {
            return Ok(true);
        }
        if !self.lock()? {
            reviewed.needs_apply = true;
            return Ok(false);
        }
        let name = app.name.clone();
        let tick = Tick::now()?;
        let Some(stamp) = Stamp::of_app(self.state, app_id, &name)? else {
            let (cgroup, fault) = (None, LinkFault::NoDirectory);
            reviewed.differs(LinkDifference { app: name, cgroup, fault });
            return Ok(false);
        };
        let complete = self.list(holders, (app_id, &name), reviewed)?;
        if let Some(app) = holders.app_mut(app_id) {
            app.stamp = Some(stamp).filter(|stamp| complete && stamp.is_before(tick));
        }
        Ok(true)
    }

    /// Compares the directories of an app with the known ones. Returns whether they are the same by now.
    fn list(
        &self,
        holders: &mut CgroupHolders,
        (app_id, name): (AppId, &str),
        reviewed: &mut ReviewedLinks,
    ) -> Result<bool> {
        let pinned = links::list_one(self.state, app_id, name)?;
        let mut faults = Vec::new();
        faults.extend(pinned.doubled().map(|cgroup| (cgroup, LinkFault::UnexpectedDirectory)));
        let paths = Paths::of(self.tree);
        for (cgroup, by_hand) in pinned.cgroups() {
            let known = holders.app_mut(app_id).and_then(|app| app.cgroups.get_mut(&cgroup));
            match known {
                Some(held) if held.by_hand == by_hand => {}
                Some(held) => (held.by_hand, held.proof) = (by_hand, None),
                // `vipnat attach` made it since.
                None if by_hand => match paths.place(cgroup) {
                    Place::Gone => {
                        self.release(holders, (app_id, name), (cgroup, true), reviewed)?;
                    }
                    place => {
                        let below = place.path().map(Path::to_owned);
                        reviewed.by_hand.extend(below.clone().map(|below| (below, cgroup)));
                        holders.give(cgroup, app_id, true, below);
                    }
                },
                None => faults.push((cgroup, LinkFault::UnexpectedDirectory)),
            }
        }
        let missing = holders.app(app_id).into_iter().flat_map(|app| app.cgroups.keys().copied());
        let missing: Vec<_> = missing.filter(|cgroup| !pinned.has(*cgroup)).collect();
        let mut complete = faults.is_empty();
        for cgroup in missing {
            if paths.place(cgroup) == Place::Gone {
                // Another command released it. The event for its removal may still come.
                let held = holders.take(cgroup);
                reviewed.leave(name, held.and_then(|held| held.below));
            } else if self.taken_by_hand(holders, app_id, cgroup)? {
                // The look at the other app finds it.
                holders.take(cgroup);
            } else {
                // The look at the cgroup reports it.
                complete = false;
            }
        }
        for (cgroup, fault) in faults {
            reviewed.differs(difference(holders, name, cgroup, fault));
        }
        Ok(complete)
    }

    /// Whether `vipnat attach` gave a cgroup of this app to another one.
    fn taken_by_hand(&self, holders: &CgroupHolders, from: AppId, cgroup: u64) -> Result<bool> {
        let Some(to) = self.switch.app_of(cgroup)?.filter(|to| *to != from) else {
            return Ok(false);
        };
        let Some(name) = holders.name(to) else {
            return Ok(false);
        };
        Ok(links::list_one(self.state, to, name)?.has_by_hand(cgroup))
    }

    /// Looks whether the links of a cgroup are as they should be.
    pub(super) fn at_cgroup(
        &mut self,
        holders: &mut CgroupHolders,
        (app_id, cgroup): (AppId, u64),
        reviewed: &mut ReviewedLinks,
    ) -> Result<()> {
        let mut listed = false;
        loop {
            let Some(app) = holders.app(app_id) else {
                return Ok(());
            };
            let Some(held) = app.cgroups.get(&cgroup) else {
                return Ok(());
            };
            if self.is_unchanged((app_id, &app.name), cgroup, held)? {
                return Ok(());
            }
            if !self.lock()? {
                reviewed.needs_apply = true;
                return Ok(());
            }
            let (name, by_hand) = (app.name.clone(), held.by_hand);
            let proof = match self.read((app_id, &name), (cgroup, held))? {
                Read::Right(proof) => proof,
                Read::Gone => {
                    return self.release(holders, (app_id, &name), (cgroup, by_hand), reviewed);
                }
                // `vipnat attach` may have renamed the directory a moment ago.
                Read::Wrong(_) if !listed => {
                    listed = true;
                    if self.at_app(holders, app_id, reviewed)? {
                        continue;
                    }
                    return Ok(());
                }
                Read::Wrong(fault) => {
                    reviewed.differs(difference(holders, &name, cgroup, fault));
                    None
                }
            };
            if let Some(held) = holders.held_mut(cgroup) {
                held.proof = proof;
            }
            return Ok(());
        }
    }

    /// Whether the links of a cgroup are as when they were read last. It does not read them.
    fn is_unchanged(&self, app: (AppId, &str), cgroup: u64, held: &Held) -> Result<bool> {
        let (Some(proof), Some(below)) = (&held.proof, &held.below) else {
            return Ok(false);
        };
        let stamp = Stamp::of_links(self.state, app.0, app.1, (cgroup, held.by_hand))?;
        if stamp != Some(proof.stamp) || self.switch.app_of(cgroup)? != Some(app.0) {
            return Ok(false);
        }
        let Some(opened) = self.open(cgroup, below)? else {
            return Ok(false);
        };
        let path = self.tree.mount().join(below);
        Ok(self.others.runs_there((&path, opened.as_fd()), &proof.programs)?
            && !self.has_vipnat_above(&path)?)
    }

    /// Whether another vipnat is attached to a cgroup above. Many cgroups are in one directory.
    fn has_vipnat_above(&self, path: &Path) -> Result<bool> {
        let Some(outer) = path.parent() else {
            return Ok(false);
        };
        let mut last = self.outer.borrow_mut();
        if last.0.as_os_str() != outer.as_os_str() {
            *last = (outer.to_owned(), self.others.has_vipnat_above(path)?);
        }
        Ok(last.1)
    }

    /// Opens a cgroup, if it is still there.
    fn open(&self, cgroup: u64, below: &Path) -> Result<Option<OwnedFd>> {
        let opened = self.cgroups.open(below)?;
        Ok(opened.filter(|(_, id)| *id == cgroup).map(|(opened, _)| opened))
    }

    /// Reads the links of a cgroup.
    fn read(&mut self, app: (AppId, &str), (cgroup, held): (u64, &Held)) -> Result<Read> {
        let opened = match &held.below {
            Some(below) => match self.open(cgroup, below)? {
                None => return Ok(Read::Gone),
                Some(opened) => Some((opened, below)),
            },
            None => None,
        };
        let links = (cgroup, held.by_hand);
        let tick = Tick::now()?;
        let stamp = Stamp::of_links(self.state, app.0, app.1, links)?;
        let attached = links::read_links(self.state, app.0, app.1, links)?;
        if let Some(fault) = self.fault(&attached, cgroup)? {
            return Ok(Read::Wrong(fault));
        }
        let (Some((opened, below)), Some(ours)) = (opened, attached.held(cgroup)) else {
            return Ok(Read::Right(None));
        };
        let path = self.tree.mount().join(below);
        let Some(programs) = self.others.programs_on((&path, opened.as_fd()))? else {
            return Ok(Read::Right(None));
        };
        if !self.others.is_alone_among(&programs, &path, ours)? {
            return Ok(Read::Wrong(LinkFault::NotAlone));
        }
        let programs = match self.programs.take().filter(|known| *known == programs) {
            Some(known) => known,
            None => programs,
        };
        self.programs = Some(programs.clone());
        let stamp = stamp.filter(|stamp| stamp.is_before(tick));
        Ok(Read::Right(stamp.map(|stamp| Proof { stamp, programs })))
    }

    /// What is wrong with these links of an app.
    fn fault(&self, app: &AttachedApp, cgroup: u64) -> Result<Option<LinkFault>> {
        let current = self.locked.as_ref().map(|locked| locked.programs.ids());
        Ok(if !app.is_attached_to(cgroup) {
            Some(LinkFault::Detached)
        } else if !current.is_some_and(|current| app.runs(cgroup, current)) {
            Some(LinkFault::OtherProgram)
        } else if self.switch.app_of(cgroup)? != Some(app.app_id) {
            Some(LinkFault::SwitchedOff)
        } else {
            None
        })
    }

    /// Removes the links on a cgroup that is gone.
    fn release(
        &self,
        holders: &mut CgroupHolders,
        app: (AppId, &str),
        links: (u64, bool),
        reviewed: &mut ReviewedLinks,
    ) -> Result<()> {
        let attached = links::read_links(self.state, app.0, app.1, links)?;
        links::release(&self.switch, &attached, links.0)?;
        let held = holders.take(links.0);
        reviewed.leave(app.1, held.and_then(|held| held.below));
        Ok(())
    }
}

/// The links of a cgroup, as they were read.
enum Read {
    /// As they should be, with the proof if there is one.
    Right(Option<Proof>),
    /// Not as they should be.
    Wrong(LinkFault),
    /// The cgroup is gone.
    Gone,
}

fn difference(holders: &CgroupHolders, app: &str, cgroup: u64, fault: LinkFault) -> LinkDifference {
    let below = holders.below(cgroup).map(|below| shown_name(below).to_string());
    let cgroup = Some(below.unwrap_or_else(|| format!("with id {cgroup}")));
    LinkDifference { app: app.to_owned(), cgroup, fault }
}
