//! Which cgroups are an app's: one that is named, or all that match a pattern.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use glob::Pattern;

/// A path below the cgroup v2 mount, in each of whose components `*`, `?` and `[…]` may stand for
/// other characters, as in a shell. `[*]` is a literal asterisk.
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
    /// What is wrong with a pattern in it.
    pub(super) fn parse(path: &Path) -> Result<Self, String> {
        let names = path.components().map(|name| name.as_os_str().to_string_lossy().into_owned());
        let components = names.map(Component::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: path.to_string_lossy().into_owned(), components })
    }

    /// The components, from the mount downwards.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// The path, if it is no pattern.
    pub fn path(&self) -> Option<PathBuf> {
        let name = |component: &Component| match component {
            Component::Name(name) => Some(name.clone()),
            Component::Pattern(_) => None,
        };
        self.components.iter().map(name).collect()
    }
}

/// As it stands in the table.
impl fmt::Display for Cgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Component {
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

#[cfg(test)]
mod tests {
    use super::*;

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
