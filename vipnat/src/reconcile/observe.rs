//! Reading the state without being in the way of those who change it.
//!
//! For a container to start, `vipnat attach` needs the lock of the state directory. So whoever only reads
//! holds it as long as it takes to copy maps, names and the directories of apps, all of one moment. Links
//! are read without it: there are seven for each cgroup. Paths of cgroups, text and output come later still.

use crate::kernel::cgroup::Paths;
use std::collections::{BTreeMap, BTreeSet};
use vipnat_core::model::ByApp;
use vipnat_core::model::Desired;
use vipnat_core::model::DesiredApp;
use vipnat_core::model::NameIndex;
use vipnat_core::model::Place;
use vipnat_core::model::Snapshot;

use crate::{
    kernel::{error::Result, maps::Maps},
    reconcile::Session,
    state::links::{self, AttachedApp, PinnedApp},
};

/// How often all is read, if it changes meanwhile. The last time the lock is kept until links are read.
const TRIES: usize = 3;

/// How many apps are looked at again each time that the lock is taken for it.
const AT_ONCE: usize = 32;

/// What was there at one moment.
pub(crate) struct Observed<T> {
    /// What was copied of the maps.
    pub(crate) copied: T,
    /// The maps.
    pub(crate) maps: Maps,
    /// The apps, by app id.
    pub(crate) apps: Vec<Seen>,
}

/// An app, and the cgroups it is translated in.
pub(crate) struct Seen {
    /// The app.
    pub(crate) app: AttachedApp,
    /// The ids of its cgroups in which every hook is attached and switched on.
    pub(crate) active: BTreeSet<u64>,
}

impl Seen {
    pub(crate) fn new(app: AttachedApp, maps: &Maps) -> Result<Self> {
        Ok(Self { active: app.active(maps.cgroups())?, app })
    }
}

impl Session {
    /// Reads apps and what `copy` copies; `None` if nothing was ever applied.
    ///
    /// An app may move on while its links are read. That one is translated in a cgroup is certain even so,
    /// since it was: its links were there and switched on. That it is not, may be what comes of a change;
    /// so this is only believed if it is the same after another look, with the lock.
    pub(crate) fn observe<T>(
        &self,
        copy: impl Fn(&Maps) -> Result<T>,
    ) -> Result<Option<Observed<T>>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let Some((dir, maps)) = self.open()? else {
                return Ok(None);
            };
            let (copied, listed) = (copy(&maps)?, links::list(&dir)?);
            let kept = (tries == TRIES).then_some(dir);
            let read = |app: &PinnedApp| Seen::new(app.read()?, &maps);
            let apps: Vec<_> = listed.iter().map(read).collect::<Result<_>>()?;
            if kept.is_some() || self.is_still_so(&maps, &apps)? {
                return Ok(Some(Observed { copied, maps, apps }));
            }
        }
    }

    /// Whether the apps that are not translated in all of their cgroups really are not.
    fn is_still_so(&self, maps: &Maps, apps: &[Seen]) -> Result<bool> {
        let doubtful: Vec<_> = apps
            .iter()
            .filter(|Seen { app, active }| app.cgroups().count() != active.len())
            .collect();
        for some in doubtful.chunks(AT_ONCE) {
            let Some(_dir) = self.open()? else {
                return Ok(false);
            };
            for Seen { app, active } in some {
                let again = Seen::new(app.again()?, maps)?;
                if again.app != *app || again.active != *active {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// What the kernel does now.
pub(crate) fn of_kernel(
    now: &Snapshot,
    seen: &[Seen],
    paths: &Paths,
    names: NameIndex,
) -> Result<Desired> {
    let mut apps = BTreeMap::new();
    let by_app = ByApp::new(now);
    for Seen { app, active } in seen {
        let mappings = by_app.mappings_of(app.app_id, now).collect();
        let (mut cgroups, mut may_have_unseen) = (BTreeMap::new(), false);
        for id in active {
            match paths.place(*id) {
                Place::At(path) => drop(cgroups.insert(*id, path)),
                Place::Unseen(_) => may_have_unseen = true,
                Place::Gone => {}
            }
        }
        let named = cgroups.keys().copied().collect();
        let by_hand = app.by_hand().collect();
        let app_now = DesiredApp { mappings, cgroups, named, by_hand, may_have_unseen };
        apps.insert(app.name.clone(), app_now);
    }
    Ok(Desired { apps, names })
}
