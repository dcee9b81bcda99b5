//! Takes the state over before a change: the pinned maps and programs become those of this build.

use vipnat_core::model::{Change, Desired};

use super::{migrate::migrate, swap_programs};
use crate::{
    kernel::{error::Result, pins::NEW},
    reconcile::context::Context,
    state::{
        links,
        staging::{self, Condition},
        state_dir::StateDir,
    },
};

/// Installs, replaces or migrates the pinned maps and programs. Returns warnings for the operator.
pub(crate) fn take_over(
    context: &Context,
    dir: &StateDir,
    condition: &Condition,
    desired: &Desired,
) -> Result<Vec<String>> {
    let capacity = || desired.capacity().with_room();
    match condition {
        Condition::Absent => staging::install(dir, capacity())?,
        // An interrupted command may have left staged maps.
        Condition::Current => dir.remove(NEW)?,
        Condition::OtherBuild => swap_programs::replace_programs(dir)?,
        Condition::OtherLayout(_) => {
            let attached = links::read(dir)?;
            return migrate(context, dir, desired, capacity(), &attached);
        }
    }
    Ok(Vec::new())
}

/// The change to print if vipnat takes over a state in this condition.
pub(crate) fn upgrade(condition: &Condition) -> Option<Change> {
    match condition {
        Condition::Absent | Condition::Current => None,
        Condition::OtherBuild => Some(Change::Upgrade { layout: None }),
        Condition::OtherLayout(what) => Some(Change::Upgrade { layout: Some(what.clone()) }),
    }
}
