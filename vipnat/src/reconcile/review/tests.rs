//! Damages the links of a real state, which only root can make. Without that, the tests do nothing.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::programs::CgroupAttachMode;
use vipnat_common::{AppId, hooks::HOOKS};
use vipnat_core::table::Table;

use super::{LinkFault, LinkReview, ReviewedLinks};
use crate::{
    kernel::{
        bpf_syscall, cgroup::Tree, hook_query, maps::Switch, pinned_programs::open_program,
        pins::PROGRAMS,
    },
    reconcile::{CgroupHolders, MissingCgroup, Session, context::Context},
    state::state_dir::StateDir,
};

/// The number of apps. Each has a cgroup of its own.
const APPS: u64 = 3;

/// Longer than a tick of any kernel.
const TICK: Duration = Duration::from_millis(12);

/// A state, and the cgroups that it is attached to.
struct Scene {
    state: PathBuf,
    session: Session,
    table: Table,
    cgroups: PathBuf,
    holders: CgroupHolders,
}

impl Scene {
    fn new(name: &str) -> Option<Self> {
        let name = format!("vipnat-review-{name}-{}", std::process::id());
        let tree = Tree::find().ok()?;
        let (state, cgroups) = (Path::new("/sys/fs/bpf").join(&name), tree.mount().join(&name));
        fs::create_dir(&cgroups).ok()?;
        let mut text = "[services.s]\nbackends = [\"247.0.0.1\"]\n".to_owned();
        for app in 0..APPS {
            fs::create_dir(cgroups.join(format!("a{app}"))).ok()?;
            text += &format!("[apps.a{app}]\ncgroup = \"{name}/a{app}\"\n");
            text += &format!("[apps.a{app}.relationships.r]\nservice = \"s\"\n");
        }
        text += &format!("[apps.pattern]\ncgroup = \"{name}/p-*\"\n");
        let table = Table::parse(text.as_bytes(), "table", tree.mount()).unwrap();
        let session = Session::new(&state);
        let holders = CgroupHolders::default();
        let mut scene = Self { state, session, table, cgroups, holders };
        if let Err(error) = scene.session.apply(&scene.table, MissingCgroup::Wait) {
            eprintln!("nothing is tested: {error}");
            return None;
        }
        scene.apply();
        Some(scene)
    }

    /// Repairs all damage, and looks at everything again.
    fn apply(&mut self) {
        let applied = self.session.apply(&self.table, MissingCgroup::Wait).unwrap();
        assert!(applied.failed.is_empty(), "{:?}", applied.failed);
        self.holders = CgroupHolders::read(&Context::new(&self.state)).unwrap();
        let tree = Tree::find().unwrap();
        for entry in fs::read_dir(&self.cgroups).unwrap().flatten() {
            let below = tree.below(&entry.path()).unwrap().to_owned();
            if let Ok(Some(id)) = tree.id(&below) {
                self.holders.place(id, &below);
            }
        }
        thread::sleep(TICK);
        self.is_right("after an apply");
    }

    fn round(&mut self) -> ReviewedLinks {
        let (mut review, mut all) = (LinkReview::default(), ReviewedLinks::default());
        while !all.done {
            let part = self.session.review_links(&mut self.holders, &mut review).unwrap();
            let ReviewedLinks { done, differences, needs_apply, changes, by_hand, gone } = part;
            all.done = done;
            all.differences.extend(differences);
            all.needs_apply |= needs_apply;
            all.changes.extend(changes);
            all.by_hand.extend(by_hand);
            all.gone.extend(gone);
        }
        all
    }

    #[track_caller]
    fn is_right(&mut self, context: &str) {
        let reviewed = self.round();
        assert_eq!(reviewed, ReviewedLinks { done: true, ..Default::default() }, "{context}");
    }

