//! Progress messages of the tasks.

/// Announces the next part of a task.
pub(crate) fn stage(name: &str) {
    println!("==> {name}");
}

/// Reports a step inside a part.
pub(crate) fn say(part: &str, what: &str) {
    println!("{part}: {what}");
}
