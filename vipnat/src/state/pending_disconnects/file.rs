//! The file with the list: reads and writes it in `/run/vipnat`.
//!
//! vipnat writes an entry before it removes the backend from the maps. So if a command is interrupted before
//! it ends the connections, the next command ends them.
//!
//! Times count from the start of the machine. The file also names that start, by its boot id: after another
//! start, the connections are gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    clock::{Clock, boot},
    list::{PendingDisconnect, PendingDisconnects},
};
use crate::state::run_dir;

/// The extension of the file.
pub(crate) const FILE: &str = "drains.json";

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    /// The boot id of the start that `due` counts from.
    boot: String,
    drains: Vec<PendingDisconnect>,
}

impl PendingDisconnects {
    /// Reads the list of a state directory, which is empty if there is no file. Also returns a warning.
    ///
    /// # Errors
    ///
    /// The file exists and cannot be read: it may list backends.
    pub(crate) fn load(state: &Path, clock: &Clock) -> io::Result<(Self, Option<String>)> {
        match fs::read(file(state)) {
            Ok(text) => Ok(Self::parse(&text, clock, &boot()?)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Self::default(), None)),
            Err(error) => Err(error),
        }
    }

    /// Reads the list before a change of it. It renames a file that cannot be read, so that its content is not
    /// lost, and adds a warning.
    ///
    /// # Errors
    ///
    /// The file exists and the boot id cannot be read.
    pub(crate) fn take(
        state: &Path,
        clock: &Clock,
        warnings: &mut Vec<String>,
    ) -> io::Result<Self> {
        let there = fs::symlink_metadata(file(state)).is_ok();
        let boot = if there { boot()? } else { String::new() };
        let read = match fs::read(file(state)) {
            Ok(text) => Self::parse(&text, clock, &boot).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => Err(error),
        };
        let error = match read {
            Ok((drains, warning)) => {
                if warning.is_some() {
                    // Warn only once.
                    let _ = run_dir::remove(&file(state));
                }
                warnings.extend(warning);
                return Ok(drains);
            }
            Err(error) => error,
        };
        let (file, aside) = (file(state), aside(state));
        let then = match fs::rename(&file, &aside) {
            Ok(()) => format!("the file is now {}", aside.display()),
            Err(error) => format!("remove the file, which cannot be renamed ({error})"),
        };
        warnings.push(format!(
            "cannot read {}, the list of pending disconnects: \
             {error}. Their connections stay open. End them with `ss --kill dst ADDRESS`, or restart their \
             applications; {then}",
            file.display()
        ));
        Ok(Self::default())
    }

    /// Parses the file. Also returns a warning if the list is of an earlier start. `now` is the boot id.
    fn parse(text: &[u8], clock: &Clock, now: &str) -> serde_json::Result<(Self, Option<String>)> {
        if text.trim_ascii_start().first() == Some(&b'[') {
            // Earlier builds wrote only the list, with times since 1970.
            let mut drains: Vec<PendingDisconnect> = serde_json::from_slice(text)?;
            for drain in drains.iter_mut().filter(|drain| drain.due != 0) {
                drain.due = clock.of_wall(drain.due);
            }
            return Ok((Self(drains), None));
        }
        let File { boot, drains } = serde_json::from_slice(text)?;
        if boot == now {
            return Ok((Self(drains), None));
        }
        let warning = format!(
            "dropped {} pending disconnects: the machine has been \
             restarted since, which ended their connections",
            drains.len()
        );
        Ok((Self::default(), (!drains.is_empty()).then_some(warning)))
    }

    /// Replaces the file; removes it if the list is empty.
    ///
    /// # Errors
    ///
    /// The directory or file cannot be written, or the boot id cannot be read.
    pub(crate) fn save(&self, state: &Path) -> io::Result<()> {
        if self.0.is_empty() {
            return run_dir::remove(&file(state));
        }
        let new = File { boot: boot()?, drains: self.0.clone() };
        let new = serde_json::to_vec_pretty(&new)?;
        if fs::read(file(state)).is_ok_and(|old| old == new) {
            return run_dir::tidy(&file(state));
        }
        run_dir::replace(&file(state), &new)
    }

    /// Removes the file of a state directory, and one that [`PendingDisconnects::take`] renamed.
    ///
    /// # Errors
    ///
    /// A file exists and cannot be removed.
    pub(crate) fn remove(state: &Path) -> io::Result<()> {
        run_dir::remove(&file(state))?;
        run_dir::remove(&aside(state))
    }
}

