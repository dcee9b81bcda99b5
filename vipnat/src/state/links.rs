//! Apps in the state directory: their links, and the switch that turns their translation on.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io,
    mem::swap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::programs::{CgroupAttachMode, CgroupSockAddrAttachType as Hook, links::FdLink};
use aya_obj::generated::bpf_attach_type;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{
    kernel::{
        bpf_syscall::{self, link_info},
        cgroup::Paths,
        error::{Attempt as _, Error, Result},
        maps::Switch,
        others::Held,
        pinned_programs::{Programs, program},
        pins::{APPS, HOOKS, names},
    },
    state::state_dir::{StateDir, remove_tree, remove_tree_but},
};
use vipnat_common::AppId;
use vipnat_core::model::Place;
use vipnat_core::text::shown_name;

/// What may stand in a file name as it is. bpffs refuses dots (`bpf_lookup` in kernel/bpf/inode.c).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'@').remove(b'+');

/// Before the id of a cgroup that was attached by hand, not because a table names it.
const BY_HAND: char = '+';

/// An app by its directories alone: what its links are was not read yet, which takes some system calls for
/// each.
#[derive(Debug)]
pub(crate) struct PinnedApp {
    /// Its name.
    pub(crate) name: String,
    /// Its number in the maps.
    pub(crate) app_id: AppId,
    dir: PathBuf,
    /// The cgroups it has something on, by id, and whether by hand.
    cgroups: BTreeMap<u64, bool>,
    /// Those for which there is a second directory, from foreign hands.
    twice: BTreeSet<u64>,
}

impl PinnedApp {
    fn list(dir: PathBuf, app_id: AppId, name: String) -> Result<Self> {
        let (mut cgroups, mut twice) = (BTreeMap::new(), BTreeSet::new());
        for file in names(&dir).map_err(|error| error.unless_directory(|| foreign(&dir)))? {
            let (cgroup, by_hand) =
                parse_links_name(&file).ok_or_else(|| foreign(&dir.join(&file)))?;
            if cgroups.insert(cgroup, by_hand).is_some() {
                twice.insert(cgroup);
            }
        }
        Ok(Self { name, app_id, dir, cgroups, twice })
    }

    /// Whether it has something on this cgroup.
    pub(crate) fn has(&self, cgroup: u64) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// Whether this cgroup was attached by hand.
    pub(crate) fn has_by_hand(&self, cgroup: u64) -> bool {
        self.cgroups.get(&cgroup).is_some_and(|by_hand| *by_hand)
    }

