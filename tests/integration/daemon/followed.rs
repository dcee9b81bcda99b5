//! A state that `vipnat run` keeps, beside the state that `apply` leaves for the same table.

use std::{collections::BTreeMap, time::Duration};

use vipnat_testkit::{App, Cgroup, Following, NetNs, Outcome, Vipnat, state};

use crate::settle;

/// An instance of vipnat, and the cgroups of its apps below one of its own. Tables write `@` for that one.
pub(super) struct Place {
    pub(super) vipnat: Vipnat,
    host: NetNs,
    apps: BTreeMap<String, App>,
    root: Cgroup,
}

impl Place {
    /// Makes these cgroups. Their sockets are on this host.
    pub(super) fn new(host: &NetNs, cgroups: &[&str]) -> Self {
        let (vipnat, root) = (Vipnat::new(), Cgroup::new());
        let mut place = Self { vipnat, host: host.clone(), apps: BTreeMap::new(), root };
        cgroups.iter().for_each(|cgroup| place.make(cgroup));
        place
    }

    /// The app of a cgroup.
    pub(super) fn app(&self, cgroup: &str) -> &App {
        &self.apps[cgroup]
    }

    /// Makes a cgroup.
    pub(super) fn make(&mut self, cgroup: &str) {
        let app = App { host: self.host.clone(), cgroup: self.root.child(cgroup) };
        self.apps.insert(cgroup.to_owned(), app);
    }

    /// Removes a cgroup.
    pub(super) fn remove(&mut self, cgroup: &str) {
        self.apps.remove(cgroup).expect("there is such a cgroup");
    }

    /// A table, as this instance reads it.
    pub(super) fn table(&self, text: &str) -> String {
        text.replace('@', self.root.relative())
    }

    /// Applies a table, which may be refused.
    pub(super) fn apply(&self, text: &str) -> Outcome {
        let file = self.vipnat.table(&self.table(text));
        self.vipnat.run(["apply".as_ref(), file.as_os_str()])
    }

    /// All state, as tables name the cgroups.
    pub(super) fn dump(&self) -> String {
        let cgroups: Vec<_> = self.apps.values().map(|app| &app.cgroup).collect();
        state::dump_beside_run(&self.vipnat, &cgroups).replace(self.root.relative(), "@")
    }
}

/// A place with a `vipnat run`, and one where `apply` shows the state that each table should leave.
pub(super) struct Followed {
    pub(super) run: Following,
    pub(super) ours: Place,
    pub(super) other: Place,
}

impl Followed {
    /// Follows a table, on these cgroups.
    pub(super) fn start(host: &NetNs, cgroups: &[&str], text: &str) -> Self {
        let [ours, other] = [(); 2].map(|()| Place::new(host, cgroups));
        let run = ours.vipnat.follow(&ours.table(text), &[]);
        Self { run, ours, other }
    }

    /// Makes a cgroup in both places.
    pub(super) fn make(&mut self, cgroup: &str) {
        [&mut self.ours, &mut self.other].into_iter().for_each(|place| place.make(cgroup));
    }

    /// Removes a cgroup in both places.
    pub(super) fn remove(&mut self, cgroup: &str) {
        [&mut self.ours, &mut self.other].into_iter().for_each(|place| place.remove(cgroup));
    }

    /// Changes the table that `run` follows.
    pub(super) fn change(&self, text: &str) {
        self.ours.vipnat.replace_table(&self.ours.table(text));
    }

    /// The state that a table leaves where there was none.
    pub(super) fn fresh(&self, text: &str) -> String {
        self.other.vipnat.ok(["flush"]);
        let applied = self.other.apply(text);
        assert!(applied.status.success(), "{applied}");
        self.other.dump()
    }

    /// Changes the table, and waits until the state is that of a fresh apply.
    #[track_caller]
    pub(super) fn follows(&self, text: &str, context: &str) {
        self.change(text);
        self.becomes(&self.fresh(text), context);
    }

    /// Waits until the state is this one.
    #[track_caller]
    pub(super) fn becomes(&self, expected: &str, context: &str) {
        self.becomes_within(settle::CHANGE, expected, context);
    }

    /// Waits this long until the state is this one.
    #[track_caller]
    pub(super) fn becomes_within(&self, time: Duration, expected: &str, context: &str) {
        settle::becomes(|| self.ours.dump(), expected, time, context);
    }
}
