//! Moving state into other maps: those of another layout, or larger ones.

use super::{
    Datapath, Desired,
    apps::AttachedApp,
    capacity::Capacity,
    carry_out::{reserve_scopes, write_lists},
    cgroup::Paths,
    error::Result,
    maps::Maps,
    observe::Seen,
    snapshot::Snapshot,
    state_dir::StateDir,
    upgrade,
    work::Work,
};
use crate::record::Record;

/// The maps that are replaced.
struct Old {
    maps: Maps,
    /// What they hold.
    now: Snapshot,
    /// What that does.
    content: Desired,
}

impl Datapath {
    /// Puts maps of this layout, at least so large, in the place of those pinned. Before anybody uses
    /// them, they are filled with what the old ones hold, or with what is desired if this build can't
    /// read them.
    pub(super) fn migrate(
        &self,
        dir: &StateDir,
        desired: &Desired,
        capacity: Capacity,
        attached: &[AttachedApp],
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let names = Record::load(&self.dir);
        let old = self.old(dir, attached)?;
        let anew;
        let (content, needed) = match &old {
            Some(Old { now, content, .. }) => (content, now.in_use()),
            None => {
                anew = desired.with_heirs(attached);
                (&anew, Capacity::of(&anew))
            }
        };
        let capacity = capacity.at_least(needed.with_room());
        let tree = self.tree()?;
        let others = self.others(dir.path(), &tree);
        let lost = upgrade::migrate(dir, attached, capacity, |maps| {
            let nothing = Snapshot::fresh(capacity);
            let present = self.describe(Some(maps), &nothing, attached, &names, &others)?;
            let work = Work::new(content, &present)?;
            reserve_scopes(dir, maps, &work, attached)?;
            write_lists(maps, &work.plan)?;
            if let Some(Old { now, maps: before, .. }) = &old {
                // Turns go on. Those that are taken from here on, until the programs are exchanged, are
                // taken again.
                let cursors = before.all_cursors()?;
                let turns = work.plan.slots.iter().filter_map(|(_, slot)| {
                    let before = now.cursor_of(slot.owner.scope, slot.owner.vip.into())?;
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
                let names = Record::load(&self.dir);
                let paths = Paths::of(&self.tree()?);
                let seen = |app: &AttachedApp| Seen::new(app.clone(), &maps);
                let seen: Vec<_> = attached.iter().map(seen).collect::<Result<_>>()?;
                let content = Desired::of_kernel(&now, &seen, &paths, names)?;
                Ok(Some(Old { maps, now, content }))
            }
            Err(error) if error.is_of_another_layout() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
