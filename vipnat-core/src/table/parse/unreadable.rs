//! Messages about documents that serde refuses.

use super::endpoint::NUMBER;
use crate::{
    table::{error::Problem, key_path::KeyPath},
    text::may_be_secret,
};

/// A table whose text or shape is wrong. What follows cannot be read, so this is the only problem.
pub(crate) fn not_read(path: &str, reason: &str, (line, column): (usize, usize)) -> Problem {
    // serde_json repeats the position, toml explains itself on more lines.
    let reason = reason.split(" at line ").next().unwrap_or(reason).replace('\n', ", ");
    // serde's words for what has others in TOML and JSON.
    let words = [
        ("type: sequence", "type: a list"),
        ("type: map", "type: a table"),
        ("type: number", "type: a number"),
        ("a sequence", "a list"),
        ("a map", "a table"),
        ("i64", "a whole number"),
    ];
    let reason = words.iter().fold(reason, |reason, (serde, ours)| reason.replace(serde, ours));
    let reason = without_key(without_value(reason));
    let help = if reason.contains("duplicate") {
        "a key or table can stand only once; merge it with the other"
    } else if reason.contains("overflowed") || reason.contains("out of range") {
        "use a smaller number; in an endpoint, a table in JSON can have any"
    } else if reason.starts_with("unknown field") {
        "correct the key, or remove it"
    } else if reason.starts_with("missing field") {
        "add it"
    } else if reason.starts_with("invalid") && reason.contains("expected") {
        "write what is expected; docs/table.md describes every key"
    } else {
        "the text breaks off being TOML or JSON here; look for a missing quote, bracket or comma"
    };
    // "." and "?" are how the root and what has no name yet are written.
    let path = path.trim_end_matches(['.', '?']);
    // Nor is the key that serde_json makes of a number one that somebody wrote.
    let path = path.strip_suffix(NUMBER).and_then(|path| path.strip_suffix('.')).unwrap_or(path);
    Problem::new(
        if path.is_empty() { KeyPath::default() } else { KeyPath::keys(&[path]) },
        reason,
        help,
    )
    .at(line, column)
}

/// A reason without the value that it is about: that may be a connection string with its password, or a
/// password of digits, at a place where none belongs.
fn without_value(reason: String) -> String {
    for (kind, expected, what) in [
        ("string \"", "\", expected ", "a string"),
        ("integer `", "`, expected ", "a number"),
        ("floating point `", "`, expected ", "a number"),
        ("boolean `", "`, expected ", "a boolean"),
    ] {
        if let (Some(start), Some(end)) = (reason.find(kind), reason.rfind(expected))
            && start < end
        {
            return format!("{}{what}{}", &reason[..start], &reason[end + 1..]);
        }
    }
    reason
}

/// A reason without the key that it is about, if that looks like a connection string.
fn without_key(reason: String) -> String {
    let (before, after) = ("unknown field `", "`, expected ");
    match (reason.find(before), reason.rfind(after)) {
        (Some(start), Some(end)) if may_be_secret(&reason[start + before.len()..end]) => {
            format!("unknown field{}", &reason[end + 1..])
        }
        _ => reason,
    }
}
