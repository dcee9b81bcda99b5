//! Moving state into other maps: those of another layout, or larger ones.

use crate::reconcile::observe::of_kernel;
use crate::state::name_index;
use crate::{
    kernel::{cgroup::Paths, error::Result, maps::Maps},
    reconcile::{Session, execute::reserve_app_ids, observe::Seen, prepare::Work, swap_programs},
    state::{links::AttachedApp, state_dir::StateDir},
};
use vipnat_core::model::{Capacity, Desired, Snapshot};

/// The maps that are replaced.
struct Old {
    maps: Maps,
    /// What they hold.
    now: Snapshot,
    /// What that does.
    content: Desired,
}

impl Session {
    /// Puts maps of this layout, at least so large, in the place of those pinned. Before anybody uses
    /// them, they are filled with what the old ones hold, or with what is desired if this build can't
    /// read them.
    pub(crate) fn migrate(
        &self,
        dir: &StateDir,
        desired: &Desired,
        capacity: Capacity,
        attached: &[AttachedApp],
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let names = name_index::load(&self.dir);
        let old = self.old(dir, attached)?;
        let anew;
        let (content, needed) = match &old {
            Some(Old { now, content, .. }) => (content, now.in_use()),
            None => {
                anew = desired
                    .with_heirs(attached.iter().map(|app| (app.name.as_str(), app.cgroups())));
                (&anew, anew.capacity())
            }
        };
        let capacity = capacity.at_least(needed.with_room());
        let tree = self.tree()?;
        let others = self.others(dir.path(), &tree);
        let lost = swap_programs::migrate(dir, attached, capacity, |maps| {
            let nothing = Snapshot::fresh(capacity);
            let present = self.describe(Some(maps), &nothing, attached, &names, &others)?;
            let work = Work::new(content, &present)?;
            reserve_app_ids(dir, maps, &work, attached)?;
            maps.execute(&work.plan.steps_before_attaching())?;
            if let Some(Old { now, maps: before, .. }) = &old {
                // Turns go on. Those that are taken from here on, until the programs are exchanged, are
                // taken again.
                let cursors = before.all_cursors()?;
                let turns = work.plan.slots.iter().filter_map(|(_, slot)| {
                    let before = now.cursor_of(slot.owner.app_id(), slot.owner.vip.into())?;
                    Some((slot.cursor, *cursors.get(before as usize)?))
                });
                let mut turns: Vec<_> = turns.collect();
                turns.dedup_by_key(|(cursor, _)| *cursor);
                maps.set_cursors(&turns)?;
            }
            Ok(())
        })?;
        warnings.extend(lost);
        Ok(())
    }

    /// `None` if this build can't read them.
    fn old(&self, dir: &StateDir, attached: &[AttachedApp]) -> Result<Option<Old>> {
        let read = || -> Result<_> {
            let maps = Maps::open(dir.path())?;
            Ok((maps.snapshot()?, maps))
        };
        match read() {
            Ok((now, maps)) => {
                let names = name_index::load(&self.dir);
                let paths = Paths::of(&self.tree()?);
                let seen = |app: &AttachedApp| Seen::new(app.clone(), &maps);
                let seen: Vec<_> = attached.iter().map(seen).collect::<Result<_>>()?;
                let content = of_kernel(&now, &seen, &paths, names)?;
                Ok(Some(Old { maps, now, content }))
            }
            Err(error) if error.is_of_another_layout() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
