//! Many changes of a table inside one process, as the agent makes them after it has decoded them.
//!
//! They run in a process of their own, whose memory is measured as well.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use vipnat::reconcile::{Live, MissingCgroup, Session};
use vipnat_core::table::{Difference, Table};

use crate::{figures::resident, protocol::Sample, stats::quantile};

/// Pause before each change that is measured, in which the process waits as an agent does.
const PAUSE: Duration = Duration::from_millis(1);
/// The number of changes after which retired slots are freed. An agent frees them when nothing changes.
const FREE_AFTER: usize = 50;

/// Two tables, and how often to change from one to the other.
#[derive(Args)]
pub(crate) struct Changes {
    /// The state directory.
    bpffs: PathBuf,
    /// The number of changes that are measured.
    measured: usize,
    /// The number of all changes, those that are measured included.
    all: usize,
    first: PathBuf,
    second: PathBuf,
}

/// The result.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// The times from the decoded change to the end of the call that makes it.
    pub(crate) times: Sample,
    /// The bytes of memory after all changes, beyond those after the measured ones.
    pub(crate) grown: f64,
}

impl Changes {
    pub(crate) fn run(&self) -> Result<()> {
        let Self { bpffs, measured, all, first, second } = self;
        let session = Session::new(bpffs);
        let mount = session.cgroups()?.mount().to_owned();
        let tables = [read(first, &mount)?, read(second, &mount)?];
        let [first, second] = &tables;
        let turns = [
            (first, Difference::between(second, first)),
            (second, Difference::between(first, second)),
        ];
        let (_, live) = session.apply_and_keep(first, MissingCgroup::Error)?;
        let mut live = live.context("another process changes the state")?;
        // All memory is there before the first change.
        let mut times = vec![1.0; *measured];
        let mut before = 0;
        for number in 0..*all {
            if number == *measured {
                before = resident("self")?;
            }
            if number < *measured {
                sleep(PAUSE);
            }
            let (table, difference) = &turns[(number + 1) % 2];
            let begun = Instant::now();
            let (applied, next) = session.change(live, table, difference);
            let took = begun.elapsed();
            let next = next.with_context(|| format!("change {number} needs a full apply"))?;
            ensure!(!applied.changes.is_empty() && applied.failed.is_empty(), "{applied:?}");
            live = next;
            if let Some(time) = times.get_mut(number) {
                *time = took.as_nanos() as f64;
            }
            if number % FREE_AFTER == FREE_AFTER - 1 {
                free(&session, &mut live)?;
            }
        }
        let grown = resident("self")? as f64 - before as f64;
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let (p50, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        let times = Sample { count: *measured, p50, p99, mean };
        println!("{}", serde_json::to_string(&Changed { times, grown })?);
        Ok(())
    }
}

fn read(path: &Path, mount: &Path) -> Result<Table> {
    Ok(Table::parse(&fs::read(path)?, &path.display().to_string(), mount)?)
}

/// Frees retired slots, which takes two grace periods.
fn free(session: &Session, live: &mut Live) -> Result<()> {
    for _ in 0..2 {
        if let Some(reclaiming) = session.begin_reclaim(live) {
            ensure!(session.end_reclaim(live, &reclaiming.wait()?), "the state has changed");
        }
    }
    Ok(())
}
