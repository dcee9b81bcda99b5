//! The names of relationships and services, which the kernel does not need and people do.
//!
//! Kept beside the pinned state, in `/run/vipnat`, which lives as long as bpffs does. Without it,
//! `list` and `apply` show VIPs and no names, and what is connected through relationships that are
//! removed stays connected.

use std::{
    cell::{Cell, OnceCell},
    collections::HashMap,
    fmt,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    iter,
    net::Ipv4Addr,
    ops::Range,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use memchr::memmem;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustc_hash::FxHashMap;

use crate::{
    drains, running,
    table::{OnBackendRemoved, Relationship, Table},
};

/// Where the files of vipnat are that live as long as bpffs does, some for each state directory.
pub(crate) const DIRECTORY: &str = "/run/vipnat";

/// Makes it. What apps there are, and what they use, is as little anybody's business as the maps are.
pub(crate) fn directory() -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY)
}

/// The extension of the file.
const FILE: &str = "names";

/// Names by app and VIP.
///
/// Text, since all of it is written and compared each time, and little of it is asked for: a line for each
/// VIP, in the order of the table, with app, VIP, relationship, service and, if it is not to keep them, what
/// becomes of connections. No name has white space in it, so tabs separate the relationships, and the
/// services, of those that share a VIP.
#[derive(Clone, Default)]
pub struct Record {
    text: String,
    /// Where the lines are, as soon as somebody asks for many.
    lines: OnceCell<Lines>,
    /// How many were asked for.
    asked: Cell<usize>,
    /// Why it is empty although there is a file.
    problem: Option<String>,
}

/// So many are searched for in the text, one by one, before it pays to look where all of them are.
const FEW: usize = 8;

/// The line of each VIP of each app.
type Lines = HashMap<String, FxHashMap<Ipv4Addr, Range<usize>>>;

/// What people call a VIP of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The relationship.
    pub relationship: String,
    /// The service it points to.
    pub service: String,
    /// Other relationships that have the VIP, each with its service.
    pub also: Vec<(String, String)>,
    /// What becomes of connections when the relationship itself is removed.
    pub on_backend_removed: OnBackendRemoved,
}

impl Names {
    /// All relationships that have the VIP, as people read them: `db`, or `admin, db`.
    pub fn relationships(&self) -> String {
        let others = self.also.iter().map(|(name, _)| name.as_str());
        listed(iter::once(self.relationship.as_str()).chain(others))
    }

    /// Their services, in the same way.
    pub fn services(&self) -> String {
        let others = self.also.iter().map(|(_, service)| service.as_str());
        listed(iter::once(self.service.as_str()).chain(others))
    }
}

impl Record {
    /// The names in a table.
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

    /// The record of a state directory; empty if there is none, or none that can be read, which is a
    /// [`Record::problem`].
    pub fn load(state: &Path) -> Self {
        let file = beside(state, FILE);
        match fs::read_to_string(&file) {
            Ok(text) => Self { text, ..Self::default() },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                let problem = Some(format!("cannot read {}: {error}", file.display()));
                Self { problem, ..Self::default() }
            }
        }
    }

    /// Why it could not be read, if there is one.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Writes the record of a state directory, in place of the one before, unless it is the same.
    ///
    /// # Errors
    ///
    /// If the directory or file cannot be written.
    pub fn save(&self, state: &Path) -> io::Result<()> {
        self.save_instead_of(&Self::load(state), state)
    }

    /// The same for whoever has loaded the one before.
    ///
    /// # Errors
    ///
    /// As [`Record::save`].
    pub fn save_instead_of(&self, before: &Self, state: &Path) -> io::Result<()> {
        let file = beside(state, FILE);
        if self == before && before.problem.is_none() {
            return tidy(&file);
        }
        replace(&file, self.text.as_bytes())
    }

    /// Removes the record of a state directory. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If it is there and stays.
    pub fn remove(state: &Path) -> io::Result<bool> {
        let file = beside(state, FILE);
        let found = file.exists();
        remove(&file).map(|()| found)
    }

    /// Forgets an app. Returns whether it was known.
    pub fn forget(&mut self, app: &str) -> bool {
        let is_other = |line: &&str| line.split(' ').next() != Some(app);
        let text: String = self.text.split_inclusive('\n').filter(is_other).collect();
        let known = text.len() < self.text.len();
        *self = Self { text, ..Self::default() };
        known
    }

    /// What people call a VIP of an app.
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

    /// The relationships alone, as people read them: `db`, or `admin, db`.
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

/// The names of relationships that share a VIP and those of their services, as a line has them.
fn tabbed(all: &[(&str, &Relationship)]) -> String {
    let mut pairs: Vec<_> = all.iter().map(|(name, of)| (*name, &*of.service)).collect();
    pairs.dedup();
    let (names, services): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    format!("{} {}", names.join("\t"), services.join("\t"))
}

/// Words, each once, with commas.
fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<_> = words.collect();
    all.dedup();
    all.join(", ")
}

fn lines(text: &str) -> Lines {
    let mut lines = Lines::new();
    let mut start = 0;
    // Those of one app come together.
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

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// A file that belongs to a state directory: `/sys/fs/bpf/vipnat` has
/// `/run/vipnat/sys-fs-bpf-vipnat.names`.
pub(crate) fn beside(state: &Path, extension: &str) -> PathBuf {
    const KEEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'/');
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let state = state.to_string_lossy();
    let name = utf8_percent_encode(state.trim_matches('/'), KEEP).to_string();
    Path::new(DIRECTORY).join(name.replace('/', "-")).with_added_extension(extension)
}

/// Gives the files beside a state directory that were named after another path of it the right names.
pub(crate) fn adopt(named: &Path, state: &Path) {
    for extension in [FILE, drains::FILE, running::FILE] {
        let (old, new) = (beside(named, extension), beside(state, extension));
        if old != new && old.exists() && !new.exists() {
            // If it can't be, it is as if it was not there. A file that is locked stays locked.
            let _ = fs::rename(old, new);
        }
    }
}

/// Writes to such a file, in place of what is there: all of it or nothing.
pub(crate) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let new = new_file(file);
    directory()?;
    let mut options = OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    open.write_all(content)?;
    fs::rename(new, file)
}

/// Removes such a file, if it is there, and what an interrupted command left beside it.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    tidy(file)?;
    remove_file(file)
}

/// Removes what an interrupted command left beside such a file.
pub(crate) fn tidy(file: &Path) -> io::Result<()> {
    remove_file(&new_file(file))
}

fn new_file(file: &Path) -> PathBuf {
    file.with_added_extension("new")
}

fn remove_file(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A file system that is read-only says so even of what is not there.
        Err(_)
            if fs::symlink_metadata(file)
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound) =>
        {
            Ok(())
        }
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
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
        let mut record = Record::of(&table);
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
        let record = Record::of(&table);
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
        let record = Record { text, ..Record::default() };
        assert_eq!(record.names("shop", Ipv4Addr::new(169, 254, 1, 1)), None);
        assert_eq!(record.names("", Ipv4Addr::LOCALHOST), None);
    }
}