    /// A round finds just this damage to app a1; an apply repairs it.
    #[track_caller]
    fn finds(&mut self, faults: &[LinkFault], damage: impl FnOnce(&Self)) {
        damage(self);
        let reviewed = self.round();
        let found = reviewed.differences.iter().map(|found| (found.app.as_str(), found.fault));
        let expected: Vec<_> = faults.iter().map(|fault| ("a1", *fault)).collect();
        assert_eq!(found.collect::<Vec<_>>(), expected, "{reviewed:?}");
        assert_eq!((reviewed.needs_apply, reviewed.changes.len()), (false, 0));
        self.apply();
    }

    fn cgroup(&self, name: &str) -> (PathBuf, u64) {
        let path = self.cgroups.join(name);
        let tree = Tree::find().unwrap();
        let id = tree.id(tree.below(&path).unwrap()).unwrap().unwrap();
        (path, id)
    }

    fn app(&self, name: &str) -> (AppId, PathBuf) {
        let app_id = self.holders.id(name).unwrap();
        (app_id, self.state.join("apps").join(format!("{app_id}:{name}")))
    }

    /// The directory of the links of an app that has one cgroup, which has the same name.
    fn links(&self, name: &str) -> PathBuf {
        self.app(name).1.join(self.cgroup(name).1.to_string())
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.links(name).join("connect4")
    }

    /// Attaches the program of a hook to a cgroup, until the value is dropped.
    fn attach(&self, hook: &str, cgroup: &Path) -> impl Drop + use<> {
        struct Attached(aya::programs::CgroupSockAddr);
        impl Drop for Attached {
            fn drop(&mut self) {
                let _ = self.0.unload();
            }
        }
        let mut program = open_program(&self.state, hook).unwrap();
        program.attach(File::open(cgroup).unwrap(), CgroupAttachMode::Single).unwrap();
        Attached(program)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.session.flush();
        for entry in fs::read_dir(&self.cgroups).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.cgroups);
    }
}

#[test]
fn what_is_as_it_was_is_not_read_again_and_the_state_is_not_locked() {
    let Some(mut scene) = Scene::new("calm") else {
        return;
    };
    scene.is_right("stamps and programs are known now");
    let _locked = StateDir::open(&scene.state).unwrap().unwrap();
    scene.is_right("this would wait for the lock");
}

#[test]
fn each_change_by_foreign_hands_is_found() {
    let (Some(mut scene), Some(other)) = (Scene::new("damage"), Scene::new("other")) else {
        return;
    };
    scene.finds(&[LinkFault::Detached], |scene| fs::remove_file(scene.pin("a1")).unwrap());
    scene.finds(&[LinkFault::Detached], |scene| {
        hook_query::detach_pinned_link(&scene.pin("a1")).unwrap();
    });
    scene.finds(&[LinkFault::Detached], |scene| {
        // The link of another hook.
        fs::remove_file(scene.pin("a1")).unwrap();
        fs::rename(scene.links("a1").join("sendmsg4"), scene.pin("a1")).unwrap();
    });
    scene.finds(&[LinkFault::UnexpectedDirectory, LinkFault::Detached], |scene| {
        fs::rename(scene.links("a1"), scene.app("a1").1.join("7")).unwrap();
    });
    scene.finds(&[LinkFault::OtherProgram], |scene| {
        let program = other.state.join(PROGRAMS).join("connect4");
        bpf_syscall::update_link(&scene.pin("a1"), &program).unwrap();
    });
    scene.finds(&[LinkFault::OtherProgram], |scene| {
        fs::rename(scene.pin("a1"), scene.links("a1").join("connect4x")).unwrap();
        fs::rename(scene.links("a1").join("connect4x"), scene.pin("a1")).unwrap();
        fs::create_dir(scene.links("a1").join("more")).unwrap();
    });
    for app in [AppId::NONE, scene.app("a0").0] {
        scene.finds(&[LinkFault::SwitchedOff], |scene| {
            let switch = Switch::open(&scene.state).unwrap();
            assert!(switch.set(scene.cgroup("a1").1, app).unwrap());
        });
    }
    scene.finds(&[LinkFault::UnexpectedDirectory], |scene| {
        fs::create_dir(scene.app("a1").1.join("424242")).unwrap();
    });
    scene.finds(&[LinkFault::NoDirectory], |scene| {
        let (app_id, dir) = scene.app("a1");
        for (hook, _) in HOOKS {
            fs::remove_file(scene.links("a1").join(hook)).unwrap();
        }
        fs::remove_dir(scene.links("a1")).unwrap();
        fs::remove_dir(&dir).unwrap();
        assert_ne!(app_id, AppId::NONE);
    });
    let mut doubled = None;
    scene.finds(&[LinkFault::NotAlone], |scene| {
        doubled = Some(scene.attach("connect6", &scene.cgroup("a1").0));
        // An apply detaches it.
    });
    drop(doubled);
}

