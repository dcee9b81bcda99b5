//! The names of relationships and services, which the kernel does not keep and people need.
//!
//! The index is one text, since each apply writes and compares all of it and looks few names up. With 60,000
//! relationships, medians of 15 paired runs: `memmem` finds one name in 0.4 ms, `str::find` in 1.1 ms.
//! `itoa` for the addresses makes [`Desired`](super::Desired) in 4 ms, `write!` in 8 ms.

use std::{
    cell::{Cell, OnceCell},
    collections::HashMap,
    fmt, iter,
    net::Ipv4Addr,
    ops::Range,
};

use memchr::memmem;
use rustc_hash::FxHashMap;

use crate::table::{OnBackendRemoved, Relationship, Table};

/// The names of relationships and services, by app and VIP.
///
/// It is a text with a line for each VIP, in the order of the table: app, VIP, relationship and service,
/// then the policy for removed backends, unless it is to keep connections. Names have no white space, so
/// tabs separate the relationships, and the services, that share a VIP.
#[derive(Clone, Default)]
pub struct NameIndex {
    text: String,
    /// The places of all lines, made once many were looked up.
    lines: OnceCell<Lines>,
    /// The number of lookups so far.
    asked: Cell<usize>,
    /// The reason why it is empty although there is a file.
    problem: Option<String>,
}

/// The number of lookups that search the text; after these, an index of all lines is faster.
const FEW: usize = 8;

/// The place of the line of each VIP, by app.
type Lines = HashMap<String, FxHashMap<Ipv4Addr, Range<usize>>>;

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
        let services = table.services.iter();
        let ends: FxHashMap<&str, String> = services
            .map(|(name, service)| {
                let end = match service.on_backend_removed {
                    OnBackendRemoved::Keep => "\n".to_owned(),
                    OnBackendRemoved::Kill => " kill\n".to_owned(),
                    OnBackendRemoved::Drain(seconds) => format!(" drain {seconds}\n"),
                };
                (name.as_str(), end)
            })
            .collect();
        let mut text = String::new();
        let mut number = itoa::Buffer::new();
        for (app_name, app) in &table.apps {
            let shared = app.shared();
            for (name, relationship) in app.mappings() {
                let [a, b, c, d] = relationship.vip.octets();
                text += app_name;
                for (before, octet) in [(" ", a), (".", b), (".", c), (".", d)] {
                    text += before;
                    text += number.format(octet);
                }
                text += " ";
                let service = &*relationship.service;
                match shared.get(&relationship.vip) {
                    None => {
                        text += name;
                        text += " ";
                        text += service;
                    }
                    Some(all) => text += &tabbed(all),
                }
                text += &ends[service];
            }
        }
        Self { text, ..Self::default() }
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
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The reason why its file could not be read, if it could not.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Removes an app. Returns whether it was there.
    pub fn forget(&mut self, app: &str) -> bool {
        let is_other = |line: &&str| line.split(' ').next() != Some(app);
        let text: String = self.text.split_inclusive('\n').filter(is_other).collect();
        let known = text.len() < self.text.len();
        *self = Self { text, ..Self::default() };
        known
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
        self.asked.set(self.asked.get() + 1);
        Some(if self.asked.get() <= FEW {
            let start = format!("{app} {vip} ");
            let mut found = memmem::find_iter(self.text.as_bytes(), &start);
            let at = found.find(|at| *at == 0 || self.text.as_bytes()[at - 1] == b'\n')?;
            self.text[at..].lines().next()?
        } else {
            let lines = self.lines.get_or_init(|| lines(&self.text));
            &self.text[lines.get(app)?.get(&vip)?.clone()]
        })
    }
}

/// The relationships that share a VIP, and their services, in the form of a line.
fn tabbed(all: &[(&str, &Relationship)]) -> String {
    let mut pairs: Vec<_> = all.iter().map(|(name, of)| (*name, &*of.service)).collect();
    pairs.dedup();
    let (names, services): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    format!("{} {}", names.join("\t"), services.join("\t"))
}

/// Words with commas, without repeats.
fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<_> = words.collect();
    all.dedup();
    all.join(", ")
}

fn lines(text: &str) -> Lines {
    let mut lines = Lines::new();
    let mut start = 0;
    // The lines of one app are adjacent.
    let mut app = "";
    let mut of_app = FxHashMap::default();
    for line in text.lines() {
        let range = start..start + line.len();
        start = range.end + 1;
        let mut words = line.splitn(3, ' ');
        let (Some(name), Some(vip)) = (words.next(), words.next()) else {
            continue;
        };
        if name != app {
            lines.entry(app.to_owned()).or_default().extend(of_app.drain());
            app = name;
        }
        if let Ok(vip) = vip.parse() {
            of_app.insert(vip, range);
        }
    }
    lines.entry(app.to_owned()).or_default().extend(of_app);
    lines
}

impl PartialEq for NameIndex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NameIndex {}

impl fmt::Debug for NameIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

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
        let text = "blog 169.254.206.224 cache redis kill\n\
                    blog 169.254.37.209 db postgres\n\
                    shop 169.254.37.209 db old drain 5\n";
        assert_eq!(record.text, text);
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
        for _ in 0..FEW {
            assert_eq!(record.names("blog", db), names("db", "postgres", keep));
            assert_eq!(record.names("hop", db), None);
        }
        assert!(record.forget("blog") && !record.forget("blog"));
        assert_eq!(record.text, "shop 169.254.37.209 db old drain 5\n");
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
        assert_eq!(record.text, text);
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

    #[test]
    fn what_is_no_record_has_no_names() {
        let text = "x\n\n{\"a\": 1}\nshop 169.254.1 db s\nshop 169.254.1.1 db\n".to_owned();
        let record = NameIndex { text, ..NameIndex::default() };
        assert_eq!(record.names("shop", Ipv4Addr::new(169, 254, 1, 1)), None);
        assert_eq!(record.names("", Ipv4Addr::LOCALHOST), None);
    }
}
