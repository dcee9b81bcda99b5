//! Finds the app of a cgroup among the paths and patterns of a whole table.
//!
//! It is a tree of path components. A [`Position`] is the set of nodes that one directory of the cgroup
//! hierarchy matches. A step down looks the name up, and then its beginning and its end, once for each
//! length that patterns of this directory have. Only patterns that begin and end with a wildcard are tried
//! one by one.
//!
//! A library such as globset would not do: it matches whole paths. The watcher has to know, for a directory
//! alone, which names in it matter and whether any pattern can match below it ([`CgroupIndex::names`],
//! [`CgroupIndex::leads_on`]).

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    path::Path,
};

use glob::Pattern;

use super::{
    cgroups::{Cgroups, Component, as_text},
    table::Table,
};

/// The paths and patterns of all apps of a table.
#[derive(Debug)]
pub struct CgroupIndex {
    nodes: Vec<Node>,
    /// Nodes that are not used.
    free: Vec<usize>,
    /// The path or pattern of each app, and its node.
    apps: HashMap<String, (Cgroups, usize)>,
}

/// One component: the components below it, and the apps whose path or pattern ends here.
#[derive(Debug, Default)]
struct Node {
    /// The node above, and this component; `None` for the root.
    above: Option<(usize, Component)>,
    names: HashMap<OsString, usize>,
    patterns: Patterns,
    /// The apps whose path or pattern ends here, by name; `true` for a path.
    apps: Vec<(String, bool)>,
}

/// The patterns below one node, each with its node.
#[derive(Debug, Default)]
struct Patterns {
    /// By the length of their literal beginning, and by that beginning.
    by_beginning: ByPart,
    /// Those that begin with a wildcard, by their literal end, which may be empty.
    by_end: ByPart,
}

/// Patterns by the length of a literal part of them, and by that part.
type ByPart = BTreeMap<usize, HashMap<Vec<u8>, Vec<(Pattern, usize)>>>;

/// The nodes of the index that a cgroup matches. Empty: the table has nothing there. It means nothing after a
/// change of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(Vec<usize>);

/// The app that a table gives a cgroup to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// No path and no pattern matches the cgroup.
    Nobody,
    /// One app has it.
    App {
        /// Its name.
        name: String,
        /// Whether a path names the cgroup, not a pattern.
        named: bool,
    },
    /// Patterns of these apps match it, so none of them gets it.
    Contested(Vec<String>),
}

impl Default for CgroupIndex {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new(), apps: HashMap::new() }
    }
}

impl CgroupIndex {
    /// The index of a table.
    pub fn of(table: &Table) -> Self {
        let mut index = Self::default();
        for (name, app) in &table.apps {
            if let Some(cgroups) = &app.cgroup {
                index.insert(name, cgroups);
            }
        }
        index
    }

    /// Gives an app another path or pattern, or none. Returns the one that it had. This costs as much as the
    /// app alone.
    pub fn change(&mut self, app: &str, cgroups: Option<&Cgroups>) -> Option<Cgroups> {
        let before = self.remove(app);
        if let Some(cgroups) = cgroups {
            self.insert(app, cgroups);
        }
        before
    }

    fn insert(&mut self, app: &str, cgroups: &Cgroups) {
        let mut at = 0;
        for component in cgroups.components() {
            at = self.add(at, component);
        }
        self.nodes[at].apps.push((app.to_owned(), cgroups.path().is_some()));
        self.apps.insert(app.to_owned(), (cgroups.clone(), at));
    }

    fn remove(&mut self, app: &str) -> Option<Cgroups> {
        let (cgroups, mut at) = self.apps.remove(app)?;
        self.nodes[at].apps.retain(|(name, _)| name != app);
        while self.nodes[at].is_empty()
            && let Some((above, component)) = self.nodes[at].above.take()
        {
            self.nodes[above].remove(&component);
            self.free.push(at);
            at = above;
        }
        Some(cgroups)
    }

