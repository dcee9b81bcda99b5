//! Circles: no file uses a file that uses it in turn, in any number of steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    house::WITHOUT_CIRCLES,
    modules::{Module, Modules},
    parsed::Parsed,
    resolve::Target,
    violation::Violation,
};

/// For each file, the files that it uses, and the first line that uses each.
type Arrows = BTreeMap<usize, BTreeMap<usize, usize>>;

/// Finds circles, the shortest first, until each file in a circle has been named.
pub(super) fn check(modules: &Modules<'_>, violations: &mut Vec<Violation>) {
    let arrows = arrows(modules);
    let path = |node: usize| &modules.files[node % modules.files.len()].path;
    let mut circles: Vec<_> = arrows.keys().filter_map(|&file| way(&arrows, file, file)).collect();
    circles.sort_by_key(Vec::len);
    let mut seen = BTreeSet::new();
    for circle in circles {
        let steps = || circle.iter().copied().zip(circle.iter().copied().cycle().skip(1));
        if steps().all(|step| seen.contains(&step)) {
            continue;
        }
        seen.extend(steps());
        let words: Vec<_> = steps()
            .map(|(from, to)| format!("{}:{} uses {}", path(from), arrows[&from][&to], path(to)))
            .collect();
        let line = steps().next().map_or(1, |(from, to)| arrows[&from][&to]);
        violations.push(Violation::new(
            path(circle[0]),
            line,
            format!("circle: {}: move what both need into a file of its own", words.join(", ")),
        ));
    }
}

/// The uses between the files of one crate.
fn arrows(modules: &Modules<'_>) -> Arrows {
    let mut arrows = Arrows::new();
    for (module, this) in modules.modules.iter().enumerate() {
        let held = WITHOUT_CIRCLES.iter().any(|folder| modules.path(module).starts_with(folder));
        let Some(from) = node(modules, module).filter(|_| held) else { continue };
        for reference in &this.scope.references {
            let Target::Module(target) = modules.resolve(module, &reference.path) else { continue };
            if modules.root(target) != modules.root(module) {
                continue;
            }
            if let Some(to) = node(modules, target)
                && to != from
            {
                let line = arrows.entry(from).or_default().entry(to).or_insert(reference.line);
                *line = (*line).min(reference.line);
            }
        }
    }
    arrows
}

/// The file to which a module belongs. None if that file only connects others.
///
/// Tests inside the file under test count as a separate file. They may use files that use the file under
/// test.
fn node(modules: &Modules<'_>, module: usize) -> Option<usize> {
    let Module { file, scope, .. } = &modules.modules[module];
    if is_pass_through(&modules.files[*file]) {
        return None;
    }
    let tests = scope.inside.first().is_some_and(|name| name == "tests");
    Some(if tests { *file + modules.files.len() } else { *file })
}

/// Whether a file has no items of its own.
fn is_pass_through(file: &Parsed) -> bool {
    file.items.is_empty()
}

/// The shortest way that uses at least one arrow, without its last file.
fn way(arrows: &Arrows, from: usize, to: usize) -> Option<Vec<usize>> {
    let mut before = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        for &next in arrows.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if next == to {
                let mut way = vec![file];
                while way[way.len() - 1] != from {
                    way.push(before[&way[way.len() - 1]]);
                }
                way.reverse();
                return Some(way);
            }
            if next != from && !before.contains_key(&next) {
                before.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}
