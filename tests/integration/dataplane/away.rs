//! Sockets that stay open while their cgroup has no app, and their records that still count later.

use vipnat_testkit::Cgroup;

use crate::{
    scene::{DB, PORT, Scene, ip, list, table},
    sockets::Sockets,
};

/// A scene, and a second cgroup to which the app can move.
struct Away {
    scene: Scene,
    elsewhere: Cgroup,
}

impl Away {
    fn new() -> Self {
        Self { scene: Scene::new(3), elsewhere: Cgroup::new() }
    }

    /// Applies a table in which the app has a cgroup, and `db` has these backends.
    fn apply(&self, cgroup: &Cgroup, backends: &[u8]) -> String {
        let backends = list(backends.iter().copied());
        let table = table(&[("shop", cgroup.relative(), &backends, "")]);
        let kill = "on-backend-removed = \"kill\"\nbackends =";
        self.scene.vipnat.apply(&table.replace("backends =", kill))
    }

    fn home(&self) -> &Cgroup {
        &self.scene.app.cgroup
    }

    /// A TCP and a UDP socket that are connected through the VIP to backend 0.
    fn connected(&self) -> Sockets {
        let mut sockets = Sockets::of(&self.scene.app);
        for (name, kind) in [("t", "tcp4"), ("u", "udp4")] {
            assert_eq!(sockets.call(&format!("socket {name} {kind}")), "0");
            assert_eq!(sockets.call(&format!("connect {name} {DB}:{PORT}")), "0");
        }
        sockets
    }
}

#[test]
fn what_stayed_connected_while_its_app_was_away_is_shown_and_ended_as_before() {
    let away = Away::new();
    away.apply(away.home(), &[0]);
    let mut sockets = away.connected();
    away.apply(&away.elsewhere, &[0]);
    assert_eq!(sockets.call("getpeername t"), format!("{}:{PORT}", ip(0)));
    away.apply(away.home(), &[0]);
    for name in ["t", "u"] {
        assert_eq!(sockets.call(&format!("getpeername {name}")), format!("{DB}:{PORT}"));
    }
    let printed = away.apply(away.home(), &[1]);
    assert!(printed.contains("ended 2 connections"), "{printed}");
}

#[test]
fn what_went_to_another_backend_while_its_app_was_away_is_nobodys() {
    let away = Away::new();
    away.apply(away.home(), &[0]);
    let mut sockets = away.connected();
    away.apply(&away.elsewhere, &[0, 1]);
    let direct = format!("{}:{PORT}", ip(1));
    for name in ["t", "u"] {
        assert_eq!(sockets.call(&format!("connect {name} unspec")), "0");
        assert_eq!(sockets.call(&format!("connect {name} {direct}")), "0");
    }
    away.apply(away.home(), &[0, 1]);
    for name in ["t", "u"] {
        assert_eq!(sockets.call(&format!("getpeername {name}")), direct);
    }
    let printed = away.apply(away.home(), &[2]);
    assert!(!printed.contains("ended"), "{printed}");
    assert_eq!(sockets.call("ask u"), "\"1\"");
}

/// The limit of the two tests above: no hooks ran meanwhile, so they take this socket for the first one.
#[test]
fn what_went_to_the_same_backend_while_its_app_was_away_is_taken_for_a_vips() {
    let away = Away::new();
    away.apply(away.home(), &[0]);
    let mut sockets = away.connected();
    away.apply(&away.elsewhere, &[0]);
    assert_eq!(sockets.call("connect t unspec"), "0");
    assert_eq!(sockets.call(&format!("connect t {}:{PORT}", ip(0))), "0");
    away.apply(away.home(), &[0]);
    assert_eq!(sockets.call("getpeername t"), format!("{DB}:{PORT}"));
    let printed = away.apply(away.home(), &[1]);
    assert!(printed.contains("ended 2 connections"), "{printed}");
}
