//! The names of relationships and services, which the kernel does not keep and people need.
//!
//! The names of an app are short texts of some lines each, in the order of VIPs. So a binary search finds a
//! line, a change replaces one of the texts, and the file has all of them one after the other.
//!
//! With 60,000 relationships in one app, a changed line takes 0.14 ms, nearly all of it for
//! [`App::at`](crate::table::App::at); a lookup 0.5 µs. The index of the table takes 5 ms to make. In the
//! order of relationships it would take 3 ms, but then a change would have to move a text of 3 MB. Taking
//! the text of a file apart takes 6 ms; a search in it 0.3 ms.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt, iter,
    net::Ipv4Addr,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use memchr::memmem;
use rustc_hash::FxHashMap;

use super::name_lines::{Lines, write_line};
use crate::table::{OnBackendRemoved, Table};

/// The names of relationships and services, by app and VIP.
///
/// As text, it has a line for each VIP, in the order of apps and VIPs: app, VIP, relationship and service,
/// then the policy for removed backends, unless it is to keep connections. Names have no white space, so
/// tabs separate the relationships, and the services, that share a VIP.
#[derive(Default)]
pub struct NameIndex {
    /// The text of a file, until it is taken apart.
    text: String,
    /// The lines of each app. They are made when many are needed: an apply that changes little asks for few
    /// lines of a file, or for none.
    apps: OnceLock<BTreeMap<String, Lines>>,
    /// The number of lines that were asked for in the text of a file.
    asked: AtomicUsize,
    /// The reason why it is empty although there is a file.
    problem: Option<String>,
}

/// The number of lines that are searched in the text of a file; after these, taking it apart is faster.
const FEW: usize = 8;

/// The names of a VIP of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The relationship.
    pub relationship: String,
    /// The service it points to.
    pub service: String,
    /// Other relationships that have the VIP, each with its service.
    pub also: Vec<(String, String)>,
    /// The policy for connections after the relationship itself is removed.
    pub on_backend_removed: OnBackendRemoved,
}

impl Names {
    /// The names of all relationships with this VIP, for people: `db`, or `admin, db`.
    pub fn relationships(&self) -> String {
        let others = self.also.iter().map(|(name, _)| name.as_str());
        listed(iter::once(self.relationship.as_str()).chain(others))
    }

    /// The names of their services, for people.
    pub fn services(&self) -> String {
        let others = self.also.iter().map(|(_, service)| service.as_str());
        listed(iter::once(self.service.as_str()).chain(others))
    }
}

impl NameIndex {
    /// The names of a table.
    pub fn of(table: &Table) -> Self {
        Self::of_apps(table, table.apps.keys().map(String::as_str))
    }

