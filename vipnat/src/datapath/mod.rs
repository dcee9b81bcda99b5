//! The data path: makes the kernel match a table, reads it back, removes it.
//!
//! The pinned maps and links *are* the state; nothing else is kept, and no process has to stay.
//! [`Datapath::apply`] reads them back (`snapshot`), computes the difference (`work`, `plan`), and
//! makes it (`carry_out`) in an order in which every connect goes where the old table or the new one
//! says. State that another build left is taken over first (`upgrade`).

mod apps;
mod carry_out;
mod cgroup;
mod departed;
mod desired;
mod ending;
mod error;
mod kernel;
mod listing;
mod maps;
mod object;
mod plan;
mod rule;
mod snapshot;
mod sockets;
mod state_dir;
mod sys;
mod upgrade;
mod work;

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use self::{
    apps::AttachedApp,
    carry_out::{Done, carry_out, free, remove_entries, reserve_scopes, settle, write_lists},
    error::Attempt as _,
    kernel::Need,
    maps::Maps,
    object::Condition,
    plan::Plan,
    snapshot::Snapshot,
    state_dir::{NEW, StateDir},
    work::{Present, Work},
};
pub use self::{
    cgroup::{mount as cgroup_mount, of_process as cgroup_of_process},
    departed::Departed,
    desired::Desired,
    ending::{Connections, Drained},
    error::{Error, Result},
    listing::{ListedApp, ListedCgroup, ListedVip, Listing},
    rule::{Rule, Turn},
};
use crate::{drains::Drains, record::Record, table::Table};

/// The state in one directory of bpffs.
#[derive(Clone, Debug)]
pub struct Datapath {
    dir: PathBuf,
    cgroup_mount: PathBuf,
}

/// What becomes of apps whose cgroup, named by its path, does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// They are an error, before anything is changed.
    Refuse,
    /// Their VIPs are there, and whoever applies the table again when the cgroup exists attaches them.
    Await,
}

/// The cgroups around a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The directories in whose entries it shows when cgroups come or go.
    pub places: BTreeSet<PathBuf>,
    /// The ids of those that are there, and of those that were attached by hand.
    pub cgroups: BTreeSet<u64>,
}

/// One difference that [`Datapath::apply`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The programs are replaced by those of this build.
    Upgrade {
        /// How the layout of the maps differed; `None` if it did not.
        layout: Option<String>,
    },
    /// A new app has no cgroup yet.
    Expect {
        /// The app.
        app: String,
    },
    /// An app is attached to a cgroup, for the first time or again.
    Attach {
        /// The app.
        app: String,
        /// The cgroup, below the mount.
        cgroup: PathBuf,
        /// Its id.
        id: u64,
    },
    /// An app is no longer translated in a cgroup.
    Leave {
        /// The app.
        app: String,
        /// The cgroup, below the mount; `None` if it is gone.
        cgroup: Option<PathBuf>,
    },
    /// An app is no longer translated.
    Detach {
        /// The app.
        app: String,
    },
    /// A VIP comes (no old rule), goes (no new one) or changes.
    Vip {
        /// The app.
        app: String,
        /// The relationship, if its name is known.
        relationship: Option<String>,
        /// The VIP.
        vip: Ipv4Addr,
        /// What it did.
        old: Option<Rule>,
        /// What it does from now on.
        new: Option<Rule>,
    },
    /// What a crash left behind is put in order.
    Repair,
}

/// What came of [`Datapath::apply`].
#[derive(Debug, Default)]
pub struct Applied {
    /// What it changed.
    pub changes: Vec<Change>,
    /// Connections that were ended, since their backend left the table.
    pub ended: Vec<Connections>,
    /// Connections that will be, and when.
    pub draining: Vec<(Connections, SystemTime)>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// Why apps could not be attached. Then everything that comes is there, and what goes stays, with
    /// whatever those apps had, until an apply does not fail.
    pub failed: Vec<Error>,
}

