//! Frees retired slots while nothing else is to be done.
//!
//! A slot is free after two grace periods (see `vipnat_core::plan`). The agent waits for each without the
//! lock, and goes on changing the table meanwhile: what it began to reclaim stays retired until it ends.

use std::{convert::Infallible, sync::Arc};

use vipnat_core::plan::{self, Reclaim};

use super::state::Live;
use crate::{
    kernel::{error::Result, grace_period},
    reconcile::context::Context,
};

/// Slots that are being reclaimed. [`Reclaiming::wait`] may run on any thread.
#[derive(Debug)]
pub struct Reclaiming(Reclaimable);

impl Reclaiming {
    /// Waits for a grace period.
    ///
    /// # Errors
    ///
    /// System calls that fail.
    pub fn wait(self) -> Result<Reclaimable> {
        grace_period::wait()?;
        Ok(self.0)
    }
}

/// Slots that no program reads any more.
#[derive(Debug)]
pub struct Reclaimable {
    reclaim: Reclaim,
    /// Shared with the state for which it was begun.
    begun: Arc<()>,
}

/// See [`Session::begin_reclaim`](crate::reconcile::Session::begin_reclaim).
pub(crate) fn begin_reclaim(live: &mut Live) -> Option<Reclaiming> {
    // Of two at a time, the second would empty slots that were given away after the first.
    if live.reclaiming.is_some() || live.content.resting() == 0 {
        return None;
    }
    let begun = Arc::clone(live.reclaiming.insert(Arc::default()));
    Some(Reclaiming(Reclaimable { reclaim: live.content.reclaim(), begun }))
}

/// Gives up a reclaim whose wait failed.
pub(crate) fn cancel_reclaim(live: &mut Live) {
    live.reclaiming = None;
}

/// See [`Session::end_reclaim`](crate::reconcile::Session::end_reclaim).
pub(crate) fn end_reclaim(
    context: &Context,
    live: &mut Live,
    Reclaimable { reclaim, begun }: &Reclaimable,
) -> Result<bool> {
    // It was begun for a state that another apply has replaced since: these slots may be in use.
    if live.reclaiming.take_if(|own| Arc::ptr_eq(own, begun)).is_none() {
        return Ok(true);
    }
    let Some(dir) = live.lock(&context.dir)? else {
        return Ok(false);
    };
    let steps = reclaim.steps_after_waiting();
    live.maps.execute(&steps)?;
    let Ok::<(), Infallible>(()) = plan::execute(&steps, &mut live.content);
    dir.is_still_there()?;
    Ok(true)
}
