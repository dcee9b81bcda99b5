//! Readings come one at a time, and answer what was asked for before.

use std::{fs, time::Instant};

use super::*;
use crate::follow::reading::{Reading, Update};

/// A source of a file, and what it tells.
struct Scene {
    dir: tempfile::TempDir,
    source: FileSource,
    inbox: Arc<Inbox<News>>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = FileSource::new(&dir.path().join("table")).unwrap();
        let mut scene = Self { dir, source, inbox: Arc::default() };
        scene.write("a");
        scene.source.start(&scene.inbox).unwrap();
        scene
    }

    /// Replaces the file by a table with this app.
    fn write(&self, app: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, format!("[apps.{app}]\n")).unwrap();
        fs::rename(new, self.dir.path().join("table")).unwrap();
    }

    fn reading(&self) -> Reading {
        self.inbox.wait_for(|news| news.reading.take())
    }

    /// The reading that comes within some time, if one does.
    fn reading_within(&self, time: Duration) -> Option<Reading> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let news = self.inbox.wait(until.saturating_duration_since(Instant::now()));
            if news.reading.is_some() {
                return news.reading;
            }
        }
        None
    }

    /// Reads until a table with this app comes, and lets it into force.
    fn follow_until(&self, app: &str) -> Ask {
        loop {
            let Reading { update, answers, .. } = self.reading();
            match update.unwrap() {
                Update::Table { table, .. } => {
                    self.source.go_on(Some(&table));
                    if table.apps.contains_key(app) {
                        return answers;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_change_comes_once_the_last_reading_is_worked_on() {
    let scene = Scene::new();
    let Ok(Update::Table { table, difference: None }) = scene.reading().update else {
        panic!("a first table");
    };
    for app in ["b", "c", "d"] {
        scene.write(app);
    }
    assert!(scene.reading_within(Duration::from_millis(200)).is_none());
    scene.source.go_on(Some(&table));
    // All changes come as one.
    let Ok(Update::Table { table, difference: Some(difference) }) = scene.reading().update else {
        panic!("a change");
    };
    assert!(difference.apps.keys().eq(["a", "d"]), "{difference:?}");
    scene.source.go_on(Some(&table));
    assert!(scene.reading_within(Duration::from_millis(200)).is_none(), "nothing changed");
    scene.write("e");
    scene.follow_until("e");
}

#[test]
fn what_was_asked_for_is_answered_by_a_reading_that_began_later() {
    let scene = Scene::new();
    assert_eq!(scene.follow_until("a"), Ask::default());
    scene.source.read(Ask { review: true, reload: false });
    let Reading { update, answers, .. } = scene.reading();
    assert!(matches!(update, Ok(Update::Same)), "{update:?}");
    assert_eq!(answers, Ask { review: true, reload: false });
    // Asked while the last reading is worked on.
    scene.source.read(Ask { review: false, reload: true });
    assert!(scene.reading_within(Duration::from_millis(200)).is_none());
    scene.source.go_on(None);
    let Reading { update, answers, .. } = scene.reading();
    assert!(matches!(update, Ok(Update::Table { difference: None, .. })), "{update:?}");
    assert_eq!(answers, Ask { review: false, reload: true });
}
