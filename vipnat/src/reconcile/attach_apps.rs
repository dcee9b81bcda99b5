//! Attaches apps to many cgroups, and reads the links of each cgroup only once before and after.

use std::collections::{HashMap, hash_map::Entry};

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
    /// The apps that stay, by name.
    kept: HashMap<&'a str, &'a AttachedApp>,
    /// The apps that had links on a cgroup before this change.
    holders: HashMap<u64, Vec<&'a AttachedApp>>,
    /// The apps that this change has attached to a cgroup so far, by name.
    apps: HashMap<&'a str, AttachingApp>,
}

/// An app that vipnat attaches to one cgroup after the other.
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
        let (others, owners) = (observed.others, &diff.owners);
        Self { dir, switch, others, owners, kept, holders, apps: HashMap::new() }
    }

    /// Attaches one app to one cgroup. If another app has links there, the app takes them over.
    pub(crate) fn attach(&mut self, attachment: &'a Attachment) -> Result<()> {
        let Attachment { app, app_id: _, cgroup, path, named: _, by_hand } = attachment;
        let holder = self.holder(attachment);
        let (dir, switch, others, owners) = (self.dir, self.switch, self.others, self.owners);
        let AttachingApp { app: own, has_left } = self.app(attachment)?;
        let held = own.held(*cgroup).or_else(|| holder?.held(*cgroup));
        others.admit(app, (path, *cgroup), held)?;
        if let Some(holder) = holder
            && !own.has_links_on(*cgroup)
        {
            links::hand_over(holder, own, *cgroup)?;
            own.look_at(*cgroup)?;
        }
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
        Ok(match self.apps.entry(&attachment.app) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let app = match self.kept.get(attachment.app.as_str()) {
                    Some(app) => (*app).clone(),
                    None => links::reserve(self.dir, attachment.app_id, &attachment.app)?,
                };
                new.insert(AttachingApp { app, has_left: false })
            }
        })
    }
}
