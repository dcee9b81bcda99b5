//! A history: one apply after the other, and the tables that are current at each moment.

use super::{
    memory::{Atom, Memory, Name},
    protocol::Protocol,
    scenario::{Apply, Scenario},
    writer::{Crash, Writer},
};
use crate::{
    model::Mapping,
    plan::{Plan, Reclaim},
};

/// All applies of a scenario, carried out by a writer.
pub(super) struct History {
    writer: Writer,
    /// Each apply, and the range of its atoms.
    applies: Vec<(Apply, std::ops::Range<usize>)>,
    /// Each apply attaches a cgroup.
    moves: bool,
}

/// The number of elements that the last apply writes.
pub(super) fn writes(scenario: &Scenario) -> usize {
    History::new(scenario).writer.written
}

impl History {
    /// The maps hold the first table from the start. The writer applies the others one after the other.
    pub(super) fn new(scenario: &Scenario) -> Self {
        let Scenario { tables, applies, protocol, moves, .. } = scenario;
        let mut history = Self { writer: Writer::new(*protocol), applies: vec![], moves: false };
        history.apply(&tables[0], Apply { table: 0, crash: None });
        let Writer { atoms, moments, .. } = &mut history.writer;
        moments.drain(..atoms.len());
        atoms.clear();
        history.applies.clear();
        history.moves = *moves;
        for apply in applies {
            history.apply(&tables[apply.table], *apply);
        }
        history
    }

    /// Each step of the writer.
    pub(super) fn atoms(&self) -> &[Atom] {
        &self.writer.atoms
    }

    /// The maps before each atom, and after the last one.
    pub(super) fn moments(&self) -> &[Memory] {
        &self.writer.moments
    }

    /// How the writer carries steps out.
    pub(super) fn protocol(&self) -> Protocol {
        self.writer.protocol
    }

    fn apply(&mut self, mappings: &[Mapping], apply: Apply) {
        let begin = self.atoms().len();
        self.writer.begin(apply.crash);
        let done = self.change(mappings);
        assert_eq!(done.is_err(), apply.crash.is_some(), "{apply:?}");
        self.applies.push((apply, begin..self.atoms().len()));
    }

    /// Repairs, reclaims and changes, as vipnat does. It reclaims each time, so that slots are used
    /// again as soon as possible.
    fn change(&mut self, mappings: &[Mapping]) -> Result<(), Crash> {
        let tidy = Plan::tidy(&self.writer.now().snapshot());
        self.writer.run(tidy.steps())?;
        assert_eq!(Plan::tidy(&self.writer.now().snapshot()), Plan::default());
        let reclaim = Reclaim::new(&self.writer.now().snapshot());
        self.writer.run(reclaim.steps())?;
        let plan = Plan::new(&self.writer.now().snapshot(), mappings, |_| true).unwrap();
        if self.moves {
            self.writer.run(plan.steps_before_attaching())?;
            self.writer.attach();
            self.writer.run(plan.steps_after_attaching(true))?;
        } else {
            self.writer.run(plan.steps())?;
        }
        let again = Plan::new(&self.writer.now().snapshot(), mappings, |_| true).unwrap();
        assert_eq!(again, Plan::default());
        Ok(())
    }

    /// For each moment: the end of the first wait that a reader delays if it begins at that moment.
    pub(super) fn barriers(&self) -> Vec<usize> {
        let atoms = self.atoms();
        let begins = |from: usize| (from..atoms.len()).find(|i| atoms[*i] == Atom::WaitBegins);
        (0..=atoms.len()).map(|from| begins(from).map_or(usize::MAX, |begin| begin + 1)).collect()
    }

    /// Whether a cgroup was attached before a moment.
    pub(super) fn has_moved(&self, moment: usize) -> bool {
        self.atoms()[..moment].contains(&Atom::Attach)
    }

    /// For each moment: the tables that are current for a VIP.
    pub(super) fn current(&self, (app_id, vip): Name) -> Vec<Current> {
        let (atoms, moments) = (self.atoms(), self.moments());
        let mut now = Current { remembered: 0, oldest: 0, newest: 0, coming: 0 };
        let mut all = vec![now];
        for (Apply { table, crash }, range) in &self.applies {
            let own = |element: usize, at: usize| {
                let (key, _) = moments[at].elements[element];
                (key.app_id(), key.vip) == (app_id, vip)
            };
            let touches = |at: &usize| match atoms[*at] {
                Atom::Link(element) | Atom::Unlink(element) => own(element, *at),
                _ => false,
            };
            let last = range.clone().rfind(touches);
            if last.is_none() && crash.is_none() {
                // Nothing changes for this VIP.
                (now.oldest, now.newest) = (*table, *table);
            }
            now.coming = *table;
            *all.last_mut().unwrap() = now;
            for at in range.clone() {
                // A reader may hold an element since its last use, and find the new key before it is linked.
                let fills = matches!(
                    atoms[at],
                    Atom::Key(_, key) if (key.app_id(), key.vip) == (app_id, vip)
                );
                if fills || touches(&at) {
                    now.newest = *table;
                }
                if Some(at) == last && crash.is_none() {
                    now.oldest = *table;
                }
                if at + 1 == range.end && crash.is_none() {
                    now.remembered = *table;
                }
                all.push(now);
            }
        }
        all
    }
}

/// The range of tables that readers may find for a VIP at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Current {
    /// The oldest one of which there may still be slots.
    pub(super) remembered: usize,
    /// The oldest one that a reader that begins may find.
    pub(super) oldest: usize,
    /// The newest one that a reader may find: its lists are complete.
    pub(super) newest: usize,
    /// The newest one of which there may be slots.
    pub(super) coming: usize,
}
