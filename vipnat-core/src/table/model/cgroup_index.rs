//! Which apps wait for which cgroup: the paths and patterns of a whole table, by directory and name.
//!
//! A tree of components. Where a directory of the cgroup hierarchy stands in it is a [`Position`]: several
//! patterns may have led there. One step costs a lookup of the name, and one of its beginning or end for each
//! length that patterns of this directory begin or end with, however many patterns there are; only patterns
//! that begin and end with a wildcard are tried one by one.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
};

use glob::Pattern;

use super::{
    cgroups::{Component, as_text},
    table::Table,
};

/// All cgroups that a table means.
#[derive(Debug, Default)]
pub struct CgroupIndex {
    nodes: Vec<Node>,
}

/// What may be in a directory, and whose this is itself.
#[derive(Debug, Default)]
struct Node {
    names: HashMap<OsString, usize>,
    patterns: Patterns,
    /// The apps that have cgroups here, in their order, and whether by a path, not by a pattern.
    apps: Vec<(String, bool)>,
}

/// The patterns that wait in one directory.
#[derive(Debug, Default)]
struct Patterns {
    /// Each once, and where it leads.
    all: Vec<(Pattern, usize)>,
    /// By what they begin with, and by its length.
    by_beginning: BTreeMap<usize, HashMap<Vec<u8>, Vec<usize>>>,
    /// Those that begin with a wildcard, by what they end with, and by its length, which may be 0.
    by_end: BTreeMap<usize, HashMap<Vec<u8>, Vec<usize>>>,
}

/// Where a cgroup stands in a table. Nowhere, if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(Vec<usize>);

/// To whom a table gives a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It means nothing to the table.
    Nobody,
    /// To one app.
    App {
        /// Its name.
        name: String,
        /// By a path, not by a pattern.
        named: bool,
    },
    /// To nobody, since patterns of several apps match it, which are these.
    Contested(Vec<String>),
}

impl CgroupIndex {
    /// The cgroups of a table.
    pub fn of(table: &Table) -> Self {
        let mut index = Self { nodes: vec![Node::default()] };
        for (name, app) in &table.apps {
            let Some(cgroups) = &app.cgroup else {
                continue;
            };
            let mut at = 0;
            for component in cgroups.components() {
                at = index.add(at, component);
            }
            index.nodes[at].apps.push((name.clone(), cgroups.path().is_some()));
        }
        index
    }

    fn add(&mut self, at: usize, component: &Component) -> usize {
        let new = self.nodes.len();
        let node = &mut self.nodes[at];
        let found = match component {
            Component::Name(name) => *node.names.entry(name.into()).or_insert(new),
            Component::Pattern(pattern) => node.patterns.add(pattern, new),
        };
        if found == new {
            self.nodes.push(Node::default());
        }
        found
    }

    /// The position of the mount point.
    pub fn root(&self) -> Position {
        Position(if self.nodes.is_empty() { Vec::new() } else { vec![0] })
    }

    /// The position of a cgroup in a directory that has this one.
    pub fn step(&self, from: &Position, name: &OsStr) -> Position {
        let mut to = Vec::new();
        for node in from.0.iter().map(|at| &self.nodes[*at]) {
            to.extend(node.names.get(name).copied());
            node.patterns.matching(name, &mut to);
        }
        Position(to)
    }

    /// The names that may be in a directory, and whether there are patterns as well.
    pub fn names<'a>(&'a self, at: &'a Position) -> (impl Iterator<Item = &'a OsStr>, bool) {
        let nodes = at.0.iter().map(|at| &self.nodes[*at]);
        let patterns = nodes.clone().any(|node| !node.patterns.all.is_empty());
        (nodes.flat_map(|node| node.names.keys().map(OsString::as_os_str)), patterns)
    }

    /// Whether anything may be in a directory.
    pub fn leads_on(&self, at: &Position) -> bool {
        let mut nodes = at.0.iter().map(|at| &self.nodes[*at]);
        nodes.any(|node| !node.names.is_empty() || !node.patterns.all.is_empty())
    }

    /// Whose a cgroup is. A path says more than patterns, however many.
    pub fn owner(&self, at: &Position) -> Owner {
        let apps: Vec<_> = at.0.iter().flat_map(|at| &self.nodes[*at].apps).collect();
        let by_path: Vec<_> = apps.iter().filter(|(_, named)| *named).copied().collect();
        let mut best = if by_path.is_empty() { apps } else { by_path };
        best.sort_unstable();
        match best.as_slice() {
            [] => Owner::Nobody,
            [(name, named)] => Owner::App { name: name.clone(), named: *named },
            several => Owner::Contested(several.iter().map(|(name, _)| name.clone()).collect()),
        }
    }
}

impl Position {
    /// Whether it is nowhere in the table.
    pub fn is_nowhere(&self) -> bool {
        self.0.is_empty()
    }
}

