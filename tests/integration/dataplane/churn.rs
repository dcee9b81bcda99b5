//! The concurrency guarantee: a connect reaches a backend that its own VIP had in the old table or has in
//! the new one, never another.

use std::time::Duration;

use vipnat_testkit::{Churn, Churned, Tally, emulated, left_out};

/// The longest time for a test. Emulation is too slow for all changes, and gets a part of it.
fn time(seconds: u64) -> Duration {
    if !emulated() {
        return Duration::from_secs(seconds);
    }
    let less = seconds / 6;
    left_out(&format!("too slow in emulation: what would come after {less} s"));
    Duration::from_secs(less)
}

/// A thousand changes a second for a minute make sixty thousand. A slower machine takes longer.
#[test]
fn nothing_fails_or_crosses_while_sixty_thousand_lists_change() {
    let mut churn = Churn::new(250);
    let churned = churn.run(60_000, time(180));
    assert_flawless(&churn, &churned);
}

/// Few changes at a time, and so as many grace periods and reused slots as possible.
#[test]
fn nothing_fails_or_crosses_while_two_thousand_tables_follow_each_other() {
    let mut churn = Churn::new(1);
    let churned = churn.run(8_000, time(120));
    assert_flawless(&churn, &churned);
}

fn assert_flawless(churn: &Churn, churned: &Churned) {
    let Churned { changes, tables, took, tallies } = churned;
    let connections: u64 = tallies.iter().map(Tally::total).sum();
    println!(
        "{connections} connections, {changes} changes in {tables} tables, {took:.1?}: {:.0} changes/s",
        *changes as f64 / took.as_secs_f64()
    );
    tallies.iter().for_each(Tally::assert_flawless);
    churn.assert_cursors(tallies);
}

/// A short version of `cargo xtask soak`, which runs as long as one likes.
#[test]
fn nothing_fails_or_crosses_while_run_is_killed_all_the_time() {
    let mut churn = Churn::new(250);
    let soaked = churn.soak(Duration::from_secs(15), |_, _| {});
    soaked.tallies.iter().for_each(Tally::assert_flawless);
    assert!(soaked.kills > 2 && soaked.changes > 0 && soaked.disturbances > 2, "{soaked:?}");
    churn.assert_repaired();
    churn.assert_cursors(&soaked.tallies);
}