impl Datapath {
    /// The state in `dir`, which need not exist. `cgroup_mount` is where cgroup v2 is mounted.
    pub fn new(dir: &Path, cgroup_mount: &Path) -> Self {
        Self { dir: dir.to_owned(), cgroup_mount: cgroup_mount.to_owned() }
    }

    /// Makes the kernel match the table. Translation goes on when the process ends.
    ///
    /// VIPs that do not change keep their place in the round robin, and so do those that get other
    /// backends. If it fails half-way, every VIP does what the old table or the new one says, and
    /// the next call does the rest. State that another build of vipnat left is taken over, without
    /// a moment in which nothing translates.
    ///
    /// # Errors
    ///
    /// Before anything is changed: an unsupported kernel, missing privileges, a cgroup that does
    /// not exist (see [`Absent`]), a table that is too large. Later: system calls. Apps
    /// that could not be attached are no error but in [`Applied::failed`].
    pub fn apply(&self, table: &Table, absent: Absent) -> Result<Applied> {
        kernel::check(object::need(&self.dir))?;
        let (desired, mut contested) = Desired::of_table(table, &self.cgroup_mount, absent)?;
        if absent == Absent::Refuse && !contested.is_empty() {
            return Err(contested.remove(0));
        }
        let mut applied = self.make(&desired, absent)?;
        applied.failed.extend(contested);
        Ok(applied)
    }

    /// What the kernel does now, for [`Datapath::restore`].
    ///
    /// # Errors
    ///
    /// As [`Datapath::list`].
    pub fn present(&self) -> Result<Desired> {
        kernel::check(Need::Pins)?;
        let Some((dir, maps)) = self.open()? else {
            return Ok(Desired::default());
        };
        let (now, attached) = (maps.snapshot()?, apps::read(&dir)?);
        Desired::of_kernel(&now, &attached, &maps, &self.cgroup_mount, Record::load(&self.dir))
    }

    /// Makes the kernel do again what it did, if it still does what it was made to do meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if somebody else changed it since; as [`Datapath::apply`].
    pub fn restore(&self, before: &Desired, meanwhile: &Desired) -> Result<Applied> {
        if !self.present()?.same_table(meanwhile) {
            return Err(Error::Refused(
                "the state was changed by somebody else meanwhile, so it stays as it is now; \
                 `vipnat list` shows it"
                    .to_owned(),
            ));
        }
        if before.apps.is_empty() {
            self.flush()?;
            return Ok(Applied::default());
        }
        self.make(before, Absent::Await)
    }

    /// Makes the kernel do what is desired.
    fn make(&self, desired: &Desired, absent: Absent) -> Result<Applied> {
        let dir = StateDir::create(&self.dir)?;
        let mut applied = Applied::default();
        self.take_over(&dir, desired, &mut applied)?;
        let maps = Maps::open(dir.path())?;
        let (now, tidied) = settle(&maps)?;
        let (attached, names) = (apps::read(&dir)?, Record::load(&self.dir));
        if apps::swap_programs(&dir, &attached)? > 0 && applied.changes.is_empty() {
            applied.changes.push(Change::Upgrade { layout: None });
        }
        let present = self.describe(Some(&maps), &now, &attached, &names)?;
        let work = Work::new(desired, &present)?;

        let leaving = self.leaving(desired, &work, &attached, &mut applied.warnings);
        let Done { failed, vanished } = carry_out(&dir, &maps, &work, &attached, absent)?;
        self.left(leaving, &maps, &mut applied)?;
        if let Err(error) = desired.names.save(&self.dir) {
            applied.warnings.push(format!("cannot keep the names for `vipnat list`: {error}"));
        }
        dir.is_still_there()?;
        applied.changes.extend(work.changes.into_iter().filter(|change| match change {
            Change::Attach { id, .. } if vanished.contains(id) => false,
            _ if failed.is_empty() => true,
            Change::Attach { app, .. } => !failed.contains_key(app),
            Change::Detach { .. } | Change::Leave { .. } => false,
            Change::Vip { new, .. } => new.is_some(),
            Change::Upgrade { .. } | Change::Expect { .. } | Change::Repair => true,
        }));
        let gone = work.attach.into_iter().filter(|attach| vanished.contains(&attach.cgroup));
        let leave = gone.map(|attach| Change::Leave { app: attach.app, cgroup: None });
        applied.changes.extend(leave);
        applied.failed.extend(failed.into_values());
        if applied.changes.is_empty() && (tidied || work.plan != Plan::default()) {
            applied.changes.push(Change::Repair);
        }
        Ok(applied)
    }

