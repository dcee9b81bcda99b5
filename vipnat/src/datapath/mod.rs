//! The data path: makes the kernel match a table, reads it back, removes it.
//!
//! The pinned maps and links *are* the state; nothing else is kept, and no process has to stay.
//! [`Datapath::apply`] reads them back (`snapshot`), computes the difference (`plan`), and
//! makes it in an order in which every connect goes where the old table or the new one says.

mod apps;
mod cgroup;
mod departed;
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

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use self::{
    apps::AttachedApp,
    error::Attempt as _,
    maps::Maps,
    plan::{Plan, RuleChange},
    snapshot::Snapshot,
    state_dir::StateDir,
};
pub use self::{
    cgroup::mount as cgroup_mount,
    departed::Departed,
    ending::{Connections, Drained},
    error::{Error, Result},
    listing::{ListedApp, ListedVip, Listing},
    rule::{Rule, Turn},
};
use crate::{drains::Drains, record::Record, table::Table};

/// The state in one directory of bpffs.
#[derive(Clone, Debug)]
pub struct Datapath {
    dir: PathBuf,
    cgroup_mount: PathBuf,
}

/// One difference that [`Datapath::apply`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An app is attached to a cgroup, for the first time or again.
    Attach {
        /// The app.
        app: String,
        /// Its cgroup, below the mount.
        cgroup: PathBuf,
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

/// The difference between a table and what is there.
struct Work {
    plan: Plan,
    changes: Vec<Change>,
    attach: Vec<Attach>,
    /// The app that each cgroup is to belong to, by cgroup id.
    owners: HashMap<u64, String>,
}

/// An app to attach to a cgroup.
struct Attach {
    app: String,
    scope: u32,
    cgroup: u64,
    path: PathBuf,
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
    /// the next call does the rest.
    ///
    /// # Errors
    ///
    /// Before anything is changed: an unsupported kernel, missing privileges, a cgroup that does
    /// not exist, state of another layout, a table that is too large. Later: system calls. Apps
    /// that could not be attached are no error but in [`Applied::failed`].
    pub fn apply(&self, table: &Table) -> Result<Applied> {
        kernel::check()?;
        let cgroups = self.cgroups(table)?;
        let dir = StateDir::create(&self.dir)?;
        object::ensure(&dir)?;
        let maps = Maps::open(dir.path())?;
        let (now, tidied) = settle(&maps)?;
        let attached = apps::read(&dir)?;
        let work = self.work(table, &cgroups, &now, &attached, Some(&maps))?;

        let mut applied = Applied::default();
        if !object::is_this_build(dir.path())? {
            applied.warnings.push(
                "the programs in the kernel are another build's; to replace them, run `vipnat \
                 flush` and apply again: VIPs do not answer in between"
                    .to_owned(),
            );
        }
        let leaving = self.leaving(table, &work, &attached, &mut applied.warnings);
        let failed = carry_out(&dir, &maps, &work, &attached, &mut applied)?;
        self.left(leaving, &maps, &mut applied)?;
        if let Err(error) = Record::of(table).save(&self.dir) {
            applied.warnings.push(format!("cannot keep the names for `vipnat list`: {error}"));
        }
        applied.changes = work.changes;
        if !failed.is_empty() {
            applied.changes.retain(|change| match change {
                Change::Attach { app, .. } => !failed.contains(app),
                Change::Detach { .. } => false,
                Change::Vip { new, .. } => new.is_some(),
                Change::Repair => true,
            });
        }
        if applied.changes.is_empty() && (tidied || work.plan != Plan::default()) {
            applied.changes.push(Change::Repair);
        }
        Ok(applied)
    }

    /// What [`Datapath::apply`] would change. Touches nothing.
    ///
    /// # Errors
    ///
    /// What `apply` would refuse before it changes anything.
    pub fn dry_run(&self, table: &Table) -> Result<Vec<Change>> {
        kernel::check()?;
        let cgroups = self.cgroups(table)?;
        let Some((dir, maps)) = self.open()? else {
            return Ok(self.work(table, &cgroups, &Snapshot::default(), &[], None)?.changes);
        };
        let mut now = maps.snapshot()?;
        let leftover = now.leftover();
        for index in &leftover {
            now.slots.remove(index);
        }
        let work = self.work(table, &cgroups, &now, &apps::read(&dir)?, Some(&maps))?;
        let repair = !leftover.is_empty() || work.plan != Plan::default();
        let mut changes = work.changes;
        if changes.is_empty() && repair {
            changes.push(Change::Repair);
        }
        Ok(changes)
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
        kernel::check()?;
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(false);
        };
        if dir.is_empty()? {
            return Ok(false);
        }
        // Off first, if the maps can be understood; unlinking does the rest.
        if let (Ok(maps), Ok(apps)) = (Maps::open(dir.path()), apps::read(&dir)) {
            for app in apps {
                apps::release_all(&maps, &app)?;
            }
        }
        Record::remove(&self.dir).attempt(|| "remove the record of names".to_owned())?;
        Drains::default().save(&self.dir).attempt(|| "forget what is to end".to_owned())?;
        dir.remove_all()?;
        Ok(true)
    }

    /// Removes one app. Returns `false` if there is no such app.
    ///
    /// # Errors
    ///
    /// State of another layout; system calls that fail.
    pub fn flush_app(&self, name: &str) -> Result<bool> {
        kernel::check()?;
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
        apps::remove(app)?;
        free(&maps, &plan)?;
        let mut record = Record::load(&self.dir);
        record.forget(name);
        record.save(&self.dir).attempt(|| "keep the record of names".to_owned())?;
        let mut drains = Drains::load(&self.dir);
        drains.cancel(|departed| departed.app == name);
        drains.save(&self.dir).attempt(|| "forget what is to end".to_owned())?;
        Ok(true)
    }

    /// The cgroup of an app, as a whole path; `None` if there is no such app or its cgroup is gone.
    ///
    /// # Errors
    ///
    /// As [`Datapath::list`].
    pub fn cgroup_of(&self, name: &str) -> Result<Option<PathBuf>> {
        kernel::check()?;
        let Some((dir, maps)) = self.open()? else {
            return Ok(None);
        };
        let apps = apps::read(&dir)?;
        let Some(app) = apps.iter().find(|app| app.name == name) else {
            return Ok(None);
        };
        let paths = cgroup::paths_by_id(&self.cgroup_mount);
        let path = app.active(&maps)?.and_then(|id| paths.get(&id));
        Ok(path.map(|path| self.cgroup_mount.join(path)))
    }

    /// What the kernel does now. Empty if nothing was ever applied.
    ///
    /// # Errors
    ///
    /// State of another layout; missing privileges; system calls that fail.
    pub fn list(&self) -> Result<Listing> {
        kernel::check()?;
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

    /// The cgroup ids of a table's apps.
    fn cgroups(&self, table: &Table) -> Result<HashMap<String, u64>> {
        let mut ids = HashMap::new();
        let mut missing = Vec::new();
        for (name, app) in &table.apps {
            let path = self.cgroup_mount.join(&app.cgroup);
            match cgroup::id(&path).attempt(|| format!("read {}", path.display()))? {
                Some(id) => drop(ids.insert(name.clone(), id)),
                None => missing.push((name.clone(), path)),
            }
        }
        if missing.is_empty() { Ok(ids) } else { Err(Error::NoCgroup { missing }) }
    }

    /// The difference between the table and what is there.
    fn work(
        &self,
        table: &Table,
        cgroups: &HashMap<String, u64>,
        now: &Snapshot,
        attached: &[AttachedApp],
        maps: Option<&Maps>,
    ) -> Result<Work> {
        let by_name: HashMap<_, _> = attached.iter().map(|app| (app.name.as_str(), app)).collect();
        let mut names: BTreeMap<u32, String> =
            attached.iter().map(|app| (app.scope, app.name.clone())).collect();
        let last = maps.map_or(Ok(0), Maps::last_scope)?;
        let mut scopes = FreeScopes::new(now, attached, last);
        let gone = attached.iter().filter(|app| !table.apps.contains_key(&app.name));
        let mut changes: Vec<_> =
            gone.map(|app| Change::Detach { app: app.name.clone() }).collect();
        let (mut attach, mut owners, mut rules) = (Vec::new(), HashMap::new(), Vec::new());
        for (name, app) in &table.apps {
            let existing = by_name.get(name.as_str());
            let scope = existing.map_or_else(|| scopes.take(), |app| app.scope);
            names.insert(scope, name.clone());
            rules.extend(app.relationships.values().map(|r| Rule::new(scope, r, table)));

            let cgroup = cgroups[name];
            owners.insert(cgroup, name.clone());
            let on = match maps {
                Some(maps) => maps.scope(cgroup)? == Some(scope),
                None => false,
            };
            if !(on && existing.is_some_and(|app| app.is_attached_to(cgroup))) {
                let path = self.cgroup_mount.join(&app.cgroup);
                attach.push(Attach { app: name.clone(), scope, cgroup, path });
                changes.push(Change::Attach { app: name.clone(), cgroup: app.cgroup.clone() });
            }
        }
        let (old, new) = (Record::load(&self.dir), Record::of(table));
        changes.extend(plan::changes(now, &rules).into_iter().map(|change| {
            let RuleChange { scope, vip, old: from, new: to } = change;
            let app = names.get(&scope).cloned().unwrap_or_else(|| format!("(scope {scope})"));
            let known = new.names(&app, vip).or_else(|| old.names(&app, vip));
            let relationship = known.map(|names| names.relationship.clone());
            Change::Vip { app, relationship, vip, old: from, new: to }
        }));
        Ok(Work { plan: Plan::new(now, &rules, |_| true)?, changes, attach, owners })
    }
}

/// Scopes that no app ever had, lowest first, nor has any entry or slot: a socket may keep flows of an
/// app that is gone, and must not take them to another one.
struct FreeScopes {
    taken: BTreeSet<u32>,
    next: u32,
}

impl FreeScopes {
    fn new(now: &Snapshot, attached: &[AttachedApp], last: u32) -> Self {
        let entries = now.entries.keys().map(|key| key.scope);
        let slots = now.slots.values().map(|slot| slot.owner.scope);
        let attached = attached.iter().map(|app| app.scope);
        // 0 is "no app".
        Self {
            taken: attached.chain(entries).chain(slots).collect(),
            next: last.wrapping_add(1).max(1),
        }
    }

    fn take(&mut self) -> u32 {
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }
}

/// Reads the maps back and frees what an interrupted command left. Returns whether there was any.
fn settle(maps: &Maps) -> Result<(Snapshot, bool)> {
    let now = maps.snapshot()?;
    let leftover = now.leftover();
    if leftover.is_empty() {
        return Ok((now, false));
    }
    free(maps, &Plan::tidy(&now, leftover))?;
    Ok((maps.snapshot()?, true))
}

/// Makes the difference, in an order in which every connect of an app goes where the old table or
/// the new one says: what comes is complete before anything leads to it, and what goes is led to by
/// nothing before it goes. Returns the apps that could not be attached.
fn carry_out(
    dir: &StateDir,
    maps: &Maps,
    work: &Work,
    attached: &[AttachedApp],
    applied: &mut Applied,
) -> Result<BTreeSet<String>> {
    let Work { plan, changes: _, attach, owners } = work;
    // An app's directory is there before and after all that has its scope in the maps, so that what
    // an interrupted command leaves is found again under its name.
    let highest = attach.iter().map(|attach| attach.scope).max().unwrap_or(0);
    if highest > maps.last_scope()? {
        maps.set_last_scope(highest)?;
    }
    for attach in attach {
        apps::reserve(dir, attach.scope, &attach.app)?;
    }
    for (index, slot) in &plan.slots {
        maps.write_slot(*index, *slot)?;
    }
    for (key, range) in &plan.switches {
        maps.switch(*key, *range)?;
    }
    // One write for each cgroup makes it the new app's.
    let mut failed = BTreeSet::new();
    for attach in attach {
        if let Err(error) = attach_app(dir, maps, attach, attached, owners) {
            failed.insert(attach.app.clone());
            applied.failed.push(error);
        }
    }
    if !failed.is_empty() {
        return Ok(failed);
    }
    let wanted: BTreeSet<_> = owners.values().collect();
    let mut gone = Vec::new();
    for app in apps::read(dir)? {
        for cgroup in app.cgroups().filter(|cgroup| owners.get(cgroup) != Some(&app.name)) {
            apps::release(maps, &app, cgroup)?;
        }
        if !wanted.contains(&app.name) {
            gone.push(app);
        }
    }
    // A program that still has the scope that its cgroup had before must find its entries.
    if !attach.is_empty() && !plan.removals.is_empty() {
        wait()?;
    }
    remove_entries(maps, plan)?;
    gone.iter().try_for_each(apps::remove)?;
    free(maps, plan)?;
    Ok(failed)
}

/// Attaches one app, with the links that another one has on its cgroup, if any.
fn attach_app(
    dir: &StateDir,
    maps: &Maps,
    attach: &Attach,
    attached: &[AttachedApp],
    owners: &HashMap<u64, String>,
) -> Result<()> {
    let Attach { app, scope, cgroup, path } = attach;
    let own = apps::reserve(dir, *scope, app)?;
    let holder = attached.iter().find(|other| other.name != *app && other.has_links_on(*cgroup));
    if let Some(holder) = holder
        && !own.has_links_on(*cgroup)
    {
        apps::hand_over(holder, &own, *cgroup)?;
    }
    apps::attach(dir, maps, &own, *cgroup, path)?;
    // At once, since cgroups nest: one inside the other, both would translate. What another app is
    // to have, it takes over.
    for old in own.cgroups().filter(|old| old != cgroup && !owners.contains_key(old)) {
        apps::release(maps, &own, old)?;
    }
    Ok(())
}

fn remove_entries(maps: &Maps, plan: &Plan) -> Result<()> {
    plan.removals.iter().try_for_each(|key| maps.remove(*key))
}

/// Frees what no entry points to any more, once no program can still be reading it. If it does not
/// get that far, what remains is found as leftover the next time.
fn free(maps: &Maps, plan: &Plan) -> Result<()> {
    let Plan { slots: _, switches: _, removals: _, cursors, freed } = plan;
    if freed.is_empty() {
        return Ok(());
    }
    wait()?;
    for cursor in cursors {
        maps.reset_cursor(*cursor)?;
    }
    freed.iter().try_for_each(|index| maps.free_slot(*index))
}

fn wait() -> Result<()> {
    sys::wait_for_programs().attempt(|| "wait for running programs".to_owned())
}
