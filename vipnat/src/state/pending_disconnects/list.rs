//! What is still to be ended: connections to backends that left the table, and when.
//!
//! Kept beside the record of names, in `/run/vipnat`. An entry is there before its backend leaves, so
//! what an interrupted command does not end, the next one does.
//!
//! Times are those of a clock that counts from the start of the machine, goes on while it sleeps, and is
//! never set (CLOCK_BOOTTIME). The file also says which start that was: after another one, its
//! connections are gone.

use crate::state::run_dir;
use std::{
    collections::HashSet,
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use vipnat_common::AppId;
use vipnat_core::model::{Mappings, RemovedBackend};

/// The extension of the file.
pub(crate) const FILE: &str = "drains.json";

/// All that is still to be ended, in the order in which it left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingDisconnects(Vec<PendingDisconnect>);

/// A backend whose connections are to be ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingDisconnect {
    /// Which one it is: a backend may leave, come back and leave again while the first one's connections end.
    #[serde(default)]
    pub id: Id,
    /// Whose, and which.
    #[serde(flatten)]
    pub departed: RemovedBackend,
    /// Whole paths of the cgroups in whose network namespaces the connections are, or most of them.
    #[serde(with = "super::paths")]
    pub cgroups: Vec<PathBuf>,
    /// When they are to end, in seconds since the machine started.
    pub due: u64,
    /// They are to end as soon as the change that took the backend away is confirmed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_trial: bool,
    /// That failed, and is tried again when it is due, or with the next change before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Id(u64);

impl Default for Id {
    /// Another one each time, whichever process asks: the keys of its hash are random.
    fn default() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    /// The start of the machine that `due` counts from.
    boot: String,
    drains: Vec<PendingDisconnect>,
}

/// What time it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// The time since then.
    since_boot: Duration,
    /// What the clock on the wall shows, which anybody may set.
    wall: SystemTime,
}

/// Tells one start of the machine from another.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which start of the machine this is. Only asked if something is noted.
fn boot() -> io::Result<String> {
    let read = fs::read_to_string(BOOT_ID).map_err(|error| {
        let what = format!(
            "cannot read {BOOT_ID}, which differs after each boot ({error}); run vipnat where all of /proc \
             is mounted"
        );
        io::Error::new(error.kind(), what)
    });
    Ok(read?.trim().to_owned())
}

impl Clock {
    /// Now.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    pub(crate) fn now() -> io::Result<Self> {
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME)?.into();
        Ok(Self { since_boot, wall: SystemTime::now() })
    }

    /// The last whole second.
    pub(crate) fn seconds(&self) -> u64 {
        self.since_boot.as_secs()
    }

    /// The next whole second, so that nothing ends earlier than said.
    pub(crate) fn end_of_second(&self) -> u64 {
        (self.since_boot + Duration::from_millis(999)).as_secs()
    }

    /// What the clock on the wall will show at a time, if nobody sets it.
    pub(crate) fn shown(&self, due: u64) -> SystemTime {
        self.wall + Duration::from_secs(due).saturating_sub(self.since_boot)
    }

    /// When a time comes that is given in seconds since 1970, if nobody sets the clock on the wall.
    fn of_wall(&self, due: u64) -> u64 {
        let wall = self.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        (self.since_boot + Duration::from_secs(due).saturating_sub(wall)).as_secs()
    }
}

