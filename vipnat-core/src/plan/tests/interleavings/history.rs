//! A history: one apply after the other, and the tables that are current at each moment.

use std::{collections::BTreeSet, convert::Infallible};

use super::{
    memory::{Atom, Memory, Name},
    protocol::{Kind, Protocol},
    scenario::{Agent, Apply, Scenario},
    writer::{Crash, Writer},
};
use crate::{
    model::Mapping,
    plan::{LiveMaps, Plan, Reclaim, Step, execute},
};

/// All applies of a scenario, carried out by a writer.
pub(super) struct History {
    writer: Writer,
    /// Each apply, and the range of its atoms.
    applies: Vec<(Apply, std::ops::Range<usize>)>,
    agent: Option<Agent>,
    /// The maps as the agent knows them; `None` after a crash.
    live: Option<LiveMaps>,
    /// The reclaim for which the agent waits, and the number of changes since the wait began.
    waits: Option<(Reclaim, usize)>,
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
        let Scenario { tables, applies, protocol, agent, moves, .. } = scenario;
        let mut history = Self {
            writer: Writer::new(*protocol),
            applies: vec![],
            agent: *agent,
            live: None,
            waits: None,
            moves: false,
        };
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

    /// Makes a table. The agent changes what differs, unless it has to begin anew.
    fn change(&mut self, mappings: &[Mapping]) -> Result<(), Crash> {
        match self.live.take() {
            // After a crash, there is none.
            Some(live) => self.change_live(live, mappings)?,
            None => {
                self.waits = None;
                self.change_all(mappings)?;
                self.live = self.agent.map(|_| LiveMaps::new(self.writer.now().snapshot()));
            }
        }
        let again = Plan::new(&self.writer.now().snapshot(), mappings, |_| true).unwrap();
        assert_eq!(again, Plan::default());
        Ok(())
    }

    /// Repairs, reclaims and changes, as vipnat does. It reclaims each time, so that slots are used
    /// again as soon as possible.
    fn change_all(&mut self, mappings: &[Mapping]) -> Result<(), Crash> {
        let tidy = Plan::tidy(&self.writer.now().snapshot());
        self.writer.run(tidy.steps())?;
        assert_eq!(Plan::tidy(&self.writer.now().snapshot()), Plan::default());
        let reclaim = Reclaim::new(&self.writer.now().snapshot());
        self.writer.run(reclaim.steps())?;
        let plan = Plan::new(&self.writer.now().snapshot(), mappings, |_| true).unwrap();
        self.execute(&plan, None)
    }

    /// Changes as the agent does. It begins to wait for a reclaim, makes the change meanwhile, and reclaims
    /// after it, so that slots are used again as soon as possible.
    fn change_live(&mut self, mut live: LiveMaps, mappings: &[Mapping]) -> Result<(), Crash> {
        let waits = self.writer.protocol != Protocol::Without(Kind::Wait);
        if self.waits.is_none() {
            let reclaim = live.reclaim();
            if waits {
                self.writer.begin_wait()?;
            }
            self.waits = Some((reclaim, 0));
        }
        let old = live.snapshot().mappings();
        let name = |mapping: &Mapping| (mapping.app_id, mapping.vip);
        let differs = |mapping: &&Mapping| old.get(&name(mapping)) != Some(*mapping);
        let new: Vec<_> = mappings.iter().filter(differs).cloned().collect();
        let kept: BTreeSet<_> = mappings.iter().map(name).collect();
        let gone = old.keys().filter(|name| !kept.contains(name)).copied();
        let vips = new.iter().map(name).chain(gone).collect();
        let plan = live.plan(&vips, &new).unwrap();
        self.execute(&plan, Some(&mut live))?;
        let Agent { changes, looks_late } = self.agent.expect("an agent");
        if let Some((reclaim, since)) = self.waits.take() {
            if since + 1 < changes {
                self.waits = Some((reclaim, since + 1));
            } else {
                if waits {
                    self.writer.end_wait();
                }
                let reclaim = if looks_late { live.reclaim() } else { reclaim };
                self.run(reclaim.steps_after_waiting(), Some(&mut live))?;
            }
        }
        assert_eq!(live.snapshot(), &self.writer.now().snapshot());
        self.live = Some(live);
        Ok(())
    }

    fn execute(&mut self, plan: &Plan, mut live: Option<&mut LiveMaps>) -> Result<(), Crash> {
        if !self.moves {
            return self.run(plan.steps(), live);
        }
        self.run(plan.steps_before_attaching(), live.as_deref_mut())?;
        self.writer.attach();
        self.run(plan.steps_after_attaching(true), live)
    }

    /// Carries steps out, on the maps and then on those that the agent keeps.
    fn run(&mut self, steps: Vec<Step<'_>>, live: Option<&mut LiveMaps>) -> Result<(), Crash> {
        self.writer.run(steps.clone())?;
        if let Some(live) = live {
            let Ok::<(), Infallible>(()) = execute(&self.writer.protocol.arrange(steps), live);
        }
        Ok(())
    }

    /// For each moment: the end of the first wait that a reader delays if it begins at that moment. Such a wait
    /// begins later. A wait may end inside another one.
    pub(super) fn barriers(&self) -> Vec<usize> {
        let atoms = self.atoms();
        let (mut open, mut waits) = (vec![], vec![]);
        for (at, atom) in atoms.iter().enumerate() {
            match atom {
                Atom::WaitBegins => open.push(at),
                Atom::WaitEnds => waits.extend(open.pop().map(|begin| (begin, at))),
                _ => {}
            }
        }
        let first = |from: usize| {
            let later = waits.iter().filter(|(begin, _)| *begin >= from);
            later.map(|(_, end)| *end).min().unwrap_or(usize::MAX)
        };
        (0..=atoms.len()).map(first).collect()
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
