//! Runs scenarios, and shows the results.

use super::{
    explore::{Explorer, Tally, Violation},
    history::History,
    questions::connect,
    reader::Question,
    scenario::Scenario,
};

/// Runs all schedules of a scenario.
pub(super) fn run(scenario: &Scenario, questions: &[Question]) -> Result<Tally, Violation> {
    let history = History::new(scenario);
    Explorer::new(scenario, &history, questions).explore()
}

/// Panics if any schedule gives a wrong answer.
pub(super) fn holds(scenario: &Scenario, questions: &[Question]) -> Tally {
    run(scenario, questions).unwrap_or_else(|violation| {
        let Scenario { name, applies, protocol, .. } = scenario;
        let (what, schedule) = (&violation.what, violation.schedule());
        panic!("{name}, {protocol:?}, {applies:?}, {questions:?}:\n{schedule}{what}")
    })
}

/// The first wrong answer to a connect of the first app, or of the second one.
pub(super) fn wrong(scenario: &Scenario) -> Option<String> {
    let questions = [connect(1), connect(2)].into_iter();
    let mut violations = questions.filter_map(|question| run(scenario, &[question]).err());
    violations.next().map(|violation| violation.what)
}

/// Prints the numbers; `--nocapture` shows them.
pub(super) fn report(what: &str, total: Tally) {
    let Tally { schedules, unsettled, ended, states } = total;
    println!(
        "{what}: {schedules} schedules, {unsettled} with an unsettled decision, {ended} with a flow \
         that ends; {states} states"
    );
}
