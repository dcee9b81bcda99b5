//! What many cases start with: a table, and a process that plays a script.

use crate::{Container, Record, db};

/// Plays a script in a process of a container whose `db` has these backends.
pub(super) fn play(container: &Container, record: &mut Record, backends: &[u8], script: &str) {
    container.apply(&db(backends));
    container.session().play(script, record);
}

/// A table in which `db` is backend 1 and `cache` is backend 2.
pub(super) fn two_services() -> String {
    let cache = "[services.cache]\nbackends = [\"247.221.81.2\"]\n\
                 [apps.app.relationships.cache]\nservice = \"cache\"\n";
    db(&[1]) + cache
}
