//! The facade of this layer: one method for each action of a command on the state.
//!
//! The pinned maps and links *are* the state. vipnat keeps nothing else, and no process has to stay.
//! [`Session::apply`] reads the state back (`observe`, `recover`), finds the cgroups of the table
//! (`resolve`), prepares the change (`prepare`) and executes it (`execute`). At each moment, a connect
//! follows the old table or the new one. vipnat first takes over the state of another build (`upgrade`).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use vipnat_core::{
    model::Desired,
    table::{Difference, Table},
};

use super::{
    app_cgroups, apply, attach_by_hand,
    cgroup_view::CgroupView,
    context::Context,
    disconnect, flush,
    follow_cgroups::{self, NewCgroup},
    holders::CgroupHolders,
    live::{self, Live, Reclaimable, Reclaiming, Review},
    observe,
    outcome::{Applied, Attached, Drained, Flushed, FollowedCgroups, LiveCgroups},
    preview,
    resolve::MissingCgroup,
    review::{LinkReview, ReviewedLinks, review_links},
    status::{self, Listing},
};
use crate::{
    kernel::{
        cgroup::{OpenTree, Paths},
        error::Result,
        preflight::{self, Privilege},
    },
    state::{staging, state_dir::StateDir},
};

/// The state in one directory of bpffs.
#[derive(Clone, Debug)]
pub struct Session {
    context: Context,
}

impl Session {
    /// The state in `dir`, which need not exist.
    pub fn new(dir: &Path) -> Self {
        Self { context: Context::new(dir) }
    }

    /// With `yes`, vipnat attaches apps even if that switches off programs that their cgroups inherit. Those
    /// are attached to a cgroup above with `BPF_F_ALLOW_OVERRIDE`.
    pub fn override_inherited(self, yes: bool) -> Self {
        Self { context: self.context.override_inherited(yes) }
    }

    /// Whether anything is applied, by this or another build.
    pub fn is_applied(&self) -> bool {
        let exists = |dir| staging::exists(&dir);
        StateDir::open(&self.context.dir)
            .is_ok_and(|dir| dir.map(exists).is_some_and(|it| it.unwrap_or(true)))
    }

    /// Makes the kernel match the table. Translation continues when the process ends.
    ///
    /// VIPs that do not change keep their place in the round robin, and so do VIPs that get other backends.
    /// If this fails half-way, each VIP follows the old table or the new one, and the next call does the
    /// rest. It takes over the state of another build of vipnat; translation continues meanwhile.
    ///
    /// # Errors
    ///
    /// Before anything is changed: an unsupported kernel, missing privileges, a cgroup that does
    /// not exist (see [`MissingCgroup`]), a table that is too large. Later: system calls. Apps
    /// that could not be attached are in [`Applied::failed`] and are no error.
    pub fn apply(&self, table: &Table, absent: MissingCgroup) -> Result<Applied> {
        apply::apply(&self.context, table, absent)
    }

    /// Does the same, and returns the state that it left, with which [`Session::change`] goes on. The state
    /// is `None` if another process changes it already.
    ///
    /// # Errors
    ///
    /// As [`Session::apply`].
    pub fn apply_and_keep(
        &self,
        table: &Table,
        absent: MissingCgroup,
    ) -> Result<(Applied, Option<Live>)> {
        let (applied, left) = apply::apply_and_keep(&self.context, table, absent)?;
        Ok((applied, Live::new(table, left)))
    }

    /// Makes a change of the table, at the cost of what it touches. `table` is the new one, and `difference`
    /// tells it from the one before.
    ///
    /// Without a [`Live`] it needs a full apply: the change is not simple, a map is full, an error occurred,
    /// or another process changed the state. A part of the change may be made then.
    pub fn change(
        &self,
        live: Live,
        table: &Table,
        difference: &Difference,
    ) -> (Applied, Option<Live>) {
        live::change(&self.context, live, table, difference)
    }

    /// Begins to free the slots that changes have retired; `None` if there are none, or it has begun
    /// already. The caller waits on any thread, and goes on meanwhile.
    pub fn begin_reclaim(&self, live: &mut Live) -> Option<Reclaiming> {
        live::begin_reclaim(live)
    }

