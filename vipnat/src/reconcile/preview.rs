//! The dry run of an apply: prepares the same change, and returns it without executing it.

use std::collections::BTreeSet;

use vipnat_core::{
    model::{Change, Desired, NameIndex, Snapshot},
    plan::Plan,
    table::Table,
};

use super::{
    context::Context,
    diff::{Attachment, Diff},
    observe::{Observed, ObservedApps, copy_maps_and_names},
    outcome::Applied,
    prepare::{Prepared, Room, prepare},
    recover::recover_copy,
    resolve::{MissingCgroup, resolve},
    state_copy::StateCopy,
    upgrade::upgrade,
};
use crate::{
    kernel::{
        error::Result,
        foreign_programs::Others,
        preflight::{self, Privilege},
    },
    state::{
        links::{self, AttachedApp},
        name_index,
        staging::{self, Condition},
        state_dir::StateDir,
    },
};

/// See [`Session::dry_run`](super::Session::dry_run).
pub(crate) fn dry_run(context: &Context, table: &Table, missing: MissingCgroup) -> Result<Applied> {
    preflight::check(Privilege::UsePins)?;
    let (desired, _) = resolve(context, table, missing)?;
    desired.capacity().check()?;
    let tree = context.tree()?;
    let others = context.others(&context.dir, &tree);
    let (condition, attached) = look(context)?;
    // Maps of another layout are replaced by new ones.
    let state = match condition {
        Condition::Absent | Condition::OtherLayout(_) => None,
        // The lock is free again: comparing takes long, and changes nothing.
        Condition::Current | Condition::OtherBuild => copy_maps_and_names(context)?,
    };
    let Some(StateCopy { copied: (copied, names), maps, apps }) = state else {
        // If the state was flushed meanwhile, nothing is upgraded.
        let upgrade = upgrade(&condition).filter(|_| condition != Condition::OtherBuild);
        let names = name_index::load(&context.dir);
        let preview = Preview { upgrade, repair: false };
        return preview.of_new_maps(&desired, &attached, &names, &others);
    };
    let mut snapshot = copied.snapshot()?;
    let abandoned = recover_copy(&mut snapshot);
    let attached: Vec<_> = apps.into_iter().map(|state| state.app).collect();
    let observed = Observed {
        snapshot,
        apps: ObservedApps {
            attached: &attached,
            names: &names,
            last_app: maps.layout()?.last_app,
            switch: Some(maps.cgroups()),
            others: &others,
        },
    };
    let prepared = prepare(&desired, &observed)?;
    let repair = abandoned || prepared.diff.strays || prepared.diff.plan != Plan::default();
    Preview { upgrade: upgrade(&condition), repair }.of(prepared, &observed)
}

/// Compares the pinned state with this build. Reads the apps of state that this build would migrate.
fn look(context: &Context) -> Result<(Condition, Vec<AttachedApp>)> {
    let Some(dir) = StateDir::open(&context.dir)? else {
        return Ok((Condition::Absent, Vec::new()));
    };
    let condition = staging::condition(&dir)?;
    let attached = match condition {
        Condition::OtherLayout(_) => links::read(&dir)?,
        Condition::Absent | Condition::Current | Condition::OtherBuild => Vec::new(),
    };
    Ok((condition, attached))
}

/// The effects of an apply besides the prepared change.
struct Preview {
    /// It would take over the state of another build.
    upgrade: Option<Change>,
    /// It would repair something. The list shows this only if it is otherwise empty.
    repair: bool,
}

impl Preview {
    /// Lists the changes of an apply that makes new maps.
    fn of_new_maps(
        self,
        desired: &Desired,
        attached: &[AttachedApp],
        names: &NameIndex,
        others: &Others<'_>,
    ) -> Result<Applied> {
        let snapshot = Snapshot::fresh(desired.capacity().with_room());
        let apps = ObservedApps { attached, names, last_app: 0, switch: None, others };
        let observed = Observed { snapshot, apps };
        self.of(prepare(desired, &observed)?, &observed)
    }

    /// Lists the changes of an apply, and the apps that it could not attach.
    fn of(self, prepared: Prepared, observed: &Observed<'_>) -> Result<Applied> {
        let Self { upgrade, repair } = self;
        let Prepared { room, diff } = prepared;
        let Diff { plan: _, changes, attach, owners: _, app_ids: _, strays: _, unseen } = diff;
        let mut dry = Applied { warnings: unseen, ..Applied::default() };
        dry.changes.extend(upgrade);
        dry.changes.extend(match room {
            Room::Enough | Room::AfterReclaim => None,
            Room::AfterGrowth(capacity) => Some(Change::from(capacity)),
        });
        let mut refused = BTreeSet::new();
        for Attachment { app, cgroup, path, .. } in &attach {
            let held = observed.apps.attached.iter().find_map(|app| app.held(*cgroup));
            if let Some(error) = observed.apps.others.refusal(app, path, held)? {
                refused.insert(*cgroup);
                dry.failed.push(error);
            }
        }
        let is_refused =
            |change: &Change| matches!(change, Change::Attach { id, .. } if refused.contains(id));
        dry.changes.extend(changes.into_iter().filter(|change| !is_refused(change)));
        if dry.changes.is_empty() && dry.failed.is_empty() && repair {
            dry.changes.push(Change::Repair);
        }
        Ok(dry)
    }
}