impl PendingDisconnects {
    /// What a state directory has; nothing if there is no file. Second, what people should know of it.
    ///
    /// # Errors
    ///
    /// If there is a file and it can't be read: that is not the same as none.
    pub(crate) fn load(state: &Path, clock: &Clock) -> io::Result<(Self, Option<String>)> {
        match fs::read(file(state)) {
            Ok(text) => Ok(Self::parse(&text, clock, &boot()?)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Self::default(), None)),
            Err(error) => Err(error),
        }
    }

    /// The same for whoever will write to it. A file that can't be read is put aside, so that what it says is
    /// not lost, and that is said.
    ///
    /// # Errors
    ///
    /// If there is a file and the kernel does not tell of which start of the machine it should be.
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
                    // Said once.
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

    /// What a file says, and what is wrong with it.
    fn parse(text: &[u8], clock: &Clock, now: &str) -> serde_json::Result<(Self, Option<String>)> {
        if text.trim_ascii_start().first() == Some(&b'[') {
            // Of earlier builds, which counted from 1970.
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

    /// Writes it, in place of what was there; if there is nothing, there is no file.
    ///
    /// # Errors
    ///
    /// If the directory or file cannot be written, or the kernel does not tell which start of the machine
    /// this is.
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

    /// Removes what a state directory has, also what was put aside.
    ///
    /// # Errors
    ///
    /// If it is there and stays.
    pub(crate) fn remove(state: &Path) -> io::Result<()> {
        run_dir::remove(&file(state))?;
        run_dir::remove(&aside(state))
    }

    /// Whether there is nothing to end.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The VIPs, by app, whose backends left.
    pub(crate) fn vips(&self) -> impl Iterator<Item = (AppId, Ipv4Addr)> {
        self.0.iter().map(|PendingDisconnect { departed, .. }| (departed.app_id, departed.vip))
    }

    /// Adds one.
    pub(crate) fn push(&mut self, drain: PendingDisconnect) {
        self.0.push(drain);
    }

    /// What was to end with a confirmation is due now.
    pub(crate) fn confirm(&mut self) {
        for drain in self.0.iter_mut().filter(|drain| drain.on_trial) {
            (drain.due, drain.on_trial) = (0, false);
        }
    }

    /// Those of a list.
    pub(crate) fn of(drains: &[PendingDisconnect]) -> Self {
        Self(drains.to_vec())
    }

    /// Which ones they are.
    pub(crate) fn ids(&self) -> HashSet<Id> {
        self.0.iter().map(|drain| drain.id).collect()
    }

    /// Takes these out, if they are still there.
    pub(crate) fn take_out(&mut self, done: &HashSet<Id>) {
        self.0.retain(|drain| !done.contains(&drain.id));
    }

    /// These failed and are due again at another time, if they are still there.
    pub(crate) fn try_again(&mut self, failed: &HashSet<Id>, due: u64) {
        for drain in self.0.iter_mut().filter(|drain| failed.contains(&drain.id)) {
            (drain.due, drain.again) = (due, true);
        }
    }

    /// Drops those whose backend is back, by the rules of their VIPs.
    pub(crate) fn cancel_back(&mut self, rules: &Mappings) {
        self.cancel(|departed| departed.is_back(rules));
    }

    /// Drops those whose backend is back, as `stays` says.
    pub(crate) fn cancel(&mut self, stays: impl Fn(&RemovedBackend) -> bool) {
        self.0.retain(|drain| !stays(&drain.departed));
    }

    /// Takes those out that are due; `now` is in seconds since the machine started.
    pub(crate) fn due(&mut self, now: u64) -> Vec<PendingDisconnect> {
        self.0.extract_if(.., |drain| drain.due <= now).collect()
    }

    /// The same, and what failed before.
    pub(crate) fn due_or_failed(&mut self, now: u64) -> Vec<PendingDisconnect> {
        self.0.extract_if(.., |drain| drain.again || drain.due <= now).collect()
    }

    /// How long it takes until the next one is due; `None` if there is none.
    pub(crate) fn next(&self, now: u64) -> Option<Duration> {
        let due = self.0.iter().map(|drain| drain.due).min()?;
        Some(Duration::from_secs(due.saturating_sub(now)))
    }
}

fn file(state: &Path) -> PathBuf {
    run_dir::beside(state, FILE)
}

/// Where a file is put that can't be read.
fn aside(state: &Path) -> PathBuf {
    file(state).with_added_extension("unreadable")
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;
    use vipnat_core::model::Backend;

    fn drain(number: u8, due: u64) -> PendingDisconnect {
        let backend = Backend { ip: Ipv4Addr::new(240, 0, 0, number), port: 0 };
        let vip = Ipv4Addr::new(169, 254, 37, 209);
        let departed = RemovedBackend {
            app: "shop".to_owned(),
            relationship: None,
            app_id: AppId(1),
            vip,
            backend,
        };
        let cgroups = vec!["/sys/fs/cgroup/shop".into()];
        PendingDisconnect {
            id: Id(number.into()),
            departed,
            cgroups,
            due,
            on_trial: false,
            again: false,
        }
    }

    #[test]
    fn what_is_due_is_taken_out_and_the_rest_waits() {
        let mut drains = PendingDisconnects(vec![drain(1, 100), drain(2, 90), drain(3, 101)]);
        assert_eq!(drains.next(80), Some(Duration::from_secs(10)));
        assert!(drains.due(89).is_empty());
        assert_eq!(drains.due(100), [drain(1, 100), drain(2, 90)]);
        assert_eq!(drains.next(200), Some(Duration::ZERO));
        assert_eq!(drains.due(200), [drain(3, 101)]);
        assert_eq!((drains.next(200), drains.is_empty()), (None, true));
    }

    #[test]
    fn a_backend_that_is_back_is_left_alone() {
        let mut drains = PendingDisconnects(vec![drain(1, 100), drain(2, 100)]);
        drains.cancel(|departed| departed.backend.ip.octets()[3] == 1);
        assert_eq!(drains, PendingDisconnects(vec![drain(2, 100)]));
    }

    /// All that others do between the two moments in which one command has the lock.
    #[test]
    fn a_backend_that_left_came_back_and_left_again_is_not_taken_for_the_one_that_is_done() {
        let again = PendingDisconnect { id: Id::default(), ..drain(1, 0) };
        let done = PendingDisconnects(vec![drain(1, 0)]).ids();
        let mut drains = PendingDisconnects(vec![again.clone()]);
        drains.take_out(&done);
        assert_eq!(drains, PendingDisconnects(vec![again.clone()]));
        // Nor is what others cancelled meanwhile put back.
        drains.try_again(&done, 30);
        assert_eq!(drains, PendingDisconnects(vec![again.clone()]));
        drains.try_again(&PendingDisconnects(vec![again.clone()]).ids(), 30);
        assert_eq!(
            drains,
            PendingDisconnects(vec![PendingDisconnect { due: 30, again: true, ..again.clone() }])
        );
        assert!(drains.due(29).is_empty());
        drains.take_out(&PendingDisconnects(vec![again]).ids());
        assert!(drains.is_empty());
    }

    #[test]
    fn what_an_earlier_build_noted_without_an_id_gets_one() {
        let mut value = serde_json::to_value(drain(1, 100)).unwrap();
        value.as_object_mut().unwrap().remove("id");
        let read = || serde_json::from_value::<PendingDisconnect>(value.clone()).unwrap();
        let (one, other) = (read(), read());
        assert!(one.id != other.id && one.departed == other.departed);
    }

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
            // Only what is shown follows it.
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
        assert!(drains.is_empty() && warning.unwrap().contains("forgot 1 removed backends"));
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(bytes: Vec<u8>) {
            let _ = PendingDisconnects::parse(&bytes, &clock(1, 1), "this start");
        }
    }
}