    fn add(&mut self, at: usize, component: &Component) -> usize {
        let new = self.free.last().copied().unwrap_or(self.nodes.len());
        let node = &mut self.nodes[at];
        let found = match component {
            Component::Name(name) => *node.names.entry(name.into()).or_insert(new),
            Component::Pattern(pattern) => node.patterns.add(pattern, new),
        };
        if found == new {
            let node = Node { above: Some((at, component.clone())), ..Node::default() };
            match self.free.pop() {
                Some(free) => self.nodes[free] = node,
                None => self.nodes.push(node),
            }
        }
        found
    }

    /// The position of the mount point.
    pub fn root(&self) -> Position {
        Position(vec![0])
    }

    /// The position of a cgroup, by its path below the mount point.
    pub fn at(&self, below: &Path) -> Position {
        below.iter().fold(self.root(), |at, name| self.step(&at, name))
    }

    /// The position of a child cgroup with this name.
    pub fn step(&self, at: &Position, name: &OsStr) -> Position {
        let mut to = Vec::new();
        for node in at.0.iter().map(|at| &self.nodes[*at]) {
            to.extend(node.names.get(name));
            node.patterns.matching(name, &mut to);
        }
        Position(to)
    }

    /// The names that paths have below a position, and whether there are patterns as well.
    pub fn names<'a>(&'a self, at: &'a Position) -> (impl Iterator<Item = &'a OsStr>, bool) {
        let nodes = at.0.iter().map(|at| &self.nodes[*at]);
        let patterns = nodes.clone().any(|node| !node.patterns.is_empty());
        (nodes.flat_map(|node| node.names.keys().map(OsString::as_os_str)), patterns)
    }

    /// Whether the table has anything below a position.
    pub fn leads_on(&self, at: &Position) -> bool {
        let mut nodes = at.0.iter().map(|at| &self.nodes[*at]);
        nodes.any(|node| !node.names.is_empty() || !node.patterns.is_empty())
    }

    /// Whether any app has or claims a cgroup.
    pub fn is_owned(&self, at: &Position) -> bool {
        at.0.iter().any(|at| !self.nodes[*at].apps.is_empty())
    }

    /// The app of a cgroup. A path takes precedence over all patterns.
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
    /// Whether the table has nothing here.
    pub fn is_nowhere(&self) -> bool {
        self.0.is_empty()
    }
}

impl Node {
    /// Whether no app needs it.
    fn is_empty(&self) -> bool {
        let Self { above: _, names, patterns, apps } = self;
        names.is_empty() && patterns.is_empty() && apps.is_empty()
    }

    fn remove(&mut self, component: &Component) {
        match component {
            Component::Name(name) => drop(self.names.remove(OsStr::new(name))),
            Component::Pattern(pattern) => self.patterns.remove(pattern),
        }
    }
}

impl Patterns {
    fn is_empty(&self) -> bool {
        self.by_beginning.is_empty() && self.by_end.is_empty()
    }

