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
    table::{App, OnBackendRemoved, Table},
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
/// becomes of connections. No name has white space in it.
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
    /// What becomes of connections when the relationship itself is removed.
    pub on_backend_removed: OnBackendRemoved,
}

impl Record {
    /// The names in a table.
    pub fn of(table: &Table) -> Self {
        let services = table.services.iter();
        let ends: FxHashMap<&str, String> = services
            .map(|(name, service)| {
                let end = match service.on_backend_removed {
                    OnBackendRemoved::Keep => format!(" {name}\n"),
                    OnBackendRemoved::Kill => format!(" {name} kill\n"),
                    OnBackendRemoved::Drain(seconds) => format!(" {name} drain {seconds}\n"),
                };
                (name.as_str(), end)
            })
            .collect();
        let mut text = String::new();
        let mut number = itoa::Buffer::new();
        for (app, App { relationships, .. }) in &table.apps {
            for (name, relationship) in relationships.iter() {
                let [a, b, c, d] = relationship.vip.octets();
                text += app;
                for (before, octet) in [(" ", a), (".", b), (".", c), (".", d)] {
                    text += before;
                    text += number.format(octet);
                }
                text += " ";
                text += name;
                text += &ends[&*relationship.service];
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
        let (relationship, service) = (words.next()?.to_owned(), words.next()?.to_owned());
        let on_backend_removed = match words.next() {
            Some("kill") => OnBackendRemoved::Kill,
            Some("drain") => OnBackendRemoved::Drain(words.next()?.parse().ok()?),
            _ => OnBackendRemoved::Keep,
        };
        Some(Names { relationship, service, on_backend_removed })
    }

    /// The relationship alone.
    pub fn relationship(&self, app: &str, vip: Ipv4Addr) -> Option<&str> {
        self.line(app, vip)?.split(' ').nth(2)
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
            Some(Names { relationship, service, on_backend_removed })
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
    fn what_is_no_record_has_no_names() {
        let text = "x\n\n{\"a\": 1}\nshop 169.254.1 db s\nshop 169.254.1.1 db\n".to_owned();
        let record = Record { text, ..Record::default() };
        assert_eq!(record.names("shop", Ipv4Addr::new(169, 254, 1, 1)), None);
        assert_eq!(record.names("", Ipv4Addr::LOCALHOST), None);
    }
}
