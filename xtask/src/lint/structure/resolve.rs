//! Resolves a path through modules, imports and re-exports, to the module that defines the item.

use super::modules::Modules;

/// The target of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A module, or an item that it defines.
    Module(usize),
    /// An item of a crate outside the workspace, by its full path.
    Outside(Vec<String>),
    /// A local name, or a name that these rules do not know.
    Unknown,
}

/// The most re-exports that are followed, because a circle of them would have no end.
const DEPTH: usize = 16;

impl Modules<'_> {
    /// Resolves a path as a module writes it.
    pub(super) fn resolve(&self, module: usize, path: &[String]) -> Target {
        self.resolve_from(module, path, DEPTH)
    }

    fn resolve_from(&self, module: usize, path: &[String], depth: usize) -> Target {
        let Some((first, rest)) = path.split_first() else { return Target::Module(module) };
        match first.as_str() {
            "crate" => self.descend(self.root(module), rest, depth),
            "self" => self.descend(module, rest, depth),
            "super" => {
                let parent = self.modules[module].parent.unwrap_or(module);
                // Any further `super` starts from that module.
                if rest.first().is_some_and(|next| next == "super") {
                    self.resolve_from(parent, rest, depth)
                } else {
                    self.descend(parent, rest, depth)
                }
            }
            "Self" => Target::Unknown,
            _ => match self.find(module, first, depth) {
                Some((found, is_module)) => match found {
                    Target::Module(found) if is_module => self.descend(found, rest, depth),
                    Target::Outside(mut found) => {
                        found.extend_from_slice(rest);
                        Target::Outside(found)
                    }
                    found => found,
                },
                None => match self.libraries.get(first) {
                    Some(&library) => self.descend(library, rest, depth),
                    None => Target::Outside(path.to_vec()),
                },
            },
        }
    }

    /// Follows names downwards. The module at the end defines the item.
    fn descend(&self, module: usize, path: &[String], depth: usize) -> Target {
        let Some((first, rest)) = path.split_first() else { return Target::Module(module) };
        match self.find(module, first, depth) {
            Some((Target::Module(found), true)) => self.descend(found, rest, depth),
            Some((found, _)) => found,
            None => Target::Module(module),
        }
    }

    /// The target of a name in a module, and whether the name is a module's.
    fn find(&self, module: usize, name: &str, depth: usize) -> Option<(Target, bool)> {
        let depth = depth.checked_sub(1)?;
        let this = &self.modules[module];
        if let Some(&child) = this.children.get(name) {
            return Some((Target::Module(child), true));
        }
        if this.scope.names.contains(name) {
            return Some((Target::Module(module), false));
        }
        let imports = &this.scope.imports;
        let named = imports.iter().find(|import| import.alias.as_deref() == Some(name));
        if let Some(import) = named {
            let (first, rest) = import.path.split_first()?;
            // In `use name::…::name`, the first word does not refer to the name that this line imports.
            let target = if first == name {
                match self.libraries.get(name) {
                    Some(&library) => self.descend(library, rest, depth),
                    None => Target::Outside(import.path.clone()),
                }
            } else {
                self.resolve_from(module, &import.path, depth)
            };
            let is_module = match &target {
                Target::Module(found) => import.path.last() == Some(&self.modules[*found].name),
                Target::Outside(_) | Target::Unknown => false,
            };
            return Some((target, is_module));
        }
        for import in imports.iter().filter(|import| import.alias.is_none()) {
            if let Target::Module(found) = self.resolve_from(module, &import.path, depth)
                && found != module
                && let Some(found) = self.find(found, name, depth)
            {
                return Some(found);
            }
        }
        None
    }
}
