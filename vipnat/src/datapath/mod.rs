//! The data path: makes the kernel match a table, reads it back, removes it.
//!
//! The pinned maps and links *are* the state; nothing else is kept, and no process has to stay.
//! [`Datapath::apply`] reads them back (`snapshot`), computes the difference (`plan`), and
//! makes it in an order in which every connect goes where the old table or the new one says.

mod apps;
mod cgroup;
mod error;
mod kernel;
mod listing;
mod maps;
mod object;
mod plan;
mod rule;
mod snapshot;
mod state_dir;
mod sys;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use self::{
    apps::AttachedApp,
    error::Attempt as _,
    maps::Maps,
    plan::{Plan, changes},
    snapshot::Snapshot,
    state_dir::StateDir,
};
pub use self::{
    cgroup::mount as cgroup_mount,
    error::{Error, Result},
    listing::{ListedApp, ListedVip, Listing},
    rule::{Rule, Turn},
};
use crate::table::Table;

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

/// Everything that is to be done, and what that means.
struct Work {
    plan: Plan,
    changes: Vec<Change>,
    /// Apps that go.
    detach: Vec<AttachedApp>,
    /// Apps to attach: name, scope, cgroup id, its path.
    attach: Vec<(String, u32, u64, PathBuf)>,
}

impl Datapath {
    /// The state in `dir`, which need not exist. `cgroup_mount` is where cgroup v2 is mounted.
    pub fn new(dir: &Path, cgroup_mount: &Path) -> Self {
        Self { dir: dir.to_owned(), cgroup_mount: cgroup_mount.to_owned() }
    }

    /// Makes the kernel match the table, and returns what that changed. Translation goes on when
    /// the process ends.
    ///
    /// VIPs that do not change keep their place in the round robin, and so do those that get other
    /// backends. If it fails half-way, every VIP does what the old table or the new one says, and
    /// the next call does the rest.
    ///
    /// # Errors
    ///
    /// Before anything is changed: an unsupported kernel, missing privileges, a cgroup that does
    /// not exist, state of another layout, a table that is too large. Later: system calls.
    pub fn apply(&self, table: &Table) -> Result<Vec<Change>> {
        kernel::check()?;
        let cgroups = self.cgroups(table)?;
        let dir = StateDir::create(&self.dir)?;
        object::ensure(&dir)?;
        let mut maps = Maps::open(dir.path())?;
        let mut now = maps.snapshot()?;
        let leftover = now.leftover();
        let repaired = !leftover.is_empty();
        if repaired {
            free(&mut maps, &Plan::tidy(&now, leftover))?;
            now = maps.snapshot()?;
        }
        let work = self.work(table, &cgroups, &now, &apps::read(&dir)?, Some(&maps))?;
        let Work { plan, mut changes, detach, attach } = work;

        for app in &detach {
            apps::detach(&maps, app)?;
        }
        commit(&mut maps, &plan)?;
        for (name, scope, cgroup, path) in &attach {
            let app = apps::reserve(&dir, *scope, name)?;
            apps::attach(&dir, &maps, &app, *cgroup, path)?;
        }
        free(&mut maps, &plan)?;
        if repaired && changes.is_empty() {
            changes.push(Change::Repair);
        }
        Ok(changes)
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
        for index in now.leftover() {
            now.slots.remove(&index);
        }
        Ok(self.work(table, &cgroups, &now, &apps::read(&dir)?, Some(&maps))?.changes)
    }

