//! The `cgroup` of an app: one path, or a pattern that matches several.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use glob::Pattern;

/// A path below the cgroup v2 mount. Each component may be a pattern with `*`, `?` and `[…]`, as in a
/// shell. `[*]` is a literal asterisk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cgroups {
    text: String,
    components: Vec<Component>,
}

/// One component of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Component {
    /// Exactly this name.
    Name(String),
    /// Any name that matches.
    Pattern(Pattern),
}

impl Cgroups {
    /// Reads a path below the mount, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// The reason why a component is no valid pattern.
    pub(crate) fn parse(path: &Path) -> Result<Self, String> {
        let names = path.components().map(|name| name.as_os_str().to_string_lossy().into_owned());
        let components = names.map(Component::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: path.to_string_lossy().into_owned(), components })
    }

    /// The components, from the mount downwards.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// The path, if no component is a pattern.
    pub fn path(&self) -> Option<PathBuf> {
        let name = |component: &Component| match component {
            Component::Name(name) => Some(name.clone()),
            Component::Pattern(_) => None,
        };
        self.components.iter().map(name).collect()
    }

    /// Whether a path below the mount is one of these cgroups, or inside one.
    pub fn cover(&self, below: &Path) -> bool {
        let mut names = below.components();
        self.components.iter().all(|component| {
            let name = names.next().map(std::path::Component::as_os_str);
            name.is_some_and(|name| component.matches(name))
        })
    }
}

/// The names of the cgroups in one directory, indexed for [`Component::among`].
#[derive(Debug)]
pub struct Names {
    sorted: Vec<OsString>,
    /// Indices into `sorted`, in the order of the reversed names.
    by_end: Vec<usize>,
}

impl From<Vec<OsString>> for Names {
    fn from(mut sorted: Vec<OsString>) -> Self {
        sorted.sort_unstable();
        let mut by_end: Vec<_> = (0..sorted.len()).collect();
        by_end.sort_unstable_by(|a, b| backwards(&sorted[*a]).cmp(backwards(&sorted[*b])));
        Self { sorted, by_end }
    }
}

fn backwards(name: &OsString) -> impl Iterator<Item = &u8> {
    name.as_bytes().iter().rev()
}

/// The text in the table.
impl fmt::Display for Cgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Component {
    /// Whether this component matches a name. Names are bytes. A byte that is not part of UTF-8 counts as
    /// one character, which only `?`, `*` and `[!…]` match.
    pub fn matches(&self, name: &OsStr) -> bool {
        match self {
            Self::Name(exactly) => name == OsStr::new(exactly),
            Self::Pattern(pattern) => pattern.matches(&as_text(name)),
        }
    }

    /// The names that this component matches.
    ///
    /// Matching a pattern is slow, and thousands of patterns may search a directory of thousands of names.
    /// So a binary search first finds the names that begin or end like the pattern.
    pub fn among<'a>(&self, names: &'a Names) -> Vec<&'a OsString> {
        let (start, end) = self.ends();
        let Names { sorted, by_end } = names;
        let all: Vec<_> = if start.is_empty() && !end.is_empty() {
            let ends_before = |at: &usize| backwards(&sorted[*at]).lt(end.iter().rev());
            let first = by_end.partition_point(ends_before);
            let names = by_end[first..].iter().map(|at| &sorted[*at]);
            names.take_while(|name| name.as_bytes().ends_with(end)).collect()
        } else {
            let first = sorted.partition_point(|name| name.as_bytes() < start);
            let names = sorted[first..].iter();
            let names = names.take_while(|name| name.as_bytes().starts_with(start));
            names.filter(|name| name.as_bytes().ends_with(end)).collect()
        };
        all.into_iter().filter(|name| self.matches(name)).collect()
    }

    /// The literal beginning and end of the component, which every matching name shares.
    fn ends(&self) -> (&[u8], &[u8]) {
        match self {
            Self::Name(name) => (name.as_bytes(), name.as_bytes()),
            Self::Pattern(pattern) => {
                let text = pattern.as_str();
                let start = text.find(['*', '?', '[']).unwrap_or(text.len());
                let end = text.rfind(['*', '?', ']']).map_or(0, |at| at + 1);
                (&text.as_bytes()[..start], &text.as_bytes()[end..])
            }
        }
    }

    fn parse(text: String) -> Result<Self, String> {
        if !text.contains(['*', '?', '[']) {
            return Ok(Self::Name(text));
        }
        if text.contains("**") {
            return Err("\"**\" would match any number of levels".to_owned());
        }
        Pattern::new(&text).map(Self::Pattern).map_err(|error| error.msg.to_owned())
    }
}

