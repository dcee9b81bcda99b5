//! Time since the machine started, which no user can set.

use std::{
    fs, io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};

/// A moment, by the clock that counts from the start of the machine, and by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// The time since the machine started, suspended time included (CLOCK_BOOTTIME).
    pub(super) since_boot: Duration,
    /// The wall clock, which users may set.
    pub(super) wall: SystemTime,
}

/// A random id that the kernel makes at each start.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of the present start of the machine. It is read only if a list exists or is written.
pub(super) fn boot() -> io::Result<String> {
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
    /// Reads both clocks.
    ///
    /// # Errors
    ///
    /// The kernel has no such clock.
    pub(crate) fn now() -> io::Result<Self> {
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME)?.into();
        Ok(Self { since_boot, wall: SystemTime::now() })
    }

    /// The time since the start of the machine, in whole seconds.
    pub(crate) fn seconds(&self) -> u64 {
        self.since_boot.as_secs()
    }

    /// The same, rounded up, so that no connection ends earlier than announced.
    pub(crate) fn end_of_second(&self) -> u64 {
        (self.since_boot + Duration::from_millis(999)).as_secs()
    }

    /// The time that the wall clock will show at a time in seconds since the start, if it is not set
    /// meanwhile.
    pub(crate) fn shown(&self, due: u64) -> SystemTime {
        self.wall + Duration::from_secs(due).saturating_sub(self.since_boot)
    }

    /// Converts a time in seconds since 1970 to seconds since the start of the machine.
    pub(super) fn of_wall(&self, due: u64) -> u64 {
        let wall = self.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        (self.since_boot + Duration::from_secs(due).saturating_sub(wall)).as_secs()
    }
}
