//! `cargo xtask soak`: changes through `vipnat run`, connects, other hands and kills, for any length of time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use vipnat_testkit::{Churn, Soaked, Tally};

use crate::{build, progress::stage, setup};

#[derive(Args)]
pub(crate) struct Soak {
    /// For how long.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

impl Soak {
    pub(crate) fn run(&self) -> Result<()> {
        setup::run()?;
        stage("build: vipnat, another build of it, and the programs that connect");
        build::test_programs()?;
        stage(&format!("soak for {} minutes", self.minutes));
        let mut churn = Churn::new(250);
        let mut told = Instant::now();
        let soaked = churn.soak(Duration::from_secs(self.minutes * 60), |_, soaked| {
            if told.elapsed() > Duration::from_secs(10) {
                println!(
                    "{:>6} s: {} changes made, {} disturbed, {} kills done",
                    soaked.took.as_secs(),
                    soaked.changes,
                    soaked.disturbances,
                    soaked.kills
                );
                told = Instant::now();
            }
        });
        let Soaked { changes, kills, disturbances, took, tallies } = soaked;
        let mut all = Tally::default();
        tallies.iter().for_each(|tally| all.add(tally.clone()));
        let Tally { answered: _, crossed, failed, examples } = &all;
        println!(
            "{} connects made, {changes} changes made, {disturbances} disturbed by others, {kills} kills \
             done, {} failures ({failed} failed, {crossed} reached another app's backend) in {} s",
            all.total(),
            failed + crossed,
            took.as_secs()
        );
        examples.iter().for_each(|example| println!("    {example}"));
        ensure!(failed + crossed == 0, "{} connects went wrong", failed + crossed);
        churn.assert_repaired();
        churn.assert_cursors(&tallies);
        println!(
            "every cursor has counted every connect once; one more apply leaves nothing to change"
        );
        Ok(())
    }
}
