//! Circles: no file uses one that uses it, in however many steps.

use std::collections::{BTreeMap, VecDeque};

use super::{
    house::WITHOUT_CIRCLES, modules::Modules, parsed::Parsed, resolve::Target, violation::Violation,
};

/// For each file, the files that it uses, and the first line that does.
type Arrows = BTreeMap<usize, BTreeMap<usize, usize>>;

/// Finds the shortest circle of each group of files that hang together.
pub(super) fn check(modules: &Modules<'_>, violations: &mut Vec<Violation>) {
    let arrows = arrows(modules);
    let path = |file: usize| &modules.files[file].path;
    let mut seen = Vec::new();
    let mut circles: Vec<_> = arrows.keys().filter_map(|&file| way(&arrows, file, file)).collect();
    circles.sort_by_key(Vec::len);
    for circle in circles {
        if circle.iter().any(|file| seen.contains(file)) {
            continue;
        }
        // All that this circle can reach and that can reach it.
        let first = circle[0];
        let group: Vec<_> = arrows
            .keys()
            .copied()
            .filter(|&file| {
                way(&arrows, first, file).is_some() && way(&arrows, file, first).is_some()
            })
            .collect();
        let steps: Vec<_> = circle
            .iter()
            .zip(circle.iter().cycle().skip(1))
            .map(|(from, to)| format!("{}:{} uses {}", path(*from), arrows[from][to], path(*to)))
            .collect();
        let others: Vec<_> = group
            .iter()
            .filter(|file| !circle.contains(file))
            .map(|file| path(*file).as_str())
            .collect();
        let others = match others.len() {
            0 => String::new(),
            _ => format!("; in one knot with {}", others.join(", ")),
        };
        let line = arrows[&first][&circle[1 % circle.len()]];
        violations.push(Violation::new(
            path(first),
            line,
            format!(
                "circle: {}{others}: move what both need into a file of its own",
                steps.join(", ")
            ),
        ));
        seen.extend(group);
    }
}

/// Who uses whom, within one crate.
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

/// The file that a module counts to; none if that only connects others.
///
/// The tests of a file are a part of it.
fn node(modules: &Modules<'_>, module: usize) -> Option<usize> {
    let mut file = Some(modules.modules[module].file);
    if is_pass_through(&modules.files[modules.modules[module].file]) {
        file = None;
    }
    let mut at = module;
    while let Some(parent) = modules.modules[at].parent {
        let parent_file = modules.modules[parent].file;
        if modules.modules[at].name == "tests" && !is_pass_through(&modules.files[parent_file]) {
            file = Some(parent_file);
        }
        at = parent;
    }
    file
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