    /// The map for a pattern, and its key there.
    fn place<'a>(&mut self, pattern: &'a Pattern) -> (&mut ByPart, &'a [u8]) {
        let text = pattern.as_str().as_bytes();
        let wild = |byte: &u8| b"*?[]".contains(byte);
        let beginning = &text[..text.iter().position(wild).unwrap_or(text.len())];
        let end = &text[text.iter().rposition(wild).map_or(0, |last| last + 1)..];
        if beginning.is_empty() {
            (&mut self.by_end, end)
        } else {
            (&mut self.by_beginning, beginning)
        }
    }

    /// Adds a pattern with its node, unless it is there already. Returns the node of the pattern.
    fn add(&mut self, pattern: &Pattern, to: usize) -> usize {
        let (map, part) = self.place(pattern);
        let same = map.entry(part.len()).or_default().entry(part.to_owned()).or_default();
        if let Some((_, known)) = same.iter().find(|(known, _)| known == pattern) {
            return *known;
        }
        same.push((pattern.clone(), to));
        to
    }

    /// Removes a pattern.
    fn remove(&mut self, pattern: &Pattern) {
        let (map, part) = self.place(pattern);
        let Some(parts) = map.get_mut(&part.len()) else {
            return;
        };
        if let Some(same) = parts.get_mut(part) {
            same.retain(|(known, _)| known != pattern);
            if same.is_empty() {
                parts.remove(part);
            }
        }
        if parts.is_empty() {
            map.remove(&part.len());
        }
    }

    /// Adds the nodes of all patterns that match a name.
    fn matching(&self, name: &OsStr, to: &mut Vec<usize>) {
        if self.is_empty() {
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
        for (pattern, leads) in beginnings.chain(ends).flatten() {
            if pattern.matches(&name) {
                to.push(*leads);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(apps: &[(&str, &str)]) -> CgroupIndex {
        let app = |(name, cgroup): &(&str, &str)| format!("[apps.{name}]\ncgroup = \"{cgroup}\"\n");
        let text: String = apps.iter().map(app).collect();
        let table = Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup"));
        CgroupIndex::of(&table.unwrap())
    }

    fn at(index: &CgroupIndex, path: &str) -> Position {
        index.at(Path::new(path))
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
        let none = CgroupIndex::default();
        assert!(
            !none.leads_on(&none.root()) && none.step(&none.root(), OsStr::new("lxc")).is_nowhere()
        );
    }

    /// The literal beginning or end of a pattern does not include brackets.
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

    /// Each path of up to three of these names.
    fn all_paths() -> Vec<String> {
        let names = ["a", "b", "ab", "ba"];
        let deeper = |path: &String| names.map(|name| format!("{path}/{name}"));
        let first: Vec<_> = names.iter().map(ToString::to_string).collect();
        let second: Vec<_> = first.iter().flat_map(deeper).collect();
        let third: Vec<_> = second.iter().flat_map(deeper).collect();
        [vec![String::new()], first, second, third].concat()
    }

    /// All that an index says about each path.
    fn answers(index: &CgroupIndex) -> Vec<(String, bool, bool, Vec<OsString>, bool)> {
        let paths = all_paths().into_iter().map(|path| {
            let at = at(index, &path);
            let (names, patterns) = index.names(&at);
            let mut names: Vec<_> = names.map(OsStr::to_owned).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(index.is_owned(&at), index.owner(&at) != Owner::Nobody, "{path}");
            let owner = owner(index, &path);
            (owner, at.is_nowhere(), index.leads_on(&at), names, patterns)
        });
        paths.collect()
    }

    proptest! {
        #[test]
        fn a_changed_index_is_as_one_that_is_made_anew(
            changes in prop::collection::vec(
                (0..5_usize, prop::option::of("[ab*?]{1,2}(/[ab*?]{1,2}){0,2}")),
                1..16,
            ),
        ) {
            let mut changed = CgroupIndex::default();
            let mut apps = BTreeMap::new();
            for (number, cgroup) in changes {
                let name = format!("app{number}");
                let parse = |text: &String| Cgroups::parse(Path::new(text));
                let cgroups = cgroup.as_ref().map(parse).transpose();
                // `**` is no valid pattern.
                let Ok(cgroups) = cgroups else { continue };
                let before = changed.change(&name, cgroups.as_ref());
                prop_assert_eq!(before, apps.remove(&name));
                apps.extend(cgroups.map(|cgroups| (name, cgroups)));
                let mut anew = CgroupIndex::default();
                apps.iter().for_each(|(name, cgroups)| anew.insert(name, cgroups));
                prop_assert_eq!(answers(&changed), answers(&anew));
                prop_assert_eq!(changed.nodes.len() - changed.free.len(), anew.nodes.len());
            }
        }

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
