//! What a task tells about its progress.

/// Says which part of a task starts now.
pub(crate) fn stage(name: &str) {
    println!("==> {name}");
}

/// Says what happens inside a part.
pub(crate) fn say(part: &str, what: &str) {
    println!("{part}: {what}");
}