    /// The names of these apps of a table. An app that the table does not have is left out.
    pub fn of_apps<'a>(table: &Table, apps: impl IntoIterator<Item = &'a str>) -> Self {
        let services = table.services.iter();
        let policies: FxHashMap<&str, OnBackendRemoved> = services
            .map(|(name, service)| (name.as_str(), service.on_backend_removed))
            .filter(|(_, policy)| *policy != OnBackendRemoved::Keep)
            .collect();
        let policy = |service: &str| policies.get(service).copied().unwrap_or_default();
        let of = |name: &str| {
            let lines = Lines::of(name, table.apps.get(name)?, policy);
            (!lines.is_empty()).then(|| (name.to_owned(), lines))
        };
        let apps: BTreeMap<_, _> = apps.into_iter().filter_map(of).collect();
        Self { apps: apps.into(), ..Self::default() }
    }

    /// An index from the text of a file. Lines that it does not understand have no names.
    pub fn from_text(text: String) -> Self {
        Self { text, ..Self::default() }
    }

    /// An empty index, with the reason why its file could not be read.
    pub fn unreadable(problem: String) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }

    /// The text of its file.
    pub fn text(&self) -> Cow<'_, str> {
        if self.apps.get().is_none() {
            return self.text.as_str().into();
        }
        let mut text = String::with_capacity(self.texts().map(str::len).sum());
        text.extend(self.texts());
        text.into()
    }

    /// The reason why its file could not be read, if it could not.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Takes the names of these VIPs, by app, from the table, and forgets the problem with the file. A VIP
    /// or app that the table does not have loses its names.
    pub fn update(&mut self, table: &Table, touched: &BTreeMap<String, BTreeSet<Ipv4Addr>>) {
        self.problem = None;
        let apps = self.apps_mut();
        let services = &table.services;
        let policy = |service: &str| services[service].on_backend_removed;
        let mut line = String::new();
        for (name, vips) in touched {
            let Some(app) = table.apps.get(name) else {
                apps.remove(name);
                continue;
            };
            let lines = apps.entry(name.clone()).or_default();
            if lines.is_empty() || vips.len() > app.relationships.len() / 8 {
                *lines = Lines::of(name, app, policy);
            } else {
                let found = app.at(vips);
                for vip in vips {
                    line.clear();
                    if let Some(all) = found.get(vip) {
                        let pairs = all.iter().map(|(name, of)| (*name, &*of.service));
                        let policy = policy(&all[0].1.service);
                        write_line(&mut line, name, *vip, pairs, policy);
                    }
                    lines.replace(*vip, &line);
                }
            }
            if lines.is_empty() {
                apps.remove(name);
            }
        }
    }

    /// The lines of these VIPs, by app, as an index of their own.
    pub fn part(&self, vips: &BTreeMap<String, BTreeSet<Ipv4Addr>>) -> Self {
        let lines = vips.iter().flat_map(|(app, vips)| {
            let lines = self.apps().get(app);
            vips.iter().filter_map(move |vip| lines?.line(app, *vip))
        });
        Self::from_text(lines.flat_map(|line| [line, "\n"]).collect())
    }

    /// Removes an app. Returns whether it was there.
    pub fn forget(&mut self, app: &str) -> bool {
        self.apps_mut().remove(app).is_some()
    }

    /// The names of a VIP of an app, if they are known.
    pub fn names(&self, app: &str, vip: Ipv4Addr) -> Option<Names> {
        let mut words = self.line(app, vip)?.split(' ').skip(2);
        let (mut relationships, mut services) =
            (words.next()?.split('\t'), words.next()?.split('\t'));
        let (relationship, service) =
            (relationships.next()?.to_owned(), services.next()?.to_owned());
        let pair = |(name, service): (&str, &str)| (name.to_owned(), service.to_owned());
        let also = relationships.zip(services).map(pair).collect();
        let on_backend_removed = match words.next() {
            Some("kill") => OnBackendRemoved::Kill,
            Some("drain") => OnBackendRemoved::Drain(words.next()?.parse().ok()?),
            _ => OnBackendRemoved::Keep,
        };
        Some(Names { relationship, service, also, on_backend_removed })
    }

    /// The relationships alone, for people: `db`, or `admin, db`.
    pub fn relationships(&self, app: &str, vip: Ipv4Addr) -> Option<String> {
        Some(listed(self.line(app, vip)?.split(' ').nth(2)?.split('\t')))
    }

    fn line(&self, app: &str, vip: Ipv4Addr) -> Option<&str> {
        if self.apps.get().is_none() && self.asked.fetch_add(1, Ordering::Relaxed) < FEW {
            let start = format!("{app} {vip} ");
            let mut found = memmem::find_iter(self.text.as_bytes(), &start);
            let at = found.find(|at| *at == 0 || self.text.as_bytes()[at - 1] == b'\n')?;
            return self.text[at..].lines().next();
        }
        self.apps().get(app)?.line(app, vip)
    }

    fn apps(&self) -> &BTreeMap<String, Lines> {
        self.apps.get_or_init(|| Lines::in_text(&self.text))
    }

    fn apps_mut(&mut self) -> &mut BTreeMap<String, Lines> {
        self.apps();
        self.text = String::new();
        // It was made right above.
        self.apps.get_mut().expect("the lines")
    }

    /// Its text in pieces.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let apps = self.apps.get().into_iter().flat_map(BTreeMap::values);
        let whole = self.apps.get().is_none().then_some(self.text.as_str());
        whole.into_iter().chain(apps.flat_map(Lines::texts))
    }
}

