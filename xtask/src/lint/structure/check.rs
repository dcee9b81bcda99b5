//! All rules, over the files of a workspace.

use std::path::Path;

use anyhow::{Result, bail};

use super::{
    circles, documents, files, layers,
    modules::Modules,
    parsed::Parsed,
    tree::{Source, Tree},
    violation::Violation,
};

/// Checks the tree below `root`, and fails if a place breaks a rule.
pub(in crate::lint) fn check_tree(root: &Path) -> Result<()> {
    let violations = check(&Tree::read(root)?);
    if violations.is_empty() {
        return Ok(());
    }
    violations.iter().for_each(|violation| eprintln!("{violation}"));
    bail!("{} places break the rules of the tree", violations.len());
}

/// Every place that breaks a rule, sorted.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Tree { sources, documents: texts, paths } = tree;
    let mut violations = Vec::new();
    let mut parsed = Vec::new();
    for source in sources {
        files::check_header(source, &mut violations);
        match Parsed::new(source) {
            Ok(file) => parsed.push(file),
            Err(violation) => violations.push(violation),
        }
    }
    for file in &parsed {
        files::check(file, &mut violations);
    }
    let modules = Modules::new(&parsed);
    layers::check(&modules, &mut violations);
    circles::check(&modules, &mut violations);
    for Source { path, text } in texts {
        documents::check(path, text, texts, paths, &mut violations);
    }
    violations.sort();
    violations.dedup();
    violations
}