    /// Reads its links.
    pub(crate) fn read(&self) -> Result<AttachedApp> {
        let Self { name, app_id, dir, cgroups: ids, twice } = self;
        let mut cgroups = BTreeMap::new();
        let read = |cgroup: u64, by_hand: bool| {
            let links = if by_hand { format!("{BY_HAND}{cgroup}") } else { cgroup.to_string() };
            Links::read(dir.join(links), cgroup, by_hand)
        };
        for (cgroup, by_hand) in ids {
            let mut links = read(*cgroup, *by_hand)?;
            if twice.contains(cgroup) {
                let mut other = read(*cgroup, !by_hand)?;
                // The one with links counts.
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

/// An app as the state directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttachedApp {
    /// Its name.
    pub(crate) name: String,
    /// Its number in the maps.
    pub(crate) app_id: AppId,
    dir: PathBuf,
    /// What it has on each cgroup, by id.
    cgroups: BTreeMap<u64, Links>,
}

/// The links that an app has on a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Links {
    dir: PathBuf,
    /// The program that each hook runs there; `None` if it is not attached, or the cgroup is gone.
    programs: [Option<u32>; HOOKS.len()],
    /// Whether there is any pin of these.
    pinned: bool,
    /// Whether `vipnat attach` made them: then no table has to name the cgroup.
    by_hand: bool,
    /// Links of hooks that this build does not have, which lead where another build's maps say, and a second
    /// directory of this cgroup.
    others: Vec<PathBuf>,
}

impl Links {
    fn read(dir: PathBuf, cgroup: u64, by_hand: bool) -> Result<Self> {
        let mut programs = [None; HOOKS.len()];
        for ((hook, kind), program) in HOOKS.iter().zip(&mut programs) {
            *program = attached_program(&dir.join(hook), cgroup, *kind)?;
        }
        let ours = |name: &String| HOOKS.iter().any(|(hook, _)| hook == name);
        let (own, others): (Vec<_>, Vec<_>) = names(&dir)?.into_iter().partition(ours);
        let others = others.into_iter().map(|name| dir.join(name)).collect();
        Ok(Self { dir, programs, pinned: !own.is_empty(), by_hand, others })
    }

    fn complete(&self) -> bool {
        self.programs.iter().all(Option::is_some)
    }

    /// Whether they are attached to nothing. Then the cgroup may be gone; or somebody detached them, which
    /// looks the same.
    fn orphaned(&self) -> bool {
        self.pinned && self.programs.iter().all(Option::is_none)
    }
}

impl AttachedApp {
    /// The ids of the cgroups it has links on, also of those that are gone.
    pub(crate) fn cgroups(&self) -> impl Iterator<Item = u64> {
        self.cgroups.keys().copied()
    }

    /// The ids of the cgroups that were attached by hand, also of those that are gone: a link may name
    /// its cgroup for a moment after that was removed (`cgroup_bpf_offline` leaves it to a worker).
    pub(crate) fn by_hand(&self) -> impl Iterator<Item = u64> {
        let by_hand = self.cgroups.iter().filter(|(_, links)| links.by_hand);
        by_hand.map(|(cgroup, _)| *cgroup)
    }

    /// Whether this cgroup was attached by hand.
    pub(crate) fn has_by_hand(&self, cgroup: u64) -> bool {
        self.cgroups.get(&cgroup).is_some_and(|links| links.by_hand)
    }

    /// Whether any cgroup was, also if this was read for one only.
    pub(crate) fn has_any_by_hand(&self) -> Result<bool> {
        Ok(names(&self.dir)?.iter().any(|file| file.starts_with(BY_HAND)))
    }

    /// Whether every hook is attached to this cgroup.
    pub(crate) fn is_attached_to(&self, cgroup: u64) -> bool {
        self.cgroups.get(&cgroup).is_some_and(Links::complete)
    }

    /// Whether its directory has the name that this build gives it. Otherwise foreign hands made it.
    pub(crate) fn is_at_home(&self) -> bool {
        let name = dir_name(self.app_id, &self.name);
        self.app_id != AppId::NONE && self.dir.file_name().is_some_and(|file| *file == *name)
    }

    /// The cgroups it is translated in: with every hook attached, and switched on.
    pub(crate) fn active(&self, switch: &Switch) -> Result<BTreeSet<u64>> {
        let mut active = BTreeSet::new();
        for (cgroup, links) in &self.cgroups {
            if links.complete() && switch.app_of(*cgroup)? == Some(self.app_id) {
                active.insert(*cgroup);
            }
        }
        Ok(active)
    }

    /// The same app as it is now; without cgroups, if it is gone.
    pub(crate) fn again(&self) -> Result<Self> {
        PinnedApp::list(self.dir.clone(), self.app_id, self.name.clone())?.read()
    }

    /// Whether it has links on this cgroup.
    pub(crate) fn has_links_on(&self, cgroup: u64) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// The programs that its links run, by id.
    pub(crate) fn programs(&self) -> impl Iterator<Item = u32> {
        self.cgroups.values().flat_map(|links| links.programs).flatten()
    }

    /// Its links on this cgroup, if it has a directory for them.
    pub(crate) fn held(&self, cgroup: u64) -> Option<Held<'_>> {
        let links = self.cgroups.get(&cgroup)?;
        Some(Held { dir: &links.dir, programs: links.programs })
    }

    /// Looks again at what it has on one cgroup, and not on the others, which may be thousands.
    pub(crate) fn look_at(&mut self, cgroup: u64) -> Result<()> {
        self.cgroups.remove(&cgroup);
        for (name, by_hand) in [(format!("{BY_HAND}{cgroup}"), true), (cgroup.to_string(), false)] {
            let links = self.dir.join(name);
            if links.try_exists().attempt(|| format!("read {}", links.display()))? {
                self.cgroups.insert(cgroup, Links::read(links, cgroup, by_hand)?);
            }
        }
        Ok(())
    }

    /// The directory of its links on a cgroup, which need not exist.
    fn links(&self, cgroup: u64) -> PathBuf {
        let links = self.cgroups.get(&cgroup).map(|links| links.dir.clone());
        links.unwrap_or_else(|| self.dir.join(cgroup.to_string()))
    }

    /// The links that run another program than these, and the hook of each.
    fn outdated<'a>(
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

/// The apps of a state directory, by app id.
pub(crate) fn list(dir: &StateDir) -> Result<Vec<PinnedApp>> {
    let apps = dir.path().join(APPS);
    let mut all = Vec::new();
    for file in names(&apps)? {
        let path = apps.join(&file);
        let (app_id, name) = parse_dir_name(&file).ok_or_else(|| foreign(&path))?;
        all.push(PinnedApp::list(path, app_id, name)?);
    }
    all.sort_by_key(|app| app.app_id);
    Ok(all)
}

/// An app by its name, whatever others there are. Only foreign hands make several directories of one.
pub(crate) fn find(dir: &StateDir, name: &str) -> Result<Vec<AttachedApp>> {
    let apps = dir.path().join(APPS);
    let mut all = Vec::new();
    for file in names(&apps)? {
        match parse_dir_name(&file) {
            Some((app_id, found)) if found == name => {
                all.push(PinnedApp::list(apps.join(file), app_id, found)?.read()?);
            }
            _ => {}
        }
    }
    Ok(all)
}

/// The directories that count, by the names of their apps. There is one of each app, and one of each app id,
/// unless foreign hands made more; then those with more links.
pub(crate) fn current(attached: &[AttachedApp]) -> HashMap<&str, &AttachedApp> {
    let mut candidates: Vec<_> = attached.iter().filter(|app| app.is_at_home()).collect();
    let whole = |app: &AttachedApp| app.cgroups.values().filter(|links| links.complete()).count();
    candidates.sort_by_cached_key(|app| (Reverse(whole(app)), app.app_id));
    let mut app_ids = HashSet::new();
    let mut current = HashMap::new();
    for app in candidates {
        if !current.contains_key(app.name.as_str()) && app_ids.insert(app.app_id) {
            current.insert(app.name.as_str(), app);
        }
    }
    current
}

/// That there is no app of a name, with the names of those there are.
pub(crate) fn unknown(dir: Option<&StateDir>, name: &str) -> Error {
    let files = dir.map(|dir| names(&dir.path().join(APPS))).and_then(Result::ok);
    let known = files.into_iter().flatten();
    let known: Vec<_> = known.filter_map(|file| Some(parse_dir_name(&file)?.1)).collect();
    Error::Refused(if known.is_empty() {
        format!("no app {name:?}: nothing is applied; apply a table first")
    } else {
        format!(
            "no app {name:?} is applied; there are: {}. Put it into the table",
            known.join(", ")
        )
    })
}

/// Reads the apps of a state directory, by app id, with their links.
pub(crate) fn read(dir: &StateDir) -> Result<Vec<AttachedApp>> {
    list(dir)?.iter().map(PinnedApp::read).collect()
}

/// An app with what it has on one cgroup, whatever else it has; `None` if there is no such app.
pub(crate) fn read_one(
    dir: &StateDir,
    app_id: AppId,
    name: &str,
    cgroup: u64,
) -> Result<Option<AttachedApp>> {
    let dir = dir.path().join(APPS).join(dir_name(app_id, name));
    let exists = |path: &Path| path.try_exists().attempt(|| format!("read {}", path.display()));
    if !exists(&dir)? {
        return Ok(None);
    }
    let mut cgroups = BTreeMap::new();
    for by_hand in [false, true] {
        let file = if by_hand { format!("{BY_HAND}{cgroup}") } else { cgroup.to_string() };
        let links = dir.join(file);
        if exists(&links)? {
            cgroups.insert(cgroup, Links::read(links, cgroup, by_hand)?);
        }
    }
    Ok(Some(AttachedApp { name: name.to_owned(), app_id, dir, cgroups }))
}

/// The program that a pinned link runs at this hook of this cgroup, by id.
fn attached_program(pin: &Path, cgroup: u64, hook: Hook) -> Result<Option<u32>> {
    match link_info(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(foreign(pin.parent().unwrap_or(pin)))
        }
        other => {
            let info = other.attempt(|| format!("read {}", pin.display()))?;
            let hook = bpf_attach_type::from(hook) as u32;
            Ok((info.cgroup == cgroup && info.hook == hook).then_some(info.program))
        }
    }
}

fn foreign(path: &Path) -> Error {
    Error::Unsupported(format!("{} is not vipnat's; remove it", path.display()))
}

/// The app with this app id and name, whose app id is reserved if it has none yet.
pub(crate) fn reserve(dir: &StateDir, app_id: AppId, name: &str) -> Result<AttachedApp> {
    let path = dir.path().join(APPS).join(dir_name(app_id, name));
    fs::create_dir_all(&path).attempt(|| format!("make {}", path.display()))?;
    PinnedApp::list(path, app_id, name.to_owned())?.read()
}

/// Gives the links that one app has on a cgroup to another. They stay attached: which app a cgroup
/// is, says the switch alone.
pub(crate) fn hand_over(from: &AttachedApp, to: &AttachedApp, cgroup: u64) -> Result<()> {
    let links = from.links(cgroup);
    fs::rename(&links, to.links(cgroup)).attempt(|| format!("rename {}", links.display()))
}

/// Notes that a cgroup belongs to the app by hand, before there are links on it.
pub(crate) fn claim(app: &AttachedApp, cgroup: u64) -> Result<()> {
    let claimed = app.dir.join(format!("{BY_HAND}{cgroup}"));
    let links = app.links(cgroup);
    if links.try_exists().attempt(|| format!("read {}", links.display()))? {
        // Also if the table names it as well: the claim outlives that.
        return fs::rename(&links, &claimed).attempt(|| format!("rename {}", links.display()));
    }
    fs::create_dir_all(&claimed).attempt(|| format!("make {}", claimed.display()))
}

/// Makes every link run the pinned program of its hook, and removes those of hooks that have none.
/// Returns how many it changed.
pub(crate) fn swap_programs(dir: &StateDir, apps: &[AttachedApp]) -> Result<usize> {
    let current = Programs::read(dir.path())?;
    let mut changed = 0;
    for (link, hook) in apps.iter().flat_map(|app| app.outdated(&current)) {
        match bpf_syscall::update_link(&link, &current.pin(hook)) {
            // The cgroup is gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            swapped => {
                swapped.attempt(|| format!("replace the program of {}", link.display()))?;
                changed += 1;
            }
        }
    }
    for links in apps.iter().flat_map(|app| app.cgroups.values()) {
        changed += remove_others(links)?;
    }
    Ok(changed)
}