impl Patterns {
    /// Adds a pattern that leads to a node, unless it is there; where it leads.
    fn add(&mut self, pattern: &Pattern, to: usize) -> usize {
        let text = pattern.as_str().as_bytes();
        let wild = |byte: &u8| b"*?[]".contains(byte);
        let beginning = &text[..text.iter().position(wild).unwrap_or(text.len())];
        let end = &text[text.iter().rposition(wild).map_or(0, |last| last + 1)..];
        let (part, map) = if beginning.is_empty() {
            (end, &mut self.by_end)
        } else {
            (beginning, &mut self.by_beginning)
        };
        let same = map.entry(part.len()).or_default().entry(part.to_owned()).or_default();
        if let Some(known) = same.iter().find(|known| self.all[**known].0 == *pattern) {
            return self.all[*known].1;
        }
        same.push(self.all.len());
        self.all.push((pattern.clone(), to));
        to
    }

    /// Adds where those lead that match a name.
    fn matching(&self, name: &OsStr, to: &mut Vec<usize>) {
        if self.all.is_empty() {
            return;
        }
        let name = as_text(name);
        let bytes = name.as_bytes();
        let beginnings = self
            .by_beginning
            .iter()
            .filter_map(|(length, patterns)| patterns.get(bytes.get(..*length)?));
        let ends = self.by_end.iter().filter_map(|(length, patterns)| {
            patterns.get(bytes.get(bytes.len().checked_sub(*length)?..)?)
        });
        for (pattern, leads) in beginnings.chain(ends).flatten().map(|known| &self.all[*known]) {
            if pattern.matches(&name) {
                to.push(*leads);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn index(apps: &[(&str, &str)]) -> CgroupIndex {
        let app = |(name, cgroup): &(&str, &str)| format!("[apps.{name}]\ncgroup = \"{cgroup}\"\n");
        let text: String = apps.iter().map(app).collect();
        let table = Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup"));
        CgroupIndex::of(&table.unwrap())
    }

    fn at(index: &CgroupIndex, path: &str) -> Position {
        let step = |at: Position, name: &OsStr| index.step(&at, name);
        Path::new(path).iter().fold(index.root(), step)
    }

    fn owner(index: &CgroupIndex, path: &str) -> String {
        match index.owner(&at(index, path)) {
            Owner::Nobody => "nobody".to_owned(),
            Owner::App { name, named: true } => format!("{name} by its path"),
            Owner::App { name, named: false } => name,
            Owner::Contested(apps) => apps.join("|"),
        }
    }

    #[test]
    fn a_cgroup_is_its_apps_and_every_directory_on_the_way_leads_to_it() {
        let apps = [
            ("shop", "lxc/shop-*"),
            ("blog", "lxc/blog"),
            ("all", "*/x-?"),
            ("deep", "lxc/*/inner"),
            ("end", "lxc/*-x"),
            ("named", "lxc/shop-7"),
        ];
        let index = index(&apps);
        for (path, expected) in [
            ("lxc/shop-1", "shop"),
            ("lxc/shop-7", "named by its path"),
            ("lxc/shop-x", "end|shop"),
            ("lxc/blog", "blog by its path"),
            ("lxc/blog-x", "end"),
            ("lxc/x-x", "all|end"),
            ("other/x-1", "all"),
            ("other/x-12", "nobody"),
            ("lxc/shop-1/inner", "deep"),
            ("lxc", "nobody"),
            ("lxc/none", "nobody"),
            ("lxc/none/other", "nobody"),
        ] {
            assert_eq!(owner(&index, path), expected, "{path}");
        }
        let leads_on = |path| index.leads_on(&at(&index, path));
        assert!(leads_on("") && leads_on("lxc") && leads_on("other") && leads_on("lxc/any"));
        assert!(!leads_on("other/x-1") && !leads_on("other/any"));
        assert!(at(&index, "other/any").is_nowhere());
        let lxc = at(&index, "lxc");
        let (names, patterns) = index.names(&lxc);
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        assert_eq!((names, patterns), (vec![OsStr::new("blog"), OsStr::new("shop-7")], true));
        assert!(CgroupIndex::default().root().is_nowhere());
    }

    /// What is in brackets is no part of the beginning or end.
    #[test]
    fn brackets_and_wildcards_at_either_end() {
        let apps =
            [("a", "d/a[*]b"), ("b", "d/[xy]z"), ("c", "d/q[1-3]"), ("e", "d/*m*"), ("f", "d/?")];
        let index = index(&apps);
        for (name, expected) in [
            ("d/a*b", "a"),
            ("d/axb", "nobody"),
            ("d/xz", "b"),
            ("d/z", "f"),
            ("d/q2", "c"),
            ("d/amb", "e"),
            ("d/m", "e|f"),
            ("d/\u{e9}", "f"),
            ("d/\u{e9}m\u{e9}", "e"),
        ] {
            assert_eq!(owner(&index, name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_step_finds_what_each_pattern_alone_would(
            patterns in prop::collection::vec("[ab*?]{1,4}", 1..12),
            name in "[ab\u{e9}]{0,4}",
        ) {
            let mut all = Patterns::default();
            let mut expected = Vec::new();
            for (number, text) in patterns.iter().enumerate() {
                let Ok(pattern) = Pattern::new(text) else { continue };
                let to = all.add(&pattern, number);
                if pattern.matches(&name) && !expected.contains(&to) {
                    expected.push(to);
                }
            }
            let mut found = Vec::new();
            all.matching(OsStr::new(&name), &mut found);
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
