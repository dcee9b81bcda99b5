//! Tables that change at random, step by step.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{choice::Choice, scene::ip};

/// The cgroups that may exist. The first one always does.
const CGROUPS: [&str; 9] = ["c1", "c1/in", "c2", "c3", "p-0", "p-1", "p-2", "q-0", "q-1"];

/// The paths and patterns that a table gives to apps. Patterns don't overlap.
const PLACES: [&str; 9] = ["c1", "c2", "c3", "c4", "c1/in", "p-0", "p-*", "q-*", "q-1"];

/// The VIPs that relationships may set.
const VIPS: [&str; 3] = ["169.254.9.1", "169.254.9.2", "169.254.9.3"];

/// A table, and the cgroups that exist.
#[derive(Clone, Debug, Default)]
pub(super) struct RandomTable {
    pub(super) cgroups: Vec<&'static str>,
    services: BTreeMap<String, Service>,
    apps: BTreeMap<String, App>,
    /// The number of names so far: each new thing has a new name, or one that was used before.
    names: usize,
}

#[derive(Clone, Debug, Default)]
struct Service {
    /// The number of each backend, its port, and its weight.
    backends: Vec<(u8, Option<u16>, u16)>,
    random: bool,
    strict: bool,
    /// The line of the policy, or nothing.
    policy: &'static str,
}

#[derive(Clone, Debug, Default)]
struct App {
    place: Option<&'static str>,
    relationships: BTreeMap<String, Relationship>,
}

#[derive(Clone, Debug, Default)]
struct Relationship {
    service: String,
    vip: Option<&'static str>,
    /// The lines of its limits.
    limits: &'static str,
}

/// One change of a table.
type Step = fn(&mut RandomTable, &mut Choice);

impl RandomTable {
    /// A first table: three services, and four apps in their cgroups.
    pub(super) fn new(choice: &mut Choice) -> Self {
        let mut table = Self { cgroups: CGROUPS[..6].to_vec(), ..Self::default() };
        for _ in 0..3 {
            table.add_service(choice);
        }
        for _ in 0..4 {
            table.add_app(choice);
        }
        table
    }

    /// The table, with `@` for the cgroup above all others.
    pub(super) fn text(&self) -> String {
        self.text_with(|_| true)
    }

    /// The same without paths that do not exist: `apply` refuses a table with such a path.
    pub(super) fn text_of_existing(&self) -> String {
        self.text_with(|place| place.contains('*') || self.cgroups.contains(&place))
    }

    fn text_with(&self, named: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        for (name, Service { backends, random, strict, policy }) in &self.services {
            let backends: Vec<_> = backends.iter().map(backend).collect();
            let _ = writeln!(text, "[services.{name}]\nbackends = [{}]", backends.join(", "));
            text += if *random { "select = \"random\"\n" } else { "" };
            text += if *strict { "udp-pinning = \"strict\"\n" } else { "" };
            text += policy;
        }
        for (name, App { place, relationships }) in &self.apps {
            let _ = writeln!(text, "[apps.{name}]");
            if let Some(place) = place.filter(|place| named(place)) {
                let _ = writeln!(text, "cgroup = \"@/{place}\"");
            }
            for (relationship, Relationship { service, vip, limits }) in relationships {
                let header = format!("[apps.{name}.relationships.{relationship}]");
                let _ = writeln!(text, "{header}\nservice = \"{service}\"\n{limits}");
                if let Some(vip) = vip {
                    let _ = writeln!(text, "vip = \"{vip}\"");
                }
            }
        }
        text
    }

    /// Makes one change, or a few. Gives its name. The table may be invalid after it.
    pub(super) fn step(&mut self, choice: &mut Choice) -> String {
        if choice.one_in(12) {
            return (0..3).map(|_| self.step(choice)).collect::<Vec<_>>().join(", ");
        }
        let steps: [(&str, Step); 20] = [
            ("backends", Self::change_backends),
            ("backends", Self::change_backends),
            ("policy", Self::change_policy),
            ("select, udp-pinning", Self::change_selection),
            ("weights", Self::change_weights),
            ("another service", Self::move_relationship),
            ("a relationship comes", Self::add_relationship),
            ("a relationship comes", Self::add_relationship),
            ("a relationship comes", Self::add_relationship),
            ("a relationship goes", Self::remove_relationship),
            ("a relationship is renamed", Self::rename_relationship),
            ("limits", Self::change_limits),
            ("an app comes", Self::add_app),
            ("an app goes", Self::remove_app),
            ("an app is renamed", Self::rename_app),
            ("another cgroup", Self::change_place),
            ("two apps exchange cgroups", Self::exchange_places),
            ("a service comes", Self::add_service),
            ("a service is renamed", Self::rename_service),
            ("a service goes", Self::remove_service),
        ];
        let (what, step) = steps[choice.below(steps.len())];
        step(self, choice);
        what.to_owned()
    }