/// Removes the links on a cgroup that are of no hook of this build. Returns how many.
fn remove_others(links: &Links) -> Result<usize> {
    if links.others.is_empty() {
        return Ok(0);
    }
    // They may be pinned under a second name.
    let own = link_ids(&links.dir);
    links.others.iter().try_for_each(|other| remove_tree_but(other, &own))?;
    Ok(links.others.len())
}

/// The ids of the links in a directory.
fn link_ids(dir: &Path) -> Vec<u32> {
    let pins = HOOKS.iter().map(|(hook, _)| dir.join(hook));
    pins.filter_map(|pin| Some(link_info(&pin).ok()?.id)).collect()
}

/// Attaches an app to a cgroup and turns its translation on there. Links that are there stay as
/// they are: no cgroup ever has two of one hook, of which the second would take what the first
/// did for a connect that is no VIP's.
pub(crate) fn attach(
    dir: &StateDir,
    switch: &Switch,
    app: &AttachedApp,
    cgroup: u64,
    path: &Path,
) -> Result<()> {
    let directory = File::open(path).attempt(|| format!("open {}", path.display()))?;
    let opened = directory.metadata().attempt(|| format!("read {}", path.display()))?;
    if opened.ino() != cgroup {
        return Err(went_away(app, path));
    }
    // First of all, so that whoever finds the app knows that it may be switched on there.
    let links = app.links(cgroup);
    fs::create_dir_all(&links).attempt(|| format!("make {}", links.display()))?;
    // Before the links, because the storage of a cgroup outlives them: new ones would see the
    // app id of whatever app was there before. After them, because only they make the storage.
    switch.set(cgroup, app.app_id)?;
    for (hook, kind) in HOOKS {
        let pin = links.join(hook);
        if attached_program(&pin, cgroup, kind)?.is_some() {
            continue;
        }
        let _ = fs::remove_file(&pin);
        let mut program = program(dir.path(), hook, kind)?;
        let what = || {
            format!(
                "attach {hook} to {0} (another program may allow no others there or above; as root \
                 vipnat names it, and so does: bpftool cgroup tree)",
                shown_name(path)
            )
        };
        // As a link, so "single" means no flags; links are always beside what others attached.
        let link = program.attach(&directory, CgroupAttachMode::Single).attempt(what)?;
        let link = program.take_link(link).attempt(what)?;
        let link = FdLink::try_from(link).attempt(what)?;
        link.pin(&pin).attempt(|| format!("pin {}", pin.display()))?;
    }
    if switch.set(cgroup, app.app_id)? { Ok(()) } else { Err(went_away(app, path)) }
}

