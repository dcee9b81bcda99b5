//! A file is parsed when its text changed, and compared with the table in force.

use std::{fs, path::Path};

use super::*;

/// A file with a table, and its reader.
struct Scene {
    dir: tempfile::TempDir,
    reader: FileReader,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = TablePath::new(&dir.path().join("table")).unwrap();
        let reader = FileReader::new(path, FileWatch::new(|_| {}).unwrap());
        Self { dir, reader }
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("table")
    }

    fn read(&mut self) -> Result<Update> {
        self.reader.read(Ask::default()).update
    }

    /// Reads a table, and how many apps it differs in from the one in force.
    fn table(&mut self) -> (Arc<Table>, Option<usize>) {
        match self.read() {
            Ok(Update::Table { table, difference }) => {
                (table, difference.map(|difference| difference.apps.len()))
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A table with these apps.
fn text(apps: &[&str]) -> String {
    apps.iter().map(|app| format!("[apps.{app}]\n")).collect()
}

#[test]
fn a_difference_is_relative_to_the_table_in_force() {
    let mut scene = Scene::new();
    scene.write(&text(&["a"]));
    let (first, difference) = scene.table();
    assert_eq!(difference, None, "no table is in force");
    scene.reader.set_in_force(Some(Arc::clone(&first)));
    scene.write(&text(&["a", "b", "c"]));
    let (_, difference) = scene.table();
    assert_eq!(difference, Some(2));
    // It did not fit, so the first one is still in force.
    scene.reader.set_in_force(Some(Arc::clone(&first)));
    scene.write(&text(&["a", "b"]));
    let (third, difference) = scene.table();
    assert_eq!(difference, Some(1));
    scene.reader.set_in_force(Some(third));
    scene.write(&text(&["b"]));
    assert_eq!(scene.table().1, Some(1));
}

#[test]
fn an_unchanged_file_is_not_parsed_again() {
    let mut scene = Scene::new();
    scene.write(&text(&["a"]));
    let (table, _) = scene.table();
    scene.reader.set_in_force(Some(Arc::clone(&table)));
    for _ in 0..2 {
        // Another file with the same text.
        fs::remove_file(scene.file()).unwrap();
        scene.write(&text(&["a"]));
        assert!(matches!(scene.read(), Ok(Update::Same)));
    }
    // The refusal of an unreadable file ends with the same table, which was kept.
    fs::remove_file(scene.file()).unwrap();
    assert!(scene.read().is_err());
    assert!(scene.read().is_err());
    scene.write(&text(&["a"]));
    let (again, difference) = scene.table();
    assert!(Arc::ptr_eq(&again, &table));
    assert_eq!(difference, Some(0));
    assert!(matches!(scene.read(), Ok(Update::Same)));
    // A mistake is told once, and again after another error.
    scene.write("[apps.a]\nx = 1\n");
    assert!(scene.read().is_err());
    assert!(matches!(scene.read(), Ok(Update::Same)));
    fs::remove_file(scene.file()).unwrap();
    assert!(scene.read().unwrap_err().to_string().contains("cannot read it"));
    scene.write("[apps.a]\nx = 1\n");
    assert!(scene.read().unwrap_err().to_string().contains("unknown field"));
}

#[test]
fn a_reload_reads_as_if_for_the_first_time() {
    let mut scene = Scene::new();
    scene.write(&text(&["a"]));
    let (table, _) = scene.table();
    scene.reader.set_in_force(Some(Arc::clone(&table)));
    let ask = Ask { reload: true, review: false };
    let Reading { update, answers, .. } = scene.reader.read(ask);
    let Ok(Update::Table { table: again, difference: Some(difference) }) = update else {
        panic!("{update:?}");
    };
    assert!(!Arc::ptr_eq(&again, &table) && difference.is_empty());
    assert_eq!(answers, ask);
}

#[test]
fn a_table_that_is_not_in_force_any_more_is_dropped_here() {
    let mut scene = Scene::new();
    scene.write(&text(&["a"]));
    let (first, _) = scene.table();
    scene.reader.set_in_force(Some(Arc::clone(&first)));
    let first_is_kept = Arc::downgrade(&first);
    drop(first);
    scene.write(&text(&["b"]));
    let (second, _) = scene.table();
    assert!(first_is_kept.upgrade().is_some());
    // It is refused, and dropped.
    let second_is_kept = Arc::downgrade(&second);
    drop(second);
    scene.reader.set_in_force(first_is_kept.upgrade());
    assert!(second_is_kept.upgrade().is_none());
    scene.write(&text(&["c"]));
    let (third, _) = scene.table();
    scene.reader.set_in_force(Some(third));
    assert!(first_is_kept.upgrade().is_none());
}

#[test]
fn passwords_that_others_can_read_are_told_with_each_reading() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut scene = Scene::new();
    for directory in scene.file().ancestors().skip(1).filter(|path| *path != Path::new("/")) {
        let open = fs::metadata(directory).unwrap().permissions().mode() & 0o1 != 0;
        if !open && directory.starts_with(scene.dir.path()) {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    scene.write(
        "[services]\ns = { backends = [] }\n[apps.a.relationships.db]\nservice = \"s\"\n\
         endpoint = { password = \"p\" }\n",
    );
    fs::set_permissions(scene.file(), fs::Permissions::from_mode(0o644)).unwrap();
    let Reading { update, exposed, .. } = scene.reader.read(Ask::default());
    let Ok(Update::Table { table, .. }) = update else { panic!("{update:?}") };
    scene.reader.set_in_force(Some(table));
    assert!(exposed.is_some());
    assert_eq!(scene.reader.read(Ask::default()).exposed, exposed);
    fs::set_permissions(scene.file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(scene.reader.read(Ask::default()).exposed, None);
}