    /// Makes a cgroup come or go. Gives its name.
    pub(super) fn change_cgroups(&mut self, choice: &mut Choice) -> &'static str {
        let cgroup = CGROUPS[1 + choice.below(CGROUPS.len() - 1)];
        if self.cgroups.contains(&cgroup) {
            self.cgroups.retain(|other| *other != cgroup);
        } else {
            self.cgroups.push(cgroup);
        }
        cgroup
    }

    /// A name of one of few of this kind. Names return.
    fn name(&mut self, kind: &str, count: usize) -> String {
        self.names += 1;
        format!("{kind}{}", self.names % count)
    }

    fn add_service(&mut self, choice: &mut Choice) {
        let name = self.name("s", 7);
        let mut service = Service::default();
        service.add_backends(choice);
        self.services.insert(name, service);
    }

    fn rename_service(&mut self, choice: &mut Choice) {
        let new = self.name("s", 7);
        let Some(old) = choice.of(self.services.keys().cloned()) else { return };
        let service = self.services.remove(&old).expect("it is there");
        self.services.insert(new.clone(), service);
        for relationship in self.relationships().filter(|it| it.service == old) {
            relationship.service.clone_from(&new);
        }
    }

    /// Removes a service that no relationship has.
    fn remove_service(&mut self, _: &mut Choice) {
        let used: Vec<_> = self.relationships().map(|it| it.service.clone()).collect();
        let unused = self.services.keys().find(|name| !used.contains(name)).cloned();
        if let Some(unused) = unused.filter(|_| self.services.len() > 3) {
            self.services.remove(&unused);
        }
    }

    fn change_backends(&mut self, choice: &mut Choice) {
        let Some(service) = choice.of(self.services.values_mut()) else { return };
        match choice.below(6) {
            0 => service.backends.clear(),
            1 => service.backends.reverse(),
            2 if !service.backends.is_empty() => {
                service.backends.remove(choice.below(service.backends.len()));
            }
            3 => {
                service.backends.clear();
                service.add_backends(choice);
            }
            _ => service.add_backends(choice),
        }
    }

    fn change_weights(&mut self, choice: &mut Choice) {
        let Some(service) = choice.of(self.services.values_mut()) else { return };
        for (_, port, weight) in &mut service.backends {
            *weight = [1, 1, 2, 3, 40][choice.below(5)];
            *port = [None, None, Some(5432), Some(6380)][choice.below(4)];
        }
    }

    fn change_policy(&mut self, choice: &mut Choice) {
        let Some(service) = choice.of(self.services.values_mut()) else { return };
        service.policy = [
            "",
            "on-backend-removed = \"keep\"\n",
            "on-backend-removed = \"kill\"\n",
            "on-backend-removed = \"drain\"\ndrain-seconds = 1\n",
            "on-backend-removed = \"drain\"\n",
        ][choice.below(5)];
    }

    fn change_selection(&mut self, choice: &mut Choice) {
        let Some(service) = choice.of(self.services.values_mut()) else { return };
        service.random = choice.one_in(2);
        service.strict = choice.one_in(2);
    }

    fn add_app(&mut self, choice: &mut Choice) {
        if self.apps.len() == 7 {
            return;
        }
        let name = self.name("a", 9);
        let place = self.free_place(choice);
        self.apps.insert(name.clone(), App { place, ..App::default() });
        for _ in 0..=choice.below(4) {
            self.add_relationship_of(&name, choice);
        }
    }

    fn remove_app(&mut self, choice: &mut Choice) {
        if self.apps.len() > 3
            && let Some(app) = choice.of(self.apps.keys().cloned())
        {
            self.apps.remove(&app);
        }
    }

    fn rename_app(&mut self, choice: &mut Choice) {
        let new = self.name("a", 9);
        let Some(old) = choice.of(self.apps.keys().cloned()) else { return };
        let app = self.apps.remove(&old).expect("it is there");
        self.apps.insert(new, app);
    }

    fn change_place(&mut self, choice: &mut Choice) {
        let place = self.free_place(choice);
        if let Some(app) = choice.of(self.apps.values_mut()) {
            app.place = place;
        }
    }

    fn exchange_places(&mut self, choice: &mut Choice) {
        let [Some(one), Some(other)] = [(); 2].map(|()| choice.of(self.apps.keys().cloned()))
        else {
            return;
        };
        let places = [&one, &other].map(|app| self.apps[app].place);
        let [of_one, of_other] = places;
        for (app, place) in [(one, of_other), (other, of_one)] {
            self.apps.entry(app).or_default().place = place;
        }
    }

    /// A place that no app has; seldom none.
    fn free_place(&self, choice: &mut Choice) -> Option<&'static str> {
        let taken: Vec<_> = self.apps.values().filter_map(|app| app.place).collect();
        let free = PLACES.into_iter().filter(|place| !taken.contains(place));
        choice.of(free).filter(|_| !choice.one_in(8))
    }

    fn add_relationship(&mut self, choice: &mut Choice) {
        if let Some(app) = choice.of(self.apps.keys().cloned()) {
            self.add_relationship_of(&app, choice);
        }
    }

    fn add_relationship_of(&mut self, app: &str, choice: &mut Choice) {
        let name = self.name("r", 11);
        let Some(service) = choice.of(self.services.keys().cloned()) else { return };
        // Two relationships may have one VIP, if all else is equal as well.
        let vip = if choice.one_in(3) { choice.of(VIPS) } else { None };
        let app = self.apps.get_mut(app).expect("there is such an app");
        let same = app.relationships.values().find(|it| vip.is_some() && it.vip == vip);
        let new = same.cloned().unwrap_or(Relationship { service, vip, limits: limits(choice) });
        app.relationships.insert(name, new);
    }

    fn remove_relationship(&mut self, choice: &mut Choice) {
        if let Some(app) = choice.of(self.apps.values_mut())
            && let Some(name) = choice.of(app.relationships.keys().cloned())
        {
            app.relationships.remove(&name);
        }
    }

    fn rename_relationship(&mut self, choice: &mut Choice) {
        let new = self.name("r", 11);
        if let Some(app) = choice.of(self.apps.values_mut())
            && let Some(old) = choice.of(app.relationships.keys().cloned())
        {
            let relationship = app.relationships.remove(&old).expect("it is there");
            app.relationships.insert(new, relationship);
        }
    }

    fn move_relationship(&mut self, choice: &mut Choice) {
        let Some(service) = choice.of(self.services.keys().cloned()) else { return };
        if let Some(relationship) = choice.of(self.relationships()) {
            relationship.service = service;
        }
    }

    fn change_limits(&mut self, choice: &mut Choice) {
        let limits = limits(choice);
        if let Some(relationship) = choice.of(self.relationships()) {
            relationship.limits = limits;
        }
    }

    fn relationships(&mut self) -> impl Iterator<Item = &mut Relationship> {
        self.apps.values_mut().flat_map(|app| app.relationships.values_mut())
    }
}

impl Service {
    /// Adds one backend or two that it does not have.
    fn add_backends(&mut self, choice: &mut Choice) {
        for _ in 0..=choice.below(2) {
            let new = (0..12).filter(|new| self.backends.iter().all(|(old, ..)| old != new));
            self.backends.extend(choice.of(new).map(|new| (new, None, 1)));
        }
    }
}

fn limits(choice: &mut Choice) -> &'static str {
    [
        "",
        "",
        "port = 5432\n",
        "port = 6379\n",
        "protocol = \"tcp\"\n",
        "protocol = \"udp\"\n",
        "port = 5432\nprotocol = \"udp\"\n",
    ][choice.below(7)]
}

/// A backend as TOML.
fn backend((number, port, weight): &(u8, Option<u16>, u16)) -> String {
    let port = port.map(|port| format!(", port = {port}")).unwrap_or_default();
    format!("{{ ip = \"{}\", weight = {weight}{port} }}", ip(*number))
}