fn went_away(app: &AttachedApp, path: &Path) -> Error {
    Error::Unsupported(format!(
        "app {:?}: cgroup {} went away while it was attached; apply again",
        app.name,
        shown_name(path)
    ))
}

/// Removes an app's links on a cgroup, after turning translation off there, unless the cgroup is
/// another app's by now.
pub(crate) fn release(switch: &Switch, app: &AttachedApp, cgroup: u64) -> Result<()> {
    if switch.app_of(cgroup)? == Some(app.app_id) {
        switch.set(cgroup, AppId::NONE)?;
    }
    remove_tree(&app.links(cgroup))
}

/// The same for a directory that is not to stay. What the cgroup's owner has pinned as well, which foreign
/// hands may have done, stays attached.
pub(crate) fn release_stray(
    switch: &Switch,
    stray: &AttachedApp,
    cgroup: u64,
    owner: Option<&AttachedApp>,
) -> Result<()> {
    if switch.app_of(cgroup)? == Some(stray.app_id) {
        switch.set(cgroup, AppId::NONE)?;
    }
    let stay = owner.map_or(Vec::new(), |owner| link_ids(&owner.links(cgroup)));
    remove_tree_but(&stray.links(cgroup), &stay)
}

/// Removes an app's links on cgroups that are gone, of which only those are looked for whose links are
/// attached to nothing.
pub(crate) fn release_gone(switch: &Switch, app: &AttachedApp, paths: &Paths) -> Result<()> {
    let gone = app
        .cgroups
        .iter()
        .filter(|(cgroup, links)| links.orphaned() && paths.place(**cgroup) == Place::Gone);
    gone.map(|(cgroup, _)| *cgroup).try_for_each(|cgroup| release(switch, app, cgroup))
}

