//! An app in the state directory: its cgroups, and its links on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::swap,
    path::{Path, PathBuf},
};

use vipnat_common::{AppId, hooks::HOOKS};

use super::on_cgroup::{Links, not_our_dir};
use crate::{
    kernel::{
        dir_names::names,
        error::{Attempt as _, Result},
        foreign_programs::Held,
        maps::Switch,
        pinned_programs::Programs,
    },
    state::app_dirs::{dir_name, is_by_hand, links_name, parse_links_name},
};

/// An app, by the names of its directories alone. Its links are not read yet, since each takes some system
/// calls.
#[derive(Debug)]
pub(crate) struct PinnedApp {
    /// Its name.
    pub(crate) name: String,
    /// Its id in the maps.
    pub(crate) app_id: AppId,
    dir: PathBuf,
    /// The ids of the cgroups for which it has a directory, and whether `vipnat attach` made it.
    cgroups: BTreeMap<u64, bool>,
    /// The cgroups with a second directory, which vipnat did not make.
    twice: BTreeSet<u64>,
}

impl PinnedApp {
    /// Reads the names in the directory of an app.
    pub(super) fn list(dir: PathBuf, app_id: AppId, name: String) -> Result<Self> {
        let (mut cgroups, mut twice) = (BTreeMap::new(), BTreeSet::new());
        for file in names(&dir).map_err(|error| error.unless_directory(|| not_our_dir(&dir)))? {
            let (cgroup, by_hand) =
                parse_links_name(&file).ok_or_else(|| not_our_dir(&dir.join(&file)))?;
            if cgroups.insert(cgroup, by_hand).is_some() {
                twice.insert(cgroup);
            }
        }
        Ok(Self { name, app_id, dir, cgroups, twice })
    }

    /// Whether it has a directory for this cgroup.
    pub(crate) fn has(&self, cgroup: u64) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// Whether `vipnat attach` attached this cgroup.
    pub(crate) fn has_by_hand(&self, cgroup: u64) -> bool {
        self.cgroups.get(&cgroup).is_some_and(|by_hand| *by_hand)
    }

    /// The ids of the cgroups for which it has a directory, and whether `vipnat attach` made it.
    pub(crate) fn cgroups(&self) -> impl Iterator<Item = (u64, bool)> {
        self.cgroups.iter().map(|(cgroup, by_hand)| (*cgroup, *by_hand))
    }

    /// A cgroup with a second directory, which vipnat did not make.
    pub(crate) fn doubled(&self) -> Option<u64> {
        self.twice.first().copied()
    }

    /// Reads its links.
    pub(crate) fn read(&self) -> Result<AttachedApp> {
        let Self { name, app_id, dir, cgroups: ids, twice } = self;
        let mut cgroups = BTreeMap::new();
        let read = |cgroup: u64, by_hand: bool| {
            Links::read(dir.join(links_name(cgroup, by_hand)), cgroup, by_hand)
        };
        for (cgroup, by_hand) in ids {
            let mut links = read(*cgroup, *by_hand)?;
            if twice.contains(cgroup) {
                let mut other = read(*cgroup, !by_hand)?;
                // The directory with all links counts.
                if other.complete() {
                    swap(&mut other, &mut links);
                }
                links.others.push(other.dir);
            }
            cgroups.insert(*cgroup, links);
        }
        Ok(AttachedApp { name: name.clone(), app_id: *app_id, dir: dir.clone(), cgroups })
    }
}

/// An app, with its links on some or all of its cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttachedApp {
    /// Its name.
    pub(crate) name: String,
    /// Its id in the maps.
    pub(crate) app_id: AppId,
    pub(super) dir: PathBuf,
    /// Its links on each cgroup, by id.
    pub(super) cgroups: BTreeMap<u64, Links>,
}

impl AttachedApp {
    /// The ids of the cgroups on which it has links, also of removed ones.
    pub(crate) fn cgroups(&self) -> impl Iterator<Item = u64> {
        self.cgroups.keys().copied()
    }

    /// The ids of the cgroups that `vipnat attach` attached, also of removed ones. A link may name its cgroup
    /// for a moment after that was removed (`cgroup_bpf_offline` leaves the rest to a kernel worker).
    pub(crate) fn by_hand(&self) -> impl Iterator<Item = u64> {
        let by_hand = self.cgroups.iter().filter(|(_, links)| links.by_hand);
        by_hand.map(|(cgroup, _)| *cgroup)
    }