/// A name as text. Each byte that is not part of UTF-8 becomes a private-use character, which patterns
/// don't contain.
pub(crate) fn as_text(name: &OsStr) -> Cow<'_, str> {
    if let Some(text) = name.to_str() {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(name.len() * 2);
    for chunk in name.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        let private = |byte: &u8| char::from_u32(0x10_ff00 + u32::from(*byte));
        text.extend(chunk.invalid().iter().filter_map(private));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_text_match_byte_by_byte() {
        let matches = |pattern: &str, name: &[u8]| {
            let pattern = Cgroups::parse(Path::new(pattern)).unwrap();
            pattern.cover(Path::new(OsStr::from_bytes(name)))
        };
        assert!(matches("shop-*", b"shop-\xff\xfe"));
        assert!(matches("shop-??", b"shop-\xff\xfe"));
        assert!(!matches("shop-?", b"shop-\xff\xfe"));
        assert!(matches("shop-?", "shop-é".as_bytes()));
        assert!(matches("*-[!0-9]x", b"\xe2\x28-\xc3x"));
        assert!(!matches("blog-*", b"shop-\xff") && !matches("shop-\u{fffd}", b"shop-\xff"));
        assert!(matches("shop-*", b"shop-\xff/inner") && !matches("shop-*/inner", b"shop-1"));
    }

    #[test]
    fn only_names_that_begin_and_end_as_a_pattern_are_compared_with_it() {
        let ends = |text: &str| {
            let component = Component::parse(text.to_owned()).unwrap();
            let (start, end) = component.ends();
            (String::from_utf8(start.to_vec()).unwrap(), String::from_utf8(end.to_vec()).unwrap())
        };
        for (pattern, start, end) in [
            ("shop-*.scope", "shop-", ".scope"),
            ("[a]17", "", "17"),
            ("[*]x", "", "x"),
            ("[]]", "", ""),
            ("a?b[!c]", "a", ""),
            ("é*ü", "é", "ü"),
            ("plain", "plain", "plain"),
        ] {
            assert_eq!(ends(pattern), (start.to_owned(), end.to_owned()), "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn names_among_others_are_those_that_match(
            pattern in "[ab*?é]{1,4}|\\*[abcé]{1,2}|[a-c]?\\[[ab!]{1,3}\\][ab*]{0,2}",
            names in proptest::collection::vec("[abcé]{1,4}", 0..20),
        ) {
            let Ok(component) = Component::parse(pattern) else {
                return Ok(());
            };
            let mut names: Vec<OsString> = names.into_iter().map(OsString::from).collect();
            names.push(OsStr::from_bytes(b"a\xffb").to_owned());
            names.sort_unstable();
            let all: Vec<_> = names.iter().filter(|name| component.matches(name)).collect();
            let sorted = Names::from(names.clone());
            let mut found = component.among(&sorted);
            found.sort_unstable();
            proptest::prop_assert_eq!(found, all);
        }
    }

    #[test]
    fn a_path_is_a_path_and_a_pattern_matches_names() {
        let path = Cgroups::parse(Path::new("shop.slice/shop")).unwrap();
        assert_eq!(path.path(), Some("shop.slice/shop".into()));
        let pattern = Cgroups::parse(Path::new("lxc/shop-[0-9]*")).unwrap();
        assert_eq!((pattern.path(), pattern.to_string()), (None, "lxc/shop-[0-9]*".to_owned()));
        let [Component::Name(lxc), Component::Pattern(shops)] = pattern.components() else {
            panic!("{pattern:?}");
        };
        assert_eq!(lxc, "lxc");
        assert!(shops.matches("shop-1") && shops.matches("shop-1.scope"));
        assert!(!shops.matches("shop-a") && !shops.matches("workshop-1"));
        assert!(Cgroups::parse(Path::new("lxc/**")).is_err());
        assert!(Cgroups::parse(Path::new("lxc/[a")).is_err());
    }
}
