//! Searches all sockets for connections that are due, in several passes, and ends these connections.

use std::{collections::HashMap, thread, time::Duration};

use super::{
    due::{Due, StillDue},
    pending_file::{clock, mappings_now},
    progress::Progress,
};
use crate::{
    kernel::{
        error::{Attempt as _, Result},
        sockets::Search,
    },
    reconcile::context::Context,
    state::pending_disconnects::{PendingDisconnect, PendingDisconnects},
};

/// The largest number of passes. A socket that was inside `connect` during the change may show only in a
/// later pass.
const PASSES: usize = 5;
/// The pause between two passes.
const PAUSE: Duration = Duration::from_millis(20);

/// Ends the connections, until a pass after the first finds none that it can end.
pub(crate) fn end_in_passes(
    context: &Context,
    due: &Due,
    kept: bool,
    progress: &mut Progress,
) -> Result<()> {
    let mut search = Search::new(&context.dir)?;
    let mut pass = 0;
    loop {
        let connections = search.connections()?;
        // Read the table after the sockets' records. If another command has put a backend back meanwhile,
        // then all these records are of connections before that.
        let Some(current) = still_due(context, due, kept)? else {
            return Ok(());
        };
        let mut found: Vec<_> = connections
            .iter()
            .filter_map(|it| Some((current.place(due, it.record())?, it)))
            .collect();
        let cgroups = || due.cgroups(found.iter().map(|(place, _)| *place));
        if search.reach(found.iter().map(|(_, it)| *it), cgroups) {
            // The search took time, and sockets may have connected elsewhere.
            continue;
        }
        // A UDP socket can connect elsewhere at any time, even to the same backend without the VIP. So end
        // UDP sockets first, and only if their records are the same as before this read the table.
        if found.iter().any(|(_, connection)| connection.is_udp()) {
            let now = search.connections()?.into_iter().map(|it| (it.cookie(), it));
            let now: HashMap<_, _> = now.collect();
            found.retain(|(_, it)| !it.is_udp() || now.get(&it.cookie()) == Some(it));
            found.sort_by_key(|(_, connection)| !connection.is_udp());
        }
        if progress.pass(&search, &found) == 0 && pass > 0 {
            return Ok(());
        }
        pass += 1;
        if pass == PASSES {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
}

/// The disconnects that are still due, by the file and the table at this moment; `None` if nothing is applied
/// any more. If they are not `kept` in the file, the table alone counts.
pub(crate) fn still_due(context: &Context, due: &Due, kept: bool) -> Result<Option<StillDue>> {
    let Some((dir, maps)) = context.open()? else {
        return Ok(None);
    };
    let pending = if kept {
        let pending = PendingDisconnects::load(&context.dir, &clock()?);
        pending.attempt(|| "read the list of pending disconnects".to_owned())?.0
    } else {
        PendingDisconnects::of(&due.drains)
    };
    let mappings = mappings_now(&dir, &maps, &pending)?;
    let pending = pending.ids();
    let is_due = |drain: &PendingDisconnect| {
        pending.contains(&drain.id) && !drain.removed.is_back(&mappings)
    };
    let is_due = due.drains.iter().map(is_due).collect();
    Ok(Some(StillDue { is_due, mappings }))
}