    /// Removes all of it: translation stops, nothing is left. Returns `false` if there was nothing.
    ///
    /// Works on state of any layout. Established connections stay.
    ///
    /// # Errors
    ///
    /// System calls that fail.
    pub fn flush(&self) -> Result<bool> {
        kernel::check()?;
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(false);
        };
        // Off at one stroke, if the maps can still be understood; unlinking does the rest.
        if let (Ok(maps), Ok(apps)) = (Maps::open(dir.path()), apps::read(&dir)) {
            for app in apps {
                apps::detach(&maps, &app)?;
            }
        }
        for name in state_dir::names(dir.path())? {
            dir.remove(&name)?;
        }
        dir.remove_self()?;
        Ok(true)
    }

    /// Removes one app. Returns `false` if there is no such app.
    ///
    /// # Errors
    ///
    /// State of another layout; system calls that fail.
    pub fn flush_app(&self, name: &str) -> Result<bool> {
        kernel::check()?;
        let Some((dir, mut maps)) = self.open()? else {
            return Ok(false);
        };
        let apps = apps::read(&dir)?;
        let Some(app) = apps.iter().find(|app| app.name == name) else {
            return Ok(false);
        };
        let now = maps.snapshot()?;
        let plan = Plan::new(&now, &[], |scope| scope == app.scope)?;
        apps::detach(&maps, app)?;
        commit(&mut maps, &plan)?;
        free(&mut maps, &plan)?;
        Ok(true)
    }

    /// The cgroup of an app, as a whole path; `None` if there is no such app or its cgroup is gone.
    ///
    /// # Errors
    ///
    /// As [`Datapath::list`].
    pub fn cgroup_of(&self, name: &str) -> Result<Option<PathBuf>> {
        let apps = self.list()?.apps;
        let app = apps.into_iter().find(|app| app.name == name);
        Ok(app.and_then(|app| app.cgroup).map(|cgroup| self.cgroup_mount.join(cgroup)))
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
            Some((dir, maps)) => listing::read(&dir, &maps, &self.cgroup_mount),
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
        for (name, app) in &table.apps {
            let path = self.cgroup_mount.join(&app.cgroup);
            let id = cgroup::id(&path).attempt(|| format!("read {}", path.display()))?;
            let id = id.ok_or_else(|| Error::NoCgroup { app: name.clone(), path })?;
            ids.insert(name.clone(), id);
        }
        Ok(ids)
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
        let mut names: BTreeMap<u32, String> =
            attached.iter().map(|app| (app.scope, app.name.clone())).collect();
        let by_name: HashMap<_, _> = attached.iter().map(|app| (app.name.as_str(), app)).collect();
        let mut scopes = FreeScopes::new(now, attached);
        let mut work = Work {
            plan: Plan::default(),
            changes: Vec::new(),
            detach: attached
                .iter()
                .filter(|a| !table.apps.contains_key(&a.name))
                .cloned()
                .collect(),
            attach: Vec::new(),
        };
        let gone = work.detach.iter().map(|app| Change::Detach { app: app.name.clone() });
        work.changes.extend(gone);

        let mut rules = Vec::new();
        for (name, app) in &table.apps {
            let existing = by_name.get(name.as_str());
            let scope = existing.map_or_else(|| scopes.take(), |app| app.scope);
            names.insert(scope, name.clone());
            rules.extend(app.relationships.values().map(|r| Rule::new(scope, r, table)));

            let id = cgroups[name];
            let on = match maps {
                Some(maps) => maps.scope(id)? == Some(scope),
                None => false,
            };
            if !(on && existing.is_some_and(|app| app.is_attached_to(id))) {
                let path = self.cgroup_mount.join(&app.cgroup);
                work.attach.push((name.clone(), scope, id, path));
                let cgroup = app.cgroup.clone();
                work.changes.push(Change::Attach { app: name.clone(), cgroup });
            }
        }
        work.plan = Plan::new(now, &rules, |_| true)?;
        work.changes.extend(changes(now, &rules).into_iter().map(|change| Change::Vip {
            app: names.get(&change.scope).cloned().unwrap_or_else(|| change.scope.to_string()),
            vip: change.vip,
            old: change.old,
            new: change.new,
        }));
        Ok(work)
    }
}

/// Scopes that no app, entry or slot has, lowest first.
struct FreeScopes {
    taken: BTreeSet<u32>,
    next: u32,
}

impl FreeScopes {
    fn new(now: &Snapshot, attached: &[AttachedApp]) -> Self {
        let entries = now.entries.keys().map(|key| key.scope);
        let slots = now.slots.values().map(|slot| slot.owner.scope);
        let attached = attached.iter().map(|app| app.scope);
        // 0 is "no app".
        Self { taken: attached.chain(entries).chain(slots).collect(), next: 1 }
    }

    fn take(&mut self) -> u32 {
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }
}

/// Makes the change visible. After each write every connect goes where the old table or the new
/// one says.
fn commit(maps: &mut Maps, plan: &Plan) -> Result<()> {
    let Plan { slots, switches, removals, cursors: _, freed: _ } = plan;
    for (index, slot) in slots {
        maps.write_slot(*index, *slot)?;
    }
    for (key, range) in switches {
        maps.switch(*key, *range)?;
    }
    for key in removals {
        maps.remove(*key)?;
    }
    Ok(())
}

/// Frees what no entry points to any more, once no program can still be reading it. If it does not
/// get that far, what remains is found as leftover the next time.
fn free(maps: &mut Maps, plan: &Plan) -> Result<()> {
    let Plan { slots: _, switches: _, removals: _, cursors, freed } = plan;
    if freed.is_empty() {
        return Ok(());
    }
    sys::wait_for_programs().attempt(|| "wait for running programs".to_owned())?;
    for cursor in cursors {
        maps.reset_cursor(*cursor)?;
    }
    for index in freed {
        maps.free_slot(*index)?;
    }
    Ok(())
}
