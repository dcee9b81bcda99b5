//! Moves the state into other maps: maps of another layout, or larger ones.

use vipnat_core::model::{Capacity, Desired, NameIndex, Snapshot};

use super::swap_programs::install_maps;
use crate::{
    kernel::{cgroup::Paths, error::Result, maps::Maps},
    reconcile::{
        context::Context,
        diff::Diff,
        execute::reserve_app_ids,
        observe::{Observed, ObservedApps, desired_of_kernel},
        state_copy::AppState,
    },
    state::{links::AttachedApp, name_index, state_dir::StateDir},
};

/// The maps that vipnat replaces.
struct OldMaps {
    maps: Maps,
    /// Their content.
    snapshot: Snapshot,
    /// The table that this content amounts to.
    table: Desired,
}

/// Replaces the pinned maps by maps of this layout, with at least this capacity. It writes their content
/// before any program uses them: that of the old maps or, if this build can't read those, the desired
/// state. Returns the losses.
pub(crate) fn migrate(
    context: &Context,
    dir: &StateDir,
    desired: &Desired,
    capacity: Capacity,
    attached: &[AttachedApp],
) -> Result<Vec<String>> {
    let names = name_index::load(&context.dir);
    let old = read_old_maps(context, dir, attached, &names)?;
    let anew;
    let (content, needed) = match &old {
        Some(OldMaps { snapshot, table, maps: _ }) => (table, snapshot.in_use()),
        None => {
            anew =
                desired.with_heirs(attached.iter().map(|app| (app.name.as_str(), app.cgroups())));
            (&anew, anew.capacity())
        }
    };
    let capacity = capacity.at_least(needed.with_room());
    let tree = context.tree()?;
    let others = context.others(dir.path(), &tree);
    install_maps(dir, attached, capacity, |maps| {
        let apps = ObservedApps {
            attached,
            names: &names,
            last_app: maps.layout()?.last_app,
            switch: Some(maps.cgroups()),
            others: &others,
        };
        let observed = Observed { snapshot: Snapshot::fresh(capacity), apps };
        let diff = Diff::new(content, &observed)?;
        reserve_app_ids(dir, maps, &diff, attached)?;
        maps.execute(&diff.plan.steps_before_attaching())?;
        match &old {
            Some(old) => copy_cursors(old, maps, &diff),
            None => Ok(()),
        }
    })
}

/// Lets the round robin of each VIP go on where it was. Hooks take turns of the old maps until the program
/// swap; these turns are taken again afterwards.
fn copy_cursors(old: &OldMaps, maps: &Maps, diff: &Diff) -> Result<()> {
    let cursors = old.maps.all_cursors()?;
    let turns = diff.plan.slots.iter().filter_map(|(_, slot)| {
        let before = old.snapshot.cursor_of(slot.owner.app_id(), slot.owner.vip.into())?;
        Some((slot.cursor, *cursors.get(before as usize)?))
    });
    let mut turns: Vec<_> = turns.collect();
    turns.dedup_by_key(|(cursor, _)| *cursor);
    maps.set_cursors(&turns)
}

/// Reads the maps that vipnat replaces; `None` if this build can't read them.
fn read_old_maps(
    context: &Context,
    dir: &StateDir,
    attached: &[AttachedApp],
    names: &NameIndex,
) -> Result<Option<OldMaps>> {
    let read = || -> Result<_> {
        let maps = Maps::open(dir.path())?;
        Ok((maps.snapshot()?, maps))
    };
    match read() {
        Ok((snapshot, maps)) => {
            let paths = Paths::of(&context.tree()?);
            let state = |app: &AttachedApp| AppState::new(app.clone(), &maps);
            let states: Vec<_> = attached.iter().map(state).collect::<Result<_>>()?;
            let table = desired_of_kernel(&snapshot, &states, &paths, names.clone())?;
            Ok(Some(OldMaps { maps, snapshot, table }))
        }
        Err(error) if error.is_of_another_layout() => Ok(None),
        Err(error) => Err(error),
    }
}
