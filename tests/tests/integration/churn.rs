//! The concurrency guarantee: a connect reaches a backend that its own VIP had in the old table or has
//! in the new one, never another.

use std::time::Duration;

use vipnat_tests::{Churn, Churned};

/// A thousand a second for a minute; on a machine that is slower, for longer.
#[test]
fn nothing_fails_or_crosses_while_sixty_thousand_lists_change() {
    let mut churn = Churn::new();
    let Churned { changes, tables, took, tallies } = churn.run(60_000, Duration::from_secs(180));
    let connections: u64 = tallies.iter().map(vipnat_tests::Tally::total).sum();
    println!(
        "{connections} connections, {changes} changes in {tables} tables, {took:.1?}: {:.0} changes/s",
        changes as f64 / took.as_secs_f64()
    );
    tallies.iter().for_each(vipnat_tests::Tally::assert_flawless);
    churn.assert_cursors(&tallies);
}