/// The file of a state directory.
fn file(state: &Path) -> PathBuf {
    run_dir::beside(state, FILE)
}

/// The new name of a file that cannot be read.
fn aside(state: &Path) -> PathBuf {
    file(state).with_added_extension("unreadable")
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::ffi::OsStrExt as _,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;
    use crate::state::pending_disconnects::list::tests::drain;

    fn clock(since_boot: u64, wall: u64) -> Clock {
        Clock {
            since_boot: Duration::from_millis(since_boot * 1000 + 500),
            wall: UNIX_EPOCH + Duration::from_millis(wall * 1000 + 500),
        }
    }

    #[test]
    fn the_file_is_readable_to_people_and_reads_back() {
        let file = File { boot: "this start".to_owned(), drains: vec![drain(1, 100)] };
        let text = serde_json::to_string(&file).unwrap();
        let expected = r#"{"boot":"this start","drains":[{"id":1,"app":"shop","relationship":null,"scope":1,"vip":"169.254.37.209","ip":"240.0.0.1","port":0,"cgroups":["/sys/fs/cgroup/shop"],"due":100}]}"#;
        assert_eq!(text, expected);
        let read = PendingDisconnects::parse(text.as_bytes(), &clock(1, 1), "this start").unwrap();
        assert_eq!(read, (PendingDisconnects(vec![drain(1, 100)]), None));
        let mut odd = drain(1, 100);
        odd.cgroups.push(OsStr::from_bytes(b"/sys/fs/cgroup/shop-\xff").into());
        let text = serde_json::to_string(&odd).unwrap();
        assert_eq!(serde_json::from_str::<PendingDisconnect>(&text).unwrap(), odd);
    }

    #[test]
    fn who_sets_the_clock_on_the_wall_moves_no_drain() {
        let text = serde_json::to_vec(&File {
            boot: "this start".to_owned(),
            drains: vec![drain(1, 100)],
        });
        let text = text.unwrap();
        for wall in [0, 5_000, 1_000_000] {
            for (since_boot, due) in [(99, 0), (100, 1)] {
                let clock = clock(since_boot, wall);
                let (mut drains, warning) =
                    PendingDisconnects::parse(&text, &clock, "this start").unwrap();
                assert_eq!((drains.due(clock.seconds()).len(), warning), (due, None));
            }
            // Only the shown time follows the wall clock.
            let shown = clock(90, wall).shown(100);
            assert_eq!(shown, UNIX_EPOCH + Duration::from_secs(wall + 10));
        }
    }

    #[test]
    fn what_an_earlier_build_noted_by_the_wall_is_due_when_it_was_to_be() {
        let text = serde_json::to_vec(&[drain(1, 1_000_060), drain(2, 0), drain(3, 999_999)]);
        let read = PendingDisconnects::parse(&text.unwrap(), &clock(100, 1_000_000), "this start")
            .unwrap();
        assert_eq!(
            read,
            (PendingDisconnects(vec![drain(1, 160), drain(2, 0), drain(3, 100)]), None)
        );
    }

    #[test]
    fn drains_of_another_start_of_the_machine_are_dropped_and_that_is_said() {
        let text = serde_json::to_vec(&File {
            boot: "the start before".to_owned(),
            drains: vec![drain(1, 100)],
        });
        let (drains, warning) =
            PendingDisconnects::parse(&text.unwrap(), &clock(100, 0), "this start").unwrap();
        assert!(drains.is_empty() && warning.unwrap().contains("dropped 1 pending disconnects"));
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(bytes: Vec<u8>) {
            let _ = PendingDisconnects::parse(&bytes, &clock(1, 1), "this start");
        }
    }
}
