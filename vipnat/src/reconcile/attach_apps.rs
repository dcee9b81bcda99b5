//! Attaches apps to many cgroups, and reads the links of each cgroup only once before and after.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
};

use super::{
    diff::{Attachment, Diff},
    observe::ObservedApps,
};
use crate::{
    kernel::{error::Result, foreign_programs::Others, maps::Switch},
    state::{
        links::{self, AttachedApp},
        state_dir::StateDir,
    },
};

/// The links of apps, while vipnat attaches them to one cgroup after the other.
pub(crate) struct AttachingApps<'a> {
    dir: &'a StateDir,
    switch: &'a Switch,
    others: &'a Others<'a>,
    /// The app that should get each cgroup.
    owners: &'a HashMap<u64, String>,
    /// All apps before this change.
    before: &'a [AttachedApp],
    /// The apps that stay, by name.
    kept: HashMap<&'a str, &'a AttachedApp>,
    /// The apps that had links on a cgroup before this change.
    holders: HashMap<u64, Vec<&'a AttachedApp>>,
    /// Those of them whose links this change has changed so far, by directory.
    changed: HashMap<&'a Path, AttachingApp>,
    /// The new apps that this change has attached so far, by name.
    new: HashMap<&'a str, AttachingApp>,
}

/// An app that vipnat attaches to one cgroup after the other, or takes cgroups from.
struct AttachingApp {
    app: AttachedApp,
    /// Whether it was released from the cgroups that no app should have.
    has_left: bool,
}

impl<'a> AttachingApps<'a> {
    /// Has attached nothing yet.
    pub(crate) fn new(
        dir: &'a StateDir,
        switch: &'a Switch,
        diff: &'a Diff,
        observed: ObservedApps<'a>,
    ) -> Self {
        let mut holders: HashMap<_, Vec<_>> = HashMap::new();
        for app in observed.attached {
            app.cgroups().for_each(|cgroup| holders.entry(cgroup).or_default().push(app));
        }
        let kept = observed.attached.iter().filter(|app| diff.keeps(app));
        let kept = kept.map(|app| (app.name.as_str(), app)).collect();
        let (others, owners, before) = (observed.others, &diff.owners, observed.attached);
        let (changed, new) = (HashMap::new(), HashMap::new());
        Self { dir, switch, others, owners, before, kept, holders, changed, new }
    }

    /// All apps with their links by now. It reads none again: no other vipnat changes them meanwhile. Leaves
    /// out new apps without cgroups.
    pub(crate) fn now(&self) -> impl Iterator<Item = &AttachedApp> {
        let before = self
            .before
            .iter()
            .map(|app| self.changed.get(app.dir()).map_or(app, |changed| &changed.app));
        before.chain(self.new.values().map(|new| &new.app))
    }

    /// Attaches one app to one cgroup. If another app has links there, the app takes them over.
    pub(crate) fn attach(&mut self, attachment: &'a Attachment) -> Result<()> {
        let Attachment { app, app_id: _, cgroup, path, named: _, by_hand } = attachment;
        let holder = self.holder(attachment);
        let (dir, switch, others, owners) = (self.dir, self.switch, self.others, self.owners);
        let own = &mut self.app(attachment)?.app;
        let held = own.held(*cgroup).or_else(|| holder?.held(*cgroup));
        others.admit(app, (path, *cgroup), held)?;
        if let Some(holder) = holder
            && !own.has_links_on(*cgroup)
        {
            links::hand_over(holder, own, *cgroup)?;
            own.look_at(*cgroup)?;
            self.known(holder).app.look_at(*cgroup)?;
        }
        let AttachingApp { app: own, has_left } = self.app(attachment)?;
        if *by_hand {
            links::claim(own, *cgroup)?;
            own.look_at(*cgroup)?;
        }
        let done = links::attach(dir, switch, own, *cgroup, path);
        own.look_at(*cgroup)?;
        done?;
        // Release them at once, since cgroups nest: if one is inside the other, both would translate. If
        // another app should get a cgroup, that app takes over the links.
        if !*has_left {
            let left: Vec<_> = own.cgroups().filter(|old| !owners.contains_key(old)).collect();
            for old in left {
                links::release(switch, own, old)?;
                own.look_at(old)?;
            }
            *has_left = true;
        }
        Ok(())
    }

    /// Removes the leftovers of an attachment that failed.
    pub(crate) fn release(&mut self, attachment: &'a Attachment) -> Result<()> {
        let switch = self.switch;
        let own = &mut self.app(attachment)?.app;
        links::release(switch, own, attachment.cgroup)?;
        own.look_at(attachment.cgroup)
    }

    /// Another app that has links on the cgroup.
    fn holder(&self, attachment: &Attachment) -> Option<&'a AttachedApp> {
        let mut holders = self.holders.get(&attachment.cgroup)?.iter();
        let is_own =
            |app: &AttachedApp| app.name == attachment.app && app.app_id == attachment.app_id;
        holders.find(|other| !is_own(other)).copied()
    }

    fn app(&mut self, attachment: &'a Attachment) -> Result<&mut AttachingApp> {
        let Attachment { app: name, app_id, .. } = attachment;
        if let Some(kept) = self.kept.get(name.as_str()).copied() {
            return Ok(self.known(kept));
        }
        Ok(match self.new.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let app = links::reserve(self.dir, *app_id, name)?;
                new.insert(AttachingApp { app, has_left: false })
            }
        })
    }

    /// An app that had a directory before this change.
    fn known(&mut self, app: &'a AttachedApp) -> &mut AttachingApp {
        let new = || AttachingApp { app: app.clone(), has_left: false };
        self.changed.entry(app.dir()).or_insert_with(new)
    }
}
