//! Checks that paths and links in documents lead to existing files.

use std::collections::BTreeSet;

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use super::{tree::Source, violation::Violation};

/// Checks one document of all `documents`, in a tree that has `paths`.
pub(super) fn check(
    path: &str,
    text: &str,
    documents: &[Source],
    paths: &BTreeSet<String>,
    violations: &mut Vec<Violation>,
) {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (event, range) in Parser::new(text).into_offset_iter() {
        let line = 1 + text[..range.start].matches('\n').count();
        let mut refuse = |what: String| violations.push(Violation::new(path, line, what));
        match event {
            Event::Code(code) => {
                for word in code.split_whitespace().filter(|word| is_missing(word, paths)) {
                    refuse(format!("`{word}` does not exist: name the file that has this now"));
                }
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                if dest_url.contains(':') {
                    continue;
                }
                let (file, anchor) = dest_url.split_once('#').unwrap_or((&dest_url, ""));
                let target = if file.is_empty() { path.to_owned() } else { join(folder, file) };
                if !paths.contains(target.trim_end_matches('/')) && !target.is_empty() {
                    refuse(format!(
                        "the link to {dest_url} leads nowhere: {target} does not exist"
                    ));
                } else if let Some(document) = documents.iter().find(|other| other.path == target)
                    && !anchor.is_empty()
                    && !anchors(&document.text).contains(anchor)
                {
                    refuse(format!(
                        "the link to {dest_url} leads nowhere: {target} has no such heading"
                    ));
                }
            }
            _ => {}
        }
    }
}

/// Whether a word looks like a path of this tree, but does not exist.
fn is_missing(word: &str, paths: &BTreeSet<String>) -> bool {
    let word = word.trim_end_matches([',', ';', '.', ')', '/']).trim_start_matches("./");
    // A line of a file, or a place in a document.
    let word = word.split([':', '#']).next().unwrap_or(word);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./*{},".contains(c);
    if !word.chars().all(plain) || word.contains("//") || word.starts_with(['/', '-', '*', '{']) {
        return false;
    }
    let whole = word.split_once('/').is_some_and(|(first, _)| {
        paths.contains(first)
            && paths.range(format!("{first}/")..).next().is_some_and(|next| next.starts_with(first))
    });
    let exists = |path: &String| {
        paths.iter().any(|other| {
            if whole {
                matches(path, other)
            } else {
                // For a source file, the end of its path is enough.
                other == path
                    || other.strip_suffix(path.as_str()).is_some_and(|rest| rest.ends_with('/'))
            }
        })
    };
    (whole || word.ends_with(".rs")) && !alternatives(word).iter().all(exists)
}

/// All paths for which `a/{b,c}` stands.
fn alternatives(word: &str) -> Vec<String> {
    let Some((before, (inside, after))) =
        word.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return vec![word.to_owned()];
    };
    inside.split(',').flat_map(|one| alternatives(&format!("{before}{one}{after}"))).collect()
}

/// Whether a path matches `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((before, after)) => path.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))
        }),
    }
}

/// The path of a link, from the root.
fn join(folder: &str, link: &str) -> String {
    let mut parts: Vec<_> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors of a document: its headings, as forges write them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in Parser::new(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => anchors.extend(heading.take().map(|heading| {
                let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
                heading
                    .to_lowercase()
                    .chars()
                    .filter(kept)
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect()
            })),
            _ => {}
        }
    }
    anchors
}
