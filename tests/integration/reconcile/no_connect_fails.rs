//! No connect fails while `apply` changes the table.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use vipnat_testkit::App;

use crate::scene::{DB, PORT, Scene, list, table};

/// Applies each table in turn, over and over, while two apps connect all the time. No connect may
/// fail, and each must show the VIP.
fn no_connect_fails(scene: &Scene, apps: &[&App], tables: &[String]) {
    scene.vipnat.apply(&tables[0]);
    let changing = AtomicBool::new(true);
    thread::scope(|scope| {
        let connecting: Vec<_> = apps
            .iter()
            .map(|app| {
                scope.spawn(|| {
                    let mut connections = 0;
                    while changing.load(Ordering::Relaxed) {
                        let probe = format!("tcp {DB}:{PORT} --threads 2 --count 100");
                        for report in app.probes(&probe) {
                            let seen = (report.ok, report.peer());
                            assert_eq!(seen, (true, format!("{DB}:{PORT}").as_str()), "{report:?}");
                            connections += 1;
                        }
                    }
                    connections
                })
            })
            .collect();
        let changes = catch_unwind(AssertUnwindSafe(|| {
            for table in tables.iter().cycle().take(24) {
                scene.vipnat.apply(table);
            }
        }));
        changing.store(false, Ordering::Relaxed);
        for app in connecting {
            assert!(app.join().unwrap() >= 200);
        }
        changes.unwrap();
    });
}

#[test]
fn no_connect_fails_while_backends_and_limits_change() {
    let scene = Scene::new(4);
    let mut tables: Vec<_> =
        [list([0, 1]), list([2]), list([3, 1, 2])].map(|backends| scene.table(&backends)).into();
    tables.push(scene.table_with(&list([0]), &format!("port = {PORT}")));
    no_connect_fails(&scene, &[&scene.app], &tables);
}

#[test]
fn no_connect_fails_while_an_app_is_renamed() {
    let scene = Scene::new(2);
    let cgroup = scene.app.cgroup.relative();
    let tables = ["shop", "store"].map(|app| table(&[(app, cgroup, &list([0, 1]), "")]));
    no_connect_fails(&scene, &[&scene.app], &tables);
}

#[test]
fn no_connect_fails_while_apps_exchange_their_cgroups() {
    let scene = Scene::new(2);
    let other = App::new(scene.app.host.clone());
    let (first, second) = (scene.app.cgroup.relative(), other.cgroup.relative());
    let tables = [(first, second), (second, first)].map(|(shop, blog)| {
        table(&[("shop", shop, &list([0]), ""), ("blog", blog, &list([1]), "")])
    });
    no_connect_fails(&scene, &[&scene.app, &other], &tables);
}
