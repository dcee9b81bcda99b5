//! Layers: imports point left, and name the layer from which they come.

use super::{
    house::{CONNECTORS, CORE, IMPURE, LAST, LAYERED, LAYERS, MAIN, layer_of},
    modules::Modules,
    parsed::{Parsed, Reference},
    resolve::Target,
    violation::Violation,
};

/// Checks each path that a file names, and that each file has a layer.
pub(super) fn check(modules: &Modules<'_>, violations: &mut Vec<Violation>) {
    for (module, this) in modules.modules.iter().enumerate() {
        let path = &modules.files[this.file].path;
        for reference in &this.scope.references {
            let what = match modules.resolve(module, &reference.path) {
                Target::Module(target) => arrow(path, modules.path(target), reference),
                Target::Outside(full) if path.starts_with(CORE) => impure(&full),
                Target::Outside(_) | Target::Unknown => None,
            };
            violations.extend(what.map(|what| Violation::new(path, reference.line, what)));
        }
    }
    for Parsed { path, .. } in modules.files {
        let in_layer = layer_of(path).is_some() || CONNECTORS.contains(&path.as_str());
        if path.starts_with(LAYERED) && !in_layer {
            violations.push(Violation::new(
                path,
                1,
                "belongs to no layer: move it into the folder of one, see xtask/src/lint/structure/house.rs",
            ));
        }
    }
}

/// The rule that an import breaks, if any.
fn arrow(from: &str, to: &str, Reference { path, .. }: &Reference) -> Option<String> {
    let target = layer_of(to)?;
    let to = LAYERS[target].name;
    let Some(source) = layer_of(from) else {
        let refused = to == LAST && !CONNECTORS.contains(&from);
        return refused.then(|| {
            format!("only {MAIN} may import {LAST}: move the shared part into a layer before it")
        });
    };
    if source < target {
        return Some(format!(
            "{} may not import {to}: move what both need into {} or a layer before it, or pass it \
             in as an argument",
            LAYERS[source].name, LAYERS[source].name
        ));
    }
    let inside = matches!(path[0].as_str(), "crate" | "self" | "super");
    if source != target
        && inside
        && (path[0] != "crate" || path.get(1).is_none_or(|name| name != to))
    {
        return Some(format!(
            "across layers, write `crate::{to}::…` instead of `{}`",
            path.join("::")
        ));
    }
    None
}

/// The rule that the core breaks by naming something outside the workspace, if any.
fn impure(full: &[String]) -> Option<String> {
    let full = full.join("::");
    let named = IMPURE.iter().find(|path| {
        full.strip_prefix(**path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })?;
    Some(format!(
        "vipnat-core may not use {named}, since it builds and tests on any machine: pass what it \
         gives in as an argument"
    ))
}