    /// Gives up a reclaim whose wait failed, so that another one can begin.
    pub fn cancel_reclaim(&self, live: &mut Live) {
        live::cancel_reclaim(live);
    }

    /// Frees these slots. Returns `false` if it needs a full apply.
    pub fn end_reclaim(&self, live: &mut Live, reclaimable: &Reclaimable) -> bool {
        live::end_reclaim(&self.context, live, reclaimable).unwrap_or(false)
    }

    /// Reads maps, pins and names back, and compares them with the state that the last change left. Entries
    /// and slots that differ are written again; the rest needs a full apply.
    ///
    /// # Errors
    ///
    /// System calls that fail.
    pub fn review(&self, live: &Live) -> Result<Review> {
        live::review(&self.context, live)
    }

    /// Does the same as [`Session::apply`], but ends no connection before `time` has passed. Until then, [`Session::restore`]
    /// undoes the whole change. [`Session::end_trial`] ends these connections at once.
    ///
    /// # Errors
    ///
    /// As [`Session::apply`].
    pub fn apply_on_trial(&self, table: &Table, time: Duration) -> Result<Applied> {
        apply::apply_on_trial(&self.context, table, time)
    }

    /// Returns the changes that [`Session::apply`] would make, and the apps that it could not attach. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// The errors that `apply` returns before it changes anything, except missing privileges.
    pub fn dry_run(&self, table: &Table, absent: MissingCgroup) -> Result<Applied> {
        preview::dry_run(&self.context, table, absent)
    }

    /// The table that the kernel follows now, for [`Session::restore`].
    ///
    /// # Errors
    ///
    /// As [`Session::list`].
    pub fn present(&self) -> Result<Desired> {
        preflight::check(Privilege::UsePins)?;
        observe::current(&self.context)
    }

    /// Makes the kernel follow `before` again, if it still follows `meanwhile`. If that is `None`, it does
    /// so in any case.
    ///
    /// # Errors
    ///
    /// `Error::Refused` if another command changed the state since;
    /// as [`Session::apply`].
    pub fn restore(&self, before: &Desired, meanwhile: Option<&Desired>) -> Result<Applied> {
        apply::restore(&self.context, before, meanwhile)
    }

    /// Removes all state: translation stops, and nothing is left.
    ///
    /// Works on state of any layout. Established connections stay, but their sockets show the backend as
    /// their peer from now on. Files in /run/vipnat that can't be removed are a warning.
    ///
    /// # Errors
    ///
    /// A directory that is not vipnat's; system calls that fail.
    pub fn flush(&self) -> Result<Flushed> {
        flush::flush(&self.context)
    }

    /// Removes one app. Finds nothing if there is no such app.
    ///
    /// # Errors
    ///
    /// State of another layout; system calls that fail.
    pub fn flush_app(&self, name: &str) -> Result<Flushed> {
        flush::flush_app(&self.context, name)
    }

    /// Attaches an app to one more cgroup, given as a whole path, until the cgroup or the app is gone. It
    /// may take the cgroup from another app. If a table gave it by a pattern, that is for good; if by a
    /// path, until the next apply. Also returns a warning for the operator, if any.
    ///
    /// # Errors
    ///
    /// `Error::UnknownApp` if no such app is applied; `Error::Refused` if the cgroup does not
    /// exist, or `attach` gave it to another app.
    pub fn attach(&self, name: &str, path: &Path) -> Result<(Attached, Option<String>)> {
        attach_by_hand::attach(&self.context, name, path)
    }

    /// The cgroups in which an app is translated, and that exist.
    ///
    /// # Errors
    ///
    /// `Error::UnknownApp` if there is no such app; state of another
    /// layout; system calls that fail.
    pub fn cgroups_of(&self, name: &str) -> Result<LiveCgroups> {
        app_cgroups::cgroups_of(&self.context, name)
    }