#[test]
fn directories_of_apps_that_appear_or_are_renamed_are_found() {
    let Some(mut scene) = Scene::new("renamed") else {
        return;
    };
    fs::create_dir(scene.state.join("apps/99:stranger")).unwrap();
    let reviewed = scene.round();
    assert_eq!(reviewed.differences.len(), 1, "{reviewed:?}");
    let shown = reviewed.differences[0].to_string();
    assert!(shown.contains("99:stranger") && shown.contains("did not make"), "{shown}");
    scene.apply();
    let (app_id, dir) = scene.app("a1");
    fs::rename(&dir, dir.with_file_name(format!("{app_id}:b1"))).unwrap();
    let reviewed = scene.round();
    let faults: Vec<_> = reviewed.differences.iter().map(|found| found.fault).collect();
    assert_eq!(faults, [LinkFault::UnexpectedDirectory, LinkFault::NoDirectory]);
    scene.apply();
}

#[test]
fn another_vipnat_above_is_found_on_all_cgroups() {
    let (Some(mut scene), Some(other)) = (Scene::new("below"), Scene::new("above")) else {
        return;
    };
    let above = other.attach("connect4", &scene.cgroups);
    let reviewed = scene.round();
    assert_eq!(reviewed.differences.len(), APPS as usize, "{reviewed:?}");
    assert!(reviewed.differences.iter().all(|found| found.fault == LinkFault::NotAlone));
    drop(above);
    scene.is_right("it is gone");
}

#[test]
fn other_commands_and_cgroups_that_go_are_no_damage() {
    let Some(mut scene) = Scene::new("others") else {
        return;
    };
    for name in ["p-1", "by-hand", "short"] {
        fs::create_dir(scene.cgroups.join(name)).unwrap();
    }
    scene.apply();
    let attach = |scene: &Scene, app: &str, cgroup: &str| {
        scene.session.attach(app, &scene.cgroup(cgroup).0).unwrap();
    };
    // Beside its own cgroup, its own one, and one of a pattern.
    attach(&scene, "a0", "by-hand");
    attach(&scene, "a1", "a1");
    attach(&scene, "a2", "p-1");
    let reviewed = scene.round();
    assert_eq!((reviewed.differences, reviewed.needs_apply), (vec![], false));
    let mut names: Vec<_> =
        reviewed.by_hand.iter().filter_map(|(path, _)| path.file_name()).collect();
    names.sort();
    assert_eq!(names, ["by-hand", "p-1"]);
    assert_eq!(scene.holders.by_hand().count(), 3);
    assert_eq!(scene.holders.holder(scene.cgroup("p-1").1).unwrap().1, "a2");
    scene.is_right("they are known now");
    // It goes before any round.
    attach(&scene, "a0", "short");
    fs::remove_dir(scene.cgroups.join("short")).unwrap();
    fs::remove_dir(scene.cgroups.join("by-hand")).unwrap();
    fs::remove_dir(scene.cgroups.join("a2")).unwrap();
    let reviewed = scene.round();
    assert_eq!((reviewed.differences, reviewed.needs_apply), (vec![], false));
    assert_eq!(reviewed.changes.len(), 3, "{:?}", reviewed.changes);
    scene.is_right("they are forgotten");
    let changing = scene.state.join("maps/changing");
    fs::create_dir(&changing).unwrap();
    fs::create_dir(scene.app("a0").1.join("5")).unwrap();
    assert!(scene.round().needs_apply);
}