/// Words with commas, without repeats.
fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<_> = words.collect();
    all.dedup();
    all.join(", ")
}

impl Clone for NameIndex {
    fn clone(&self) -> Self {
        let Self { text, apps, asked: _, problem } = self;
        let (text, apps, problem) = (text.clone(), apps.clone(), problem.clone());
        Self { text, apps, problem, asked: AtomicUsize::default() }
    }
}

impl PartialEq for NameIndex {
    /// Whether both have the same text.
    fn eq(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.texts(), other.texts());
        let (mut one, mut two): (&[u8], &[u8]) = (&[], &[]);
        loop {
            if one.is_empty() {
                one = ours.by_ref().map(str::as_bytes).find(|text| !text.is_empty()).unwrap_or(&[]);
            }
            if two.is_empty() {
                two =
                    theirs.by_ref().map(str::as_bytes).find(|text| !text.is_empty()).unwrap_or(&[]);
            }
            let length = one.len().min(two.len());
            if length == 0 {
                return one.is_empty() && two.is_empty();
            }
            if one[..length] != two[..length] {
                return false;
            }
            (one, two) = (&one[length..], &two[length..]);
        }
    }
}

impl Eq for NameIndex {}

impl fmt::Debug for NameIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::table::{Difference, ServiceUsers, random};

    #[test]
    fn a_record_has_a_line_for_each_vip_and_finds_it() {
        let table = r#"
            [services]
            postgres = { backends = ["240.0.0.1"] }
            redis = { backends = ["240.0.0.2"], on-backend-removed = "kill" }
            old = { backends = [], on-backend-removed = "drain", drain-seconds = 5 }
            [apps.blog]
            cgroup = "blog"
            relationships = { db = { service = "postgres" }, cache = { service = "redis" } }
            [apps.shop]
            cgroup = "shop"
            relationships = { db = { service = "old" } }
        "#;
        let table = Table::parse(table.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap();
        let mut record = NameIndex::of(&table);
        let text = "blog 169.254.37.209 db postgres\n\
                    blog 169.254.206.224 cache redis kill\n\
                    shop 169.254.37.209 db old drain 5\n";
        assert_eq!(record.text(), text);
        let [db, cache] = [[37, 209], [206, 224]].map(|[c, d]| Ipv4Addr::new(169, 254, c, d));
        let names = |relationship: &str, service: &str, on_backend_removed| {
            let (relationship, service) = (relationship.to_owned(), service.to_owned());
            Some(Names { relationship, service, also: Vec::new(), on_backend_removed })
        };
        let (kill, keep) = (OnBackendRemoved::Kill, OnBackendRemoved::Keep);
        assert_eq!(record.names("blog", cache), names("cache", "redis", kill));
        assert_eq!(record.names("blog", db), names("db", "postgres", keep));
        assert_eq!(record.names("shop", db), names("db", "old", OnBackendRemoved::Drain(5)));
        assert_eq!((record.names("shop", cache), record.names("sho", db)), (None, None));
        assert_eq!(record.names("hop", db), None);
        assert!(record.forget("blog") && !record.forget("blog"));
        assert_eq!(record.text(), "shop 169.254.37.209 db old drain 5\n");
        assert_eq!(record.names("blog", db), None);
    }

    #[test]
    fn relationships_that_share_a_vip_share_a_line() {
        let table = r#"
            [services]
            postgres = { backends = ["240.0.0.1"], on-backend-removed = "kill" }
            replica = { backends = ["240.0.0.2"] }
            same = { backends = ["240.0.0.1"], on-backend-removed = "kill" }
            [apps.shop.relationships]
            admin = { service = "same", vip = "169.254.1.1" }
            db = [
                { service = "postgres", vip = "169.254.1.1", endpoint = { username = "a" } },
                { service = "postgres", vip = "169.254.1.1", endpoint = { username = "b" } },
                { service = "replica", vip = "169.254.1.2" },
            ]
        "#;
        let table = Table::parse(table.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap();
        let record = NameIndex::of(&table);
        let text = "shop 169.254.1.1 admin\tdb same\tpostgres kill\nshop 169.254.1.2 db replica\n";
        assert_eq!(record.text(), text);
        let vip = Ipv4Addr::new(169, 254, 1, 1);
        let names = record.names("shop", vip).unwrap();
        assert_eq!((names.relationship.as_str(), names.service.as_str()), ("admin", "same"));
        assert_eq!(names.also, [("db".to_owned(), "postgres".to_owned())]);
        assert_eq!(names.on_backend_removed, OnBackendRemoved::Kill);
        assert_eq!(
            (names.relationships(), names.services()),
            ("admin, db".into(), "same, postgres".into())
        );
        assert_eq!(record.relationships("shop", vip).as_deref(), Some("admin, db"));
    }

    proptest::proptest! {
        #[test]
        fn names_follow_a_change(
            tables in proptest::collection::vec(random::table(), 1..5),
            from_file: bool,
        ) {
            let mut names = NameIndex::of(&tables[0]);
            let mut users = ServiceUsers::of(&tables[0]);
            if from_file {
                names = NameIndex::from_text(names.text().into_owned());
            }
            for change in tables.windows(2) {
                let (old, new) = (&change[0], &change[1]);
                let difference = Difference::between(old, new);
                users.update(new, &difference);
                names.update(new, &users.renamed(&difference));
                let expected = NameIndex::of(new);
                proptest::prop_assert_eq!(&names, &expected);
                proptest::prop_assert_eq!(names.text(), expected.text());
                let read = NameIndex::from_text(names.text().into_owned());
                proptest::prop_assert_eq!(&names, &read);
                for (app, of) in &new.apps {
                    for relationship in of.relationships.values() {
                        let vip = relationship.vip;
                        proptest::prop_assert!(names.names(app, vip).is_some());
                        proptest::prop_assert_eq!(names.names(app, vip), read.names(app, vip));
                    }
                }
            }
        }

    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

        /// Long names and many VIPs, so that the lines of an app are several texts.
        #[test]
        fn single_lines_of_a_large_app_are_replaced(
            before in proptest::collection::btree_map(0..2_000_u16, 0..3_u8, 0..1_500),
            changes in proptest::collection::vec((0..2_000_u16, proptest::option::of(0..3_u8)), 0..100),
        ) {
            let table = |vips: &BTreeMap<u16, u8>| {
                let line = |(vip, service): (&u16, &u8)| {
                    let [high, low] = (256 + vip).to_be_bytes();
                    let name = "name".repeat(usize::from(vip % 12) + 1);
                    format!(
                        "{name}-{vip} = {{ service = \"s{service}\", vip = \"169.254.{high}.{low}\" }}\n"
                    )
                };
                let services: String =
                    (0..3).map(|number| format!("s{number} = {{ backends = [] }}\n")).collect();
                let lines: String = vips.iter().map(line).collect();
                let text = format!("[services]\n{services}[apps.shop.relationships]\n{lines}");
                Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap()
            };
            let mut names = NameIndex::of(&table(&before));
            let mut after = before;
            for changes in changes.chunks(8) {
                let mut vips = BTreeSet::new();
                for (vip, service) in changes {
                    match service {
                        Some(service) => drop(after.insert(*vip, *service)),
                        None => drop(after.remove(vip)),
                    }
                    let [high, low] = (256 + vip).to_be_bytes();
                    vips.insert(Ipv4Addr::new(169, 254, high, low));
                }
                names.update(&table(&after), &[("shop".to_owned(), vips)].into());
            }
            let expected = NameIndex::of(&table(&after));
            proptest::prop_assert_eq!(&names, &expected);
            proptest::prop_assert_eq!(names.text(), expected.text());
        }
    }

    #[test]
    fn what_is_no_record_has_no_names() {
        let text = "x\n\n{\"a\": 1}\nshop 169.254.1 db s\nshop 169.254.1.1 db\n".to_owned();
        let record = NameIndex::from_text(text);
        assert_eq!(record.names("shop", Ipv4Addr::new(169, 254, 1, 1)), None);
        assert_eq!(record.names("", Ipv4Addr::LOCALHOST), None);
    }
}