    /// The app whose VIPs a process in this cgroup has. The path is a whole path. That is the app of the
    /// cgroup itself, or of the nearest cgroup above it in which an app is translated.
    ///
    /// # Errors
    ///
    /// A cgroup that is not in view; state of another layout; system calls that fail.
    pub fn app_at(&self, path: &Path) -> Result<Option<String>> {
        app_cgroups::app_at(&self.context, path)
    }

    /// The apps, VIPs and counters in the kernel. Empty if nothing is applied.
    ///
    /// # Errors
    ///
    /// State of another layout; missing privileges; system calls that fail.
    pub fn list(&self) -> Result<Listing> {
        preflight::check(Privilege::UsePins)?;
        status::list(&self.context)
    }

    /// Ends connections whose time to drain is over. For processes that stay: `apply` does the same.
    ///
    /// # Errors
    ///
    /// State of another layout; missing privileges; system calls that fail.
    pub fn end_drained(&self) -> Result<Drained> {
        disconnect::end_drained(&self.context)
    }

    /// Does the same. Also ends the connections that [`Session::apply_on_trial`] spared until now.
    ///
    /// # Errors
    ///
    /// As [`Session::end_drained`].
    pub fn end_trial(&self) -> Result<Drained> {
        disconnect::end_trial(&self.context)
    }

    /// The app that has links on each cgroup.
    ///
    /// # Errors
    ///
    /// Pins that can't be read.
    pub fn cgroup_holders(&self) -> Result<CgroupHolders> {
        CgroupHolders::read(&self.context)
    }

    /// Brings `holders` up to date after a change that moved these apps. Returns the cgroups that no app has
    /// any more, with their paths below the mount if those were known.
    ///
    /// # Errors
    ///
    /// Pins that can't be read.
    pub fn update_holders<'a>(
        &self,
        holders: &mut CgroupHolders,
        live: &Live,
        apps: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<(u64, Option<PathBuf>)>> {
        holders.update(&self.context, apps.map(|name| (name, live.app_id(name))))
    }

    /// Whether no other vipnat has changed maps or apps since the last change.
    pub fn is_current(&self, live: &Live) -> bool {
        live.is_current(&self.context.dir)
    }

    /// Attaches new cgroups, and releases cgroups that were removed. `holders` must be those after the last
    /// apply, and is kept up to date. Errors other than a failed attachment need an apply.
    pub fn follow_cgroups(
        &self,
        holders: &mut CgroupHolders,
        removed: &[u64],
        new: &[NewCgroup],
    ) -> FollowedCgroups {
        follow_cgroups::follow_cgroups(&self.context, holders, removed, new)
    }

    /// Looks whether links are as they were left, and the map `scope` with them. One call looks for about
    /// two milliseconds, so that a caller can attach cgroups in between; [`ReviewedLinks::done`] is true at
    /// the end of a round. It reads links only if something is not as it was when they were read last, or
    /// they were attached since. It repairs nothing, but removes the links on cgroups that are gone.
    ///
    /// # Errors
    ///
    /// The state or the cgroups can't be read: apply the table.
    pub fn review_links(
        &self,
        holders: &mut CgroupHolders,
        review: &mut LinkReview,
    ) -> Result<ReviewedLinks> {
        review_links(&self.context, holders, review)
    }

    /// The cgroups in view now.
    ///
    /// # Errors
    ///
    /// If no mount shows all cgroups.
    pub fn cgroups(&self) -> Result<CgroupView> {
        Ok(CgroupView::new(OpenTree::of(&self.context.tree()?)?))
    }

    /// The paths of cgroups below the mount, by id. Leaves out cgroups that are gone or not in view.
    ///
    /// # Errors
    ///
    /// If no mount shows all cgroups.
    pub fn paths_of(&self, cgroups: &[u64]) -> Result<HashMap<u64, PathBuf>> {
        if cgroups.is_empty() {
            return Ok(HashMap::new());
        }
        let paths = Paths::of(&self.context.tree()?);
        let place = |id: &u64| Some((*id, paths.place(*id).path()?.to_owned()));
        Ok(cgroups.iter().filter_map(place).collect())
    }
}
