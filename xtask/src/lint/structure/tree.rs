//! The files of a workspace: the text of those that are judged, and the paths of all.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};

use super::house::is_document;

/// A file that is judged.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The path, relative to the root of the workspace.
    pub(super) path: String,
    pub(super) text: String,
}

/// All data for the rules.
#[derive(Default)]
pub(super) struct Tree {
    /// Rust sources.
    pub(super) sources: Vec<Source>,
    /// Documents, as Markdown.
    pub(super) documents: Vec<Source>,
    /// Every file and every folder.
    pub(super) paths: BTreeSet<String>,
}

impl Tree {
    /// Reads the tree below `root`, without `.git` and the files that cargo builds.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    /// Adds one file, and the folders that lead to it.
    pub(super) fn add(&mut self, path: &str, text: impl FnOnce() -> Result<String>) -> Result<()> {
        for (end, _) in path.match_indices('/') {
            self.paths.insert(path[..end].to_owned());
        }
        self.paths.insert(path.to_owned());
        let list = if path.ends_with(".rs") {
            &mut self.sources
        } else if is_document(path) {
            &mut self.documents
        } else {
            return Ok(());
        };
        list.push(Source { path: path.to_owned(), text: text()? });
        Ok(())
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let context = || format!("reading {}", folder.display());
        let mut entries: Vec<_> =
            fs::read_dir(folder).and_then(Iterator::collect).with_context(context)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        // Cargo marks the folders in which it builds.
        if entries.iter().any(|entry| entry.file_name() == "CACHEDIR.TAG") {
            return Ok(());
        }
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if entry.file_type().with_context(context)?.is_dir() {
                if name != ".git" && path != "target" {
                    self.read_folder(&entry.path(), &format!("{path}/"))?;
                }
            } else {
                self.add(&path, || {
                    let file = entry.path();
                    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
                })?;
            }
        }
        Ok(())
    }
}
