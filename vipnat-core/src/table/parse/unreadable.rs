//! Turns errors of serde into messages in the words of TOML and JSON, without secrets.

use super::endpoint::NUMBER;
use crate::{
    table::{error::Problem, key_path::KeyPath},
    text::may_be_secret,
};

/// The problem for a text that serde refuses. The rest is not read, so this is the only problem.
pub(crate) fn not_read(path: &str, reason: &str, (line, column): (usize, usize)) -> Problem {
    // serde_json repeats the position; toml explains on further lines.
    let reason = reason.split(" at line ").next().unwrap_or(reason).replace('\n', ", ");
    // Replaces words of serde by those of TOML and JSON.
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
        "syntax error here; look for a missing quote, bracket or comma"
    };
    // serde_path_to_error writes "." for the root and "?" for a key that is not yet known.
    let path = path.trim_end_matches(['.', '?']);
    // serde_json makes a private key of a number, which is not in the text.
    let path = path.strip_suffix(NUMBER).and_then(|path| path.strip_suffix('.')).unwrap_or(path);
    Problem::new(
        if path.is_empty() { KeyPath::default() } else { KeyPath::keys(&[path]) },
        reason,
        help,
    )
    .at(line, column)
}

/// Removes the value from a reason. A misplaced value may be a connection string with a password, or a
/// password of digits.
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

/// Removes the key from a reason, if it looks like a connection string.
fn without_key(reason: String) -> String {
    let (before, after) = ("unknown field `", "`, expected ");
    match (reason.find(before), reason.rfind(after)) {
        (Some(start), Some(end)) if may_be_secret(&reason[start + before.len()..end]) => {
            format!("unknown field{}", &reason[end + 1..])
        }
        _ => reason,
    }
}