/// Removes all of an app's links.
pub(crate) fn release_all(switch: &Switch, app: &AttachedApp) -> Result<()> {
    app.cgroups().try_for_each(|cgroup| release(switch, app, cgroup))
}

/// Removes an app, which gives its app id back: nothing in the maps may have it any more.
pub(crate) fn remove(app: &AttachedApp) -> Result<()> {
    remove_tree(&app.dir)
}

fn dir_name(app_id: AppId, name: &str) -> String {
    format!("{app_id}:{}", utf8_percent_encode(name, PLAIN))
}

/// The cgroup of the links in a directory of an app, and whether that was attached by hand.
pub(crate) fn parse_links_name(file: &str) -> Option<(u64, bool)> {
    let id = file.strip_prefix(BY_HAND);
    Some((id.unwrap_or(file).parse().ok()?, id.is_some()))
}

pub(crate) fn parse_dir_name(file: &str) -> Option<(AppId, String)> {
    let (app_id, name) = file.split_once(':')?;
    let name = percent_decode_str(name).decode_utf8().ok()?;
    Some((AppId(app_id.parse().ok()?), name.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_app_name_is_a_file_name_on_bpffs(number: u32, name in "\\PC{1,21}") {
            let app_id = AppId(number);
            let file = dir_name(app_id, &name);
            proptest::prop_assert!(file.len() < 255 && !file.contains(['.', '/']), "{}", file);
            proptest::prop_assert_eq!(parse_dir_name(&file), Some((app_id, name)));
        }
    }

    #[test]
    fn plain_names_stay_readable() {
        assert_eq!(dir_name(AppId(1), "shop"), "1:shop");
        assert_eq!(dir_name(AppId(12), "lxc.shop-2"), "12:lxc%2Eshop-2");
    }
}
