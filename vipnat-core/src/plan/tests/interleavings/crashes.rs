//! Crashes after each write of an apply.

use super::{history::writes, scenario::Scenario};

/// The scenario up to one of its tables, once for each number of writes after which the command can crash.
/// The next table follows, if there is one; in a second scenario, the same table follows again.
pub(super) fn crashes(scenario: &Scenario, table: usize) -> Vec<Scenario> {
    let Scenario { name, tables, protocol, agent, misses, empty_attempts, .. } = scenario;
    let whole = Scenario { agent: *agent, ..Scenario::of(name, tables[..=table].to_vec()) };
    let mut all = Vec::new();
    for next in [tables.get(table + 1), tables.get(table)].into_iter().flatten() {
        let tables = [&whole.tables[..], std::slice::from_ref(next)].concat();
        let empty_attempts = *empty_attempts || table > 1;
        let crashed = Scenario {
            protocol: *protocol,
            agent: *agent,
            misses: *misses,
            empty_attempts,
            ..Scenario::of(name, tables)
        };
        for crash in 0..writes(&whole) {
            let mut crashed = crashed.clone();
            crashed.applies[table - 1].crash = Some(crash);
            all.push(crashed);
        }
    }
    all
}
