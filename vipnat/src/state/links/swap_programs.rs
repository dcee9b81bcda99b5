//! Replaces the programs of links in place.

use super::{
    app::AttachedApp,
    on_cgroup::{Links, link_ids},
};
use crate::{
    kernel::{
        bpf_syscall,
        error::{Attempt as _, Result},
        pinned_programs::Programs,
    },
    state::{remove::remove_tree_but, state_dir::StateDir},
};

/// Makes every link run the pinned program of its hook, and removes links of hooks that this build does
/// not have. Returns the number of links that changed.
pub(crate) fn swap_programs(dir: &StateDir, apps: &[AttachedApp]) -> Result<usize> {
    let current = Programs::read(dir.path())?;
    let mut changed = 0;
    for (link, hook) in apps.iter().flat_map(|app| app.outdated(&current)) {
        match bpf_syscall::update_link(&link, &current.pin(hook)) {
            // The cgroup was removed.
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

/// Removes the links of hooks that this build does not have. Returns their number.
fn remove_others(links: &Links) -> Result<usize> {
    if links.others.is_empty() {
        return Ok(0);
    }
    // A link of ours may be pinned under a second name: it stays attached.
    let own = link_ids(&links.dir);
    links.others.iter().try_for_each(|other| remove_tree_but(other, &own))?;
    Ok(links.others.len())
}
