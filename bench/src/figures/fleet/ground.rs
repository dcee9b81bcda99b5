//! The ground of a fleet: a cgroup that holds thousands of others, and a state of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use vipnat_testkit::{Cgroup, Following, Vipnat};

use crate::figures::process::{Took, run};
use crate::{options::Build, scene::check_signals, vips::vip};

/// Pause between two attaches beside a command, so that they leave the CPUs to the command.
const BETWEEN: Duration = Duration::from_millis(20);

/// The programs are dropped before the cgroups to which they are attached.
pub(super) struct Ground {
    pub(super) vipnat: Vipnat,
    /// All other cgroups are inside it, and are removed with it.
    cgroup: Cgroup,
}

impl Ground {
    pub(super) fn new(build: &Build) -> Self {
        // Its name is one that the sweep of old fixtures finds.
        let cgroup = Cgroup::new();
        Self { vipnat: build.vipnat(), cgroup }
    }

    /// The directory of its cgroups.
    pub(super) fn path(&self) -> &Path {
        self.cgroup.path()
    }

    /// The path by which a table names a cgroup or a pattern in it.
    pub(super) fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.cgroup.relative())
    }

    /// Makes a cgroup.
    pub(super) fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// Makes the cgroups `<prefix>0`, `<prefix>1`, …
    pub(super) fn make_many(&self, prefix: &str, count: usize) -> Result<Vec<PathBuf>> {
        check_signals()?;
        (0..count).map(|index| self.make(&format!("{prefix}{index}"))).collect()
    }

    /// Writes a table of apps, by name and cgroup, with `vips` VIPs each.
    pub(super) fn table(
        &self,
        service: &Value,
        apps: impl IntoIterator<Item = (String, String)>,
        vips: usize,
    ) -> PathBuf {
        let relationship = |index: usize| {
            (format!("r{index}"), json!({ "service": "s", "vip": vip(index as u32) }))
        };
        let relationships: Map<_, _> = (0..vips).map(relationship).collect();
        let app = |(name, cgroup): (String, String)| {
            (name, json!({ "cgroup": self.below(&cgroup), "relationships": relationships }))
        };
        let apps: Map<_, _> = apps.into_iter().map(app).collect();
        self.vipnat.table(&json!({ "services": { "s": service }, "apps": apps }).to_string())
    }

    /// Applies a table.
    pub(super) fn apply(&self, table: &Path) -> Result<Took> {
        check_signals()?;
        run(self.vipnat.command(["apply".as_ref(), table.as_os_str()]), None)
    }

    /// Attaches the app `a0` to a cgroup.
    pub(super) fn attach(&self, cgroup: &Path) -> Result<Took> {
        check_signals()?;
        let arguments = ["attach", "--app", "a0", "--cgroup"].map(AsRef::as_ref);
        run(self.vipnat.command(arguments.into_iter().chain([cgroup.as_os_str()])), None)
    }

    /// Runs some work, and attaches one cgroup after the other meanwhile. Also gives the longest time of an
    /// attach.
    pub(super) fn attach_beside<T: Send>(
        &self,
        cgroups: &mut impl Iterator<Item = PathBuf>,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<(T, Duration)> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let work = scope.spawn(|| {
                let result = work();
                done.store(true, Ordering::Relaxed);
                result
            });
            let mut longest = Duration::ZERO;
            let attached = loop {
                // Waits until the work has begun.
                sleep(BETWEEN);
                let Some(cgroup) = cgroups.next() else { break Ok(()) };
                match self.attach(&cgroup) {
                    Ok(took) => longest = longest.max(took.time),
                    Err(error) => break Err(error),
                }
                if done.load(Ordering::Relaxed) {
                    break Ok(());
                }
            };
            let result = work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            attached.map(|()| (result, longest))
        })
    }
}

/// A service with these backends.
pub(super) fn service(backends: &[&str]) -> Value {
    json!({ "backends": backends, "on-backend-removed": "kill" })
}

/// Follows a table, which `run` applies first. Apps may have no cgroup yet.
pub(super) fn follow(ground: &Ground, table: &Path) -> Result<Following> {
    let mut following =
        Following::start(ground.vipnat.command(["run".as_ref(), table.as_os_str()]));
    following.wait_for(|line| line.starts_with("following "));
    Ok(following)
}