    /// Makes the pinned maps and programs those of this build.
    fn take_over(&self, dir: &StateDir, desired: &Desired, applied: &mut Applied) -> Result<()> {
        let layout = match object::condition(dir)? {
            Condition::Absent => return object::install(dir),
            // What an interrupted command left.
            Condition::Current => return dir.remove(NEW),
            Condition::OtherBuild => {
                upgrade::replace_programs(dir)?;
                None
            }
            Condition::OtherLayout(what) => {
                let attached = apps::read(dir)?;
                // Turns go on if this build can read where they are.
                let old = Maps::open(dir.path()).and_then(|maps| Ok((maps.snapshot()?, maps))).ok();
                let lost = upgrade::migrate(dir, &attached, |maps| {
                    self.fill(dir, maps, desired, &attached, old.as_ref())
                })?;
                applied.warnings.extend(lost);
                Some(what)
            }
        };
        applied.changes.push(Change::Upgrade { layout });
        Ok(())
    }

    /// Fills new maps, which nobody uses yet.
    fn fill(
        &self,
        dir: &StateDir,
        maps: &Maps,
        desired: &Desired,
        attached: &[AttachedApp],
        old: Option<&(Snapshot, Maps)>,
    ) -> Result<()> {
        let (nothing, names) = (Snapshot::default(), Record::default());
        let work = Work::new(desired, &self.describe(Some(maps), &nothing, attached, &names)?)?;
        reserve_scopes(dir, maps, &work, attached)?;
        for (_, slot) in &work.plan.slots {
            let (scope, vip) = (slot.owner.scope, slot.owner.vip.into());
            if let Some((now, old)) = old
                && let Some(cursor) = now.cursor_of(scope, vip)
            {
                maps.set_cursor(slot.cursor, old.cursor(cursor)?)?;
            }
        }
        write_lists(maps, &work.plan)
    }

