//! The modules of all crates, connected by their `mod` lines.

use std::collections::{BTreeMap, HashMap};

use super::parsed::{Parsed, Scope};

/// All modules of all crates.
pub(super) struct Modules<'a> {
    pub(super) files: &'a [Parsed],
    pub(super) modules: Vec<Module<'a>>,
    /// The library of each name.
    pub(super) libraries: BTreeMap<String, usize>,
    /// Whether a file has a module yet. A file that no `mod` line names is the root of a crate.
    seen: Vec<bool>,
}

/// A module, in its own file or inside another's.
pub(super) struct Module<'a> {
    pub(super) file: usize,
    pub(super) scope: &'a Scope,
    pub(super) name: String,
    pub(super) parent: Option<usize>,
    pub(super) children: HashMap<String, usize>,
}

impl<'a> Modules<'a> {
    /// Connects all files.
    pub(super) fn new(files: &'a [Parsed]) -> Self {
        let paths: HashMap<_, _> =
            files.iter().enumerate().map(|(file, parsed)| (parsed.path.as_str(), file)).collect();
        let mut this = Self {
            files,
            modules: Vec::new(),
            libraries: BTreeMap::new(),
            seen: vec![false; files.len()],
        };
        // Files with the name of a root come first. Then the files of each folder come before those of its
        // subfolders.
        let mut order: Vec<_> = (0..files.len()).collect();
        order.sort_by_key(|file| {
            let path = &files[*file].path;
            (!is_root(path), path.matches('/').count(), path)
        });
        for file in order {
            if !this.seen[file] {
                let root = this.add_file(file, None, String::new(), &paths);
                if let Some(folder) = files[file].path.strip_suffix("/src/lib.rs") {
                    let name = folder.rsplit('/').next().unwrap_or(folder).replace('-', "_");
                    this.libraries.insert(name, root);
                }
            }
        }
        this
    }

    /// The module that is the root of the crate.
    pub(super) fn root(&self, mut module: usize) -> usize {
        while let Some(parent) = self.modules[module].parent {
            module = parent;
        }
        module
    }

    /// The path of a module's file.
    pub(super) fn path(&self, module: usize) -> &'a str {
        &self.files[self.modules[module].file].path
    }

    fn add_file(
        &mut self,
        file: usize,
        parent: Option<usize>,
        name: String,
        paths: &HashMap<&str, usize>,
    ) -> usize {
        let parsed = &self.files[file];
        let own = self.modules.len();
        self.seen[file] = true;
        let folder = folder_of_children(&parsed.path, parent.is_none());
        let mut inside = HashMap::new();
        for scope in &parsed.scopes {
            let outer = scope.inside.split_last().map(|(_, outer)| inside[outer]);
            let name = scope.inside.last().cloned().unwrap_or_else(|| name.clone());
            let module = self.modules.len();
            self.modules.push(Module {
                file,
                scope,
                name: name.clone(),
                parent: outer.or(parent),
                children: HashMap::new(),
            });
            inside.insert(&scope.inside[..], module);
            if let Some(outer) = outer {
                self.modules[outer].children.insert(name, module);
            }
            let folder: String =
                [&folder].into_iter().chain(&scope.inside).map(|name| format!("{name}/")).collect();
            for child in &scope.children {
                let places = [format!("{folder}{child}.rs"), format!("{folder}{child}/mod.rs")];
                let found = places.iter().find_map(|place| paths.get(place.as_str()));
                if let Some(&found) = found
                    && !self.seen[found]
                {
                    let added = self.add_file(found, Some(module), child.clone(), paths);
                    self.modules[module].children.insert(child.clone(), added);
                }
            }
        }
        own
    }
}

/// Whether a file is the root of a crate, by its name.
fn is_root(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["lib.rs", "main.rs"].contains(&name) || name == "build.rs" && !path.contains("/src/")
}

/// The folder with the modules that a file declares.
fn folder_of_children(path: &str, is_root: bool) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    if is_root || name == "mod.rs" {
        folder.to_owned()
    } else {
        format!("{folder}/{}", name.trim_end_matches(".rs"))
    }
}