    /// Whether `vipnat attach` attached this cgroup.
    pub(crate) fn has_by_hand(&self, cgroup: u64) -> bool {
        self.cgroups.get(&cgroup).is_some_and(|links| links.by_hand)
    }

    /// Whether `vipnat attach` attached any cgroup of the app, also one that was not read.
    pub(crate) fn has_any_by_hand(&self) -> Result<bool> {
        Ok(names(&self.dir)?.iter().any(|file| is_by_hand(file)))
    }

    /// Whether every hook is attached to this cgroup.
    pub(crate) fn is_attached_to(&self, cgroup: u64) -> bool {
        self.cgroups.get(&cgroup).is_some_and(Links::complete)
    }

    /// Whether its directory has the name that this build gives it. Otherwise vipnat did not make it.
    pub(crate) fn is_at_home(&self) -> bool {
        let name = dir_name(self.app_id, &self.name);
        self.app_id != AppId::NONE && self.dir.file_name().is_some_and(|file| *file == *name)
    }

    /// The cgroups in which the app is translated: every hook is attached, and the switch is on.
    pub(crate) fn active(&self, switch: &Switch) -> Result<BTreeSet<u64>> {
        let mut active = BTreeSet::new();
        for (cgroup, links) in &self.cgroups {
            if links.complete() && switch.app_of(*cgroup)? == Some(self.app_id) {
                active.insert(*cgroup);
            }
        }
        Ok(active)
    }

    /// Reads the same app again; it has no cgroups if it was removed.
    pub(crate) fn again(&self) -> Result<Self> {
        PinnedApp::list(self.dir.clone(), self.app_id, self.name.clone())?.read()
    }

    /// Whether it has links on this cgroup.
    pub(crate) fn has_links_on(&self, cgroup: u64) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// The ids of the programs that its links run.
    pub(crate) fn programs(&self) -> impl Iterator<Item = u32> {
        self.cgroups.values().flat_map(|links| links.programs).flatten()
    }

    /// Its directory, which no other app has.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether its links on this cgroup run these programs, one for each hook, and there are no others in
    /// their directory.
    pub(crate) fn runs(&self, cgroup: u64, programs: [u32; HOOKS.len()]) -> bool {
        self.cgroups
            .get(&cgroup)
            .is_some_and(|links| links.programs == programs.map(Some) && links.others.is_empty())
    }

    /// Its links on this cgroup, if it has a directory for them.
    pub(crate) fn held(&self, cgroup: u64) -> Option<Held<'_>> {
        let links = self.cgroups.get(&cgroup)?;
        Some(Held { dir: &links.dir, programs: links.programs })
    }

    /// Reads its links on one cgroup again, and not those on the others, which may be thousands.
    pub(crate) fn look_at(&mut self, cgroup: u64) -> Result<()> {
        self.cgroups.remove(&cgroup);
        for by_hand in [true, false] {
            let links = self.dir.join(links_name(cgroup, by_hand));
            if links.try_exists().attempt(|| format!("read {}", links.display()))? {
                self.cgroups.insert(cgroup, Links::read(links, cgroup, by_hand)?);
            }
        }
        Ok(())
    }

    /// The directory of its links on a cgroup, which need not exist.
    pub(super) fn links(&self, cgroup: u64) -> PathBuf {
        let links = self.cgroups.get(&cgroup).map(|links| links.dir.clone());
        links.unwrap_or_else(|| self.dir.join(cgroup.to_string()))
    }

    /// The links that run other programs than these, and the hook of each.
    pub(super) fn outdated<'a>(
        &'a self,
        current: &'a Programs,
    ) -> impl Iterator<Item = (PathBuf, &'static str)> + 'a {
        self.cgroups.values().flat_map(move |links| {
            let hooks = HOOKS.iter().zip(links.programs).zip(current.ids());
            let old = hooks.filter(|((_, runs), id)| runs.is_some_and(|runs| runs != *id));
            old.map(|(((hook, _), _), _)| (links.dir.join(hook), *hook))
        })
    }
}
