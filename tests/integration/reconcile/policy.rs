//! Tables with `on-backend-removed`, and sockets that show its effect.

use crate::{
    scene::{DB, PORT, Scene, list, table},
    sockets::Sockets,
};

pub(crate) const KILL: &str = "on-backend-removed = \"kill\"";

/// A table of apps with a policy: name, cgroup, backends.
pub(crate) fn with_policy(apps: &[(&str, &str, &str)], policy: &str) -> String {
    let apps: Vec<_> =
        apps.iter().map(|(name, cgroup, list)| (*name, *cgroup, *list, "")).collect();
    table(&apps).replace("backends =", &format!("{policy}\nbackends ="))
}

/// The table of the scene's app, with a policy.
pub(crate) fn shop(scene: &Scene, backends: impl IntoIterator<Item = u8>, policy: &str) -> String {
    with_policy(&[("shop", scene.app.cgroup.relative(), &list(backends))], policy)
}

/// Opens a socket, which must connect and get an answer of this backend.
pub(crate) fn connect(sockets: &mut Sockets, name: &str, kind: &str, to: &str, backend: u8) {
    assert_eq!(sockets.call(&format!("socket {name} {kind}")), "0");
    assert_eq!(sockets.call(&format!("connect {name} {to}")), "0");
    // A TCP server sends its name once without a question.
    let question = if kind.starts_with("udp") { "ask" } else { "recv" };
    let answer = sockets.call(&format!("{question} {name}"));
    assert_eq!(answer.replace("\\n", ""), format!("\"{backend}\""), "{name}");
}

/// Whether a connected socket still works.
pub(crate) fn works(sockets: &mut Sockets, name: &str) -> bool {
    sockets.call(&format!("ask {name}")).starts_with('"')
}

/// The address of `db` for an IPv4 socket, and for an IPv6 socket.
pub(crate) fn db() -> (String, String) {
    (format!("{DB}:{PORT}"), format!("[::ffff:{DB}]:{PORT}"))
}