    fn describe<'a>(
        &'a self,
        maps: Option<&'a Maps>,
        now: &'a Snapshot,
        attached: &'a [AttachedApp],
        names: &'a Record,
    ) -> Result<Present<'a>> {
        let last_scope =
            maps.map_or(Ok(0), |maps| maps.layout().map(|layout| layout.last_scope))?;
        Ok(Present { maps, now, attached, last_scope, names, mount: &self.cgroup_mount })
    }

    /// What [`Datapath::apply`] would change. Touches nothing.
    ///
    /// # Errors
    ///
    /// What `apply` would refuse before it changes anything, but for missing privileges.
    pub fn dry_run(&self, table: &Table) -> Result<Vec<Change>> {
        kernel::check(Need::Pins)?;
        let (desired, mut contested) =
            Desired::of_table(table, &self.cgroup_mount, Absent::Refuse)?;
        if !contested.is_empty() {
            return Err(contested.remove(0));
        }
        let names = Record::load(&self.dir);
        let nothing = Snapshot::default();
        let anew = |attached: &[AttachedApp]| {
            Ok(Work::new(&desired, &self.describe(None, &nothing, attached, &names)?)?.changes)
        };
        let Some(dir) = StateDir::open(&self.dir)? else {
            return anew(&[]);
        };
        let mut changes = match object::condition(&dir)? {
            Condition::Absent => return anew(&[]),
            Condition::Current => Vec::new(),
            Condition::OtherBuild => vec![Change::Upgrade { layout: None }],
            Condition::OtherLayout(what) => {
                let mut changes = vec![Change::Upgrade { layout: Some(what) }];
                changes.extend(anew(&apps::read(&dir)?)?);
                return Ok(changes);
            }
        };
        let maps = Maps::open(dir.path())?;
        let mut now = maps.snapshot()?;
        let leftover = now.leftover();
        for index in &leftover {
            now.slots.remove(index);
        }
        let attached = apps::read(&dir)?;
        let work = Work::new(&desired, &self.describe(Some(&maps), &now, &attached, &names)?)?;
        let repair = !leftover.is_empty() || work.plan != Plan::default();
        changes.extend(work.changes);
        if changes.is_empty() && repair {
            changes.push(Change::Repair);
        }
        Ok(changes)
    }

    /// Attaches an app to one more cgroup, given as a whole path. It stays attached, whatever tables
    /// say, until the cgroup or the app is gone. Returns `false` if it was already.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if no such app was applied, or the cgroup is another's or not there.
    pub fn attach(&self, name: &str, path: &Path) -> Result<bool> {
        kernel::check(Need::Pins)?;
        let refused = |what: String| Err(Error::Refused(what));
        let Some((dir, maps)) = self.open()? else {
            return refused(format!("no app {name:?}: nothing is applied; apply a table first"));
        };
        let below = path.strip_prefix(&self.cgroup_mount).unwrap_or(Path::new(""));
        if below == Path::new("") {
            return refused(format!(
                "{} is no cgroup of one container, below the cgroup v2 mount {}",
                path.display(),
                self.cgroup_mount.display()
            ));
        }
        let cgroup = cgroup::id(path).attempt(|| format!("read {}", path.display()))?;
        let Some(cgroup) = cgroup else {
            return refused(format!("cgroup {} does not exist", path.display()));
        };
        let attached = apps::read(&dir)?;
        let Some(app) = attached.iter().find(|app| app.name == name) else {
            let known: Vec<_> = attached.iter().map(|app| app.name.as_str()).collect();
            return refused(format!(
                "no app {name:?} is applied; there are: {}. Put it into the table",
                known.join(", ")
            ));
        };
        let other = attached.iter().find(|other| other.name != name && other.has_links_on(cgroup));
        if let Some(AttachedApp { name: other, .. }) = other {
            return refused(format!(
                "cgroup {} is app {other:?}'s; two apps can't share one",
                path.display()
            ));
        }
        if app.is_attached_to(cgroup)
            && maps.scope(cgroup)? == Some(app.scope)
            && app.by_hand().any(|claimed| claimed == cgroup)
        {
            return Ok(false);
        }
        // Containers come and go, and nobody may ever apply again.
        apps::release_gone(&maps, app)?;
        apps::claim(app, cgroup)?;
        let app = apps::reserve(&dir, app.scope, name)?;
        apps::attach(&dir, &maps, &app, cgroup, path)?;
        Ok(true)
    }

    /// The cgroups that exist now for the apps of a table, and where to watch for others.
    ///
    /// # Errors
    ///
    /// Cgroups or pins that can't be read.
    pub fn surroundings(&self, table: &Table) -> Result<Surroundings> {
        let mut around = Surroundings::default();
        let Surroundings { places, cgroups } = &mut around;
        for pattern in table.apps.values().filter_map(|app| app.cgroup.as_ref()) {
            let found = cgroup::find(&self.cgroup_mount, pattern, |path| {
                places.insert(path.to_owned());
            });
            cgroups.extend(found.attempt(|| format!("read the cgroups {pattern}"))?.into_keys());
        }
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(around);
        };
        let mut by_hand = BTreeSet::new();
        for app in apps::read(&dir)? {
            by_hand.extend(app.by_hand());
        }
        if !by_hand.is_empty() {
            let paths = cgroup::paths_by_id(&self.cgroup_mount);
            by_hand.retain(|id| paths.contains_key(id));
            let attached = by_hand.iter().filter_map(|id| paths.get(id));
            let parents = attached.filter_map(|path| path.parent());
            places.extend(parents.map(|path| self.cgroup_mount.join(path)));
        }
        cgroups.extend(by_hand);
        Ok(around)
    }

    /// Removes all of it: translation stops, nothing is left. Returns `false` if there was nothing.
    ///
    /// Works on state of any layout. Established connections stay, but from now on their sockets
    /// show the backend as their peer.
    ///
    /// # Errors
    ///
    /// A directory that is not vipnat's; system calls that fail.
    pub fn flush(&self) -> Result<bool> {
        kernel::check(Need::Pins)?;
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(false);
        };
        let found = !dir.is_empty()?;
        // Off first, if the maps can be understood; unlinking does the rest.
        if let (Ok(maps), Ok(apps)) = (Maps::open(dir.path()), apps::read(&dir)) {
            for app in apps {
                apps::release_all(&maps, &app)?;
            }
        }
        Record::remove(&self.dir).attempt(|| "remove the record of names".to_owned())?;
        Drains::default().save(&self.dir).attempt(|| "forget what is to end".to_owned())?;
        dir.remove_all()?;
        Ok(found)
    }

    /// Removes one app. Returns `false` if there is no such app.
    ///
    /// # Errors
    ///
    /// State of another layout; system calls that fail.
    pub fn flush_app(&self, name: &str) -> Result<bool> {
        kernel::check(Need::Change)?;
        let Some((dir, maps)) = self.open()? else {
            return Ok(false);
        };
        let apps = apps::read(&dir)?;
        let Some(app) = apps.iter().find(|app| app.name == name) else {
            return Ok(false);
        };
        let (now, _) = settle(&maps)?;
        let plan = Plan::new(&now, &[], |scope| scope == app.scope)?;
        apps::release_all(&maps, app)?;
        remove_entries(&maps, &plan)?;
        free(&maps, &plan)?;
        let mut record = Record::load(&self.dir);
        record.forget(name);
        record.save(&self.dir).attempt(|| "keep the record of names".to_owned())?;
        let mut drains = Drains::load(&self.dir);
        drains.cancel(|departed| departed.app == name);
        drains.save(&self.dir).attempt(|| "forget what is to end".to_owned())?;
        // Last, since without it there is no such app, and so nobody to do the rest for.
        apps::remove(app)?;
        dir.is_still_there()?;
        Ok(true)
    }

    /// The living cgroups that an app is translated in, as whole paths; `None` if there is no such app.
    ///
    /// # Errors
    ///
    /// As [`Datapath::list`].
    pub fn cgroups_of(&self, name: &str) -> Result<Option<Vec<PathBuf>>> {
        let listing = self.list()?;
        let app = listing.apps.into_iter().find(|app| app.name == name);
        Ok(app.map(|app| {
            let living = app.cgroups.into_iter().filter(|cgroup| cgroup.translating);
            living.filter_map(|cgroup| Some(self.cgroup_mount.join(cgroup.path?))).collect()
        }))
    }

    /// What the kernel does now. Empty if nothing was ever applied.
    ///
    /// # Errors
    ///
    /// State of another layout; missing privileges; system calls that fail.
    pub fn list(&self) -> Result<Listing> {
        kernel::check(Need::Pins)?;
        match self.open()? {
            None => Ok(Listing::default()),
            Some((dir, maps)) => {
                listing::read(&dir, &maps, &self.cgroup_mount, &Record::load(&self.dir))
            }
        }
    }

    /// Opens state that exists and is of this layout.
    fn open(&self) -> Result<Option<(StateDir, Maps)>> {
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(None);
        };
        if !object::exists(&dir) {
            return Ok(None);
        }
        object::check_layout(dir.path())?;
        let maps = Maps::open(dir.path())?;
        Ok(Some((dir, maps)))
    }
}
