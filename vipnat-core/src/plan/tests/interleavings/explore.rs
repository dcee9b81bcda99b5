//! Runs every schedule of a writer and of readers, one reader after the other.
//!
//! In each state, either the writer or the reader takes the next step. The explorer visits each state
//! once, and then knows the number of schedules that begin there.

use std::{collections::HashMap, ops::AddAssign};

use vipnat_common::{Verdict, VipKey};

use super::{
    check::{Asking, Run},
    history::{Current, History},
    memory::{Atom, Memory, WORDS},
    protocol::Protocol,
    reader::{Access, Answer, Next, Question, Told},
    scenario::Scenario,
    state::{At, Attempt, Began, Progress, State},
};

/// The number of turns that each VIP of the first table has given.
const TURNS: u8 = 3;

/// The number of schedules, and the number of those that end without a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) schedules: u128,
    /// Decisions that stay unsettled.
    pub(super) unsettled: u128,
    /// Flows that end.
    pub(super) ended: u128,
    /// The number of states.
    pub(super) states: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let Self { schedules, unsettled, ended, states } = other;
        // Two decisions beside an agent have more schedules than a number can hold.
        self.schedules = self.schedules.saturating_add(schedules);
        self.unsettled = self.unsettled.saturating_add(unsettled);
        self.ended = self.ended.saturating_add(ended);
        self.states += states;
    }
}

/// A wrong answer, and the schedule that leads to it, with the last step first.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) what: String,
    schedule: Vec<String>,
}

impl Violation {
    fn new(what: String) -> Self {
        Self { what, schedule: vec![] }
    }

    fn after(mut self, step: String) -> Self {
        self.schedule.push(step);
        self
    }

    /// The schedule, one step a line.
    pub(super) fn schedule(&self) -> String {
        self.schedule.iter().rev().map(|step| format!("  {step}\n")).collect()
    }
}

pub(super) struct Explorer<'a> {
    history: &'a History,
    barriers: Vec<usize>,
    asking: Vec<Asking>,
    /// The number of looks of a decision that may miss an entry which is there all the time.
    misses: u32,
    /// See [`Scenario::empty_attempts`].
    empty_attempts: bool,
    known: HashMap<State, Tally>,
}

impl<'a> Explorer<'a> {
    pub(super) fn new(scenario: &Scenario, history: &'a History, questions: &[Question]) -> Self {
        let asking = questions.iter().map(|question| Asking::new(scenario, history, *question));
        Self {
            history,
            barriers: history.barriers(),
            asking: asking.collect(),
            misses: scenario.misses,
            empty_attempts: scenario.empty_attempts,
            known: HashMap::new(),
        }
    }

    /// Runs all schedules, up to the end of the last reader.
    pub(super) fn explore(mut self) -> Result<Tally, Violation> {
        let named_by = self.history.moments()[0].named_by;
        let given = named_by.map(|name| if name.is_some() { TURNS } else { 0 });
        let progress = Progress::default();
        let start = State { moment: 0, reader: 0, progress, cursors: given, given };
        let mut tally = self.visit(start)?;
        tally.states = self.known.len();
        Ok(tally)
    }

    fn visit(&mut self, state: State) -> Result<Tally, Violation> {
        if state.reader == self.asking.len() {
            return Ok(Tally { schedules: 1, ..Tally::default() });
        }
        if let Some(tally) = self.known.get(&state) {
            return Ok(*tally);
        }
        let mut tally = Tally::default();
        if let Some(next) = self.write(state) {
            let atom = self.history.atoms()[state.moment];
            tally += self.visit(next).map_err(|violation| violation.after(format!("{atom:?}")))?;
        }
        for (next, told) in self.read(state).map_err(Violation::new)? {
            let visited = match told {
                None => self.visit(next),
                Some(told) => self.told(next, told),
            };
            tally += visited.map_err(|violation| {
                let access = self.access(&state);
                violation.after(match told {
                    None => format!("    {access:?}: {:?}", next.progress.at),
                    Some(told) => format!("    {access:?}: {told:?}"),
                })
            })?;
        }
        self.known.insert(state, tally);
        Ok(tally)
    }

    fn memory(&self, state: &State) -> &Memory {
        &self.history.moments()[state.moment]
    }

    /// The access that the reader makes now.
    fn access(&self, state: &State) -> Access {
        match self.asking[state.reader].reader.next(state.progress.node) {
            Next::Access(access) => access,
            Next::Done(answer) => unreachable!("it asks for nothing more: {answer:?}"),
        }
    }

    /// The writer takes a step, if it can.
    fn write(&self, mut state: State) -> Option<State> {
        let atom = *self.history.atoms().get(state.moment)?;
        if let Some(began) = &mut state.progress.began {
            if began.barrier == state.moment {
                return None;
            }
            began.alone = false;
            state.progress.attempt.disturbed = true;
        }
        state.moment += 1;
        match atom {
            Atom::Reset(cursor) => state.cursors[cursor as usize] = 0,
            Atom::New(cursor, _) => state.given[cursor as usize] = 0,
            Atom::Link(_) | Atom::Unlink(_) => {
                if let (At::LooksUp { met, changed: _, absent }, Access::Range(key)) =
                    (state.progress.at, self.access(&state))
                {
                    let memory = self.memory(&state);
                    state.progress.at = At::LooksUp {
                        met: met | bits(&memory.chain),
                        changed: true,
                        absent: absent || memory.linked(&key).is_none(),
                    };
                }
            }
            _ => {}
        }
        Some(state)
    }

    /// The reader takes a step. Returns each possible state, with the reader's value if the access is done.
    fn read(&self, mut state: State) -> Result<Vec<(State, Option<Told>)>, String> {
        if state.progress.began.is_none() && self.history.has_moved(state.moment) {
            return Ok(vec![]);
        }
        let (began, barrier) = (state.progress.began, self.barriers[state.moment]);
        let current = self.asking[state.reader].current[state.moment];
        state.progress.began = began.or(Some(Began { current, barrier, alone: true }));
        Ok(match self.access(&state) {
            Access::Range(key) => self.look_up(state, &key),
            Access::Slot(index) => vec![self.read_word(state, index)],
            Access::Turn(cursor) => vec![self.take_turn(state, cursor)?],
        })
    }

    fn look_up(&self, mut state: State, key: &VipKey) -> Vec<(State, Option<Told>)> {
        let memory = self.memory(&state);
        let progress = &mut state.progress;
        match progress.at {
            At::Start => {
                if *key == self.asking[state.reader].head {
                    let Attempt { disturbed, empty, missed: _ } = progress.attempt;
                    let is_quiet = !(disturbed || empty && self.empty_attempts);
                    progress.quiet |= progress.node != 0 && is_quiet;
                    progress.attempt = Attempt::default();
                }
                let absent = memory.linked(key).is_none();
                progress.at = At::LooksUp { met: bits(&memory.chain), changed: false, absent };
                vec![(state, None)]
            }
            At::LooksUp { met, changed, absent } => {
                let is_hit = |i: &usize| met & (1 << i) != 0 && memory.elements[*i].0 == *key;
                let hits: Vec<_> = if changed {
                    (0..memory.elements.len()).filter(is_hit).collect()
                } else {
                    memory.linked(key).into_iter().collect()
                };
                let mut all = Vec::new();
                state.progress.attempt.empty = false;
                for element in hits {
                    state.progress.at = At::Holds(element);
                    all.push((state, None));
                }
                let progress = &mut state.progress;
                progress.at = At::Start;
                progress.attempt.empty = true;
                if !absent && !progress.attempt.missed {
                    progress.misses += 1;
                    progress.attempt.missed = true;
                }
                if absent || (changed && progress.misses <= self.misses) {
                    all.push((state, Some(Told::Range(None))));
                }
                all
            }
            At::Holds(element) => {
                progress.at = At::Start;
                let (_, range) = memory.elements[element];
                vec![(state, Some(Told::Range(Some(range.to_bytes()))))]
            }
            At::Reads(..) => unreachable!("it looks a key up"),
        }
    }

    fn read_word(&self, mut state: State, index: u32) -> (State, Option<Told>) {
        let (word, mut slot) = match state.progress.at {
            At::Reads(words, slot) => (words, slot),
            _ => (0, [0; 24]),
        };
        slot[word * 4..][..4].copy_from_slice(&self.memory(&state).word(index, word));
        if word + 1 < WORDS {
            state.progress.at = At::Reads(word + 1, slot);
            (state, None)
        } else {
            state.progress.at = At::Start;
            (state, Some(Told::Slot(slot)))
        }
    }

    /// Takes a turn. It must be one of the VIP's own, and the one after its last.
    fn take_turn(&self, mut state: State, cursor: u32) -> Result<(State, Option<Told>), String> {
        let cursor = cursor as usize;
        let to = self.asking[state.reader].to;
        let owner = self.memory(&state).named_by[cursor];
        if owner != Some((to.app, to.ip)) {
            return Err(format!("a turn of {owner:?} is taken for {to:?}"));
        }
        let (turn, given) = (state.cursors[cursor], state.given[cursor]);
        if turn != given {
            return Err(format!("after {given} turns, {to:?} gets turn {turn}"));
        }
        state.cursors[cursor] += 1;
        state.given[cursor] += 1;
        Ok((state, Some(Told::Turn(turn.into()))))
    }

    /// The reader goes on with the value that it got, perhaps to its end.
    fn told(&mut self, mut state: State, told: Told) -> Result<Tally, Violation> {
        let asking = &mut self.asking[state.reader];
        let progress = &mut state.progress;
        progress.node = asking.reader.tell(progress.node, told);
        let Next::Done(answer) = asking.reader.next(progress.node) else {
            return self.visit(state);
        };
        let Some(Began { current, barrier: _, alone }) = progress.began else {
            unreachable!("it was told something");
        };
        let Current { remembered, oldest, .. } = current;
        let Attempt { disturbed, empty, missed: _ } = progress.attempt;
        let run = Run {
            told: asking.reader.told(progress.node),
            current: Current { remembered, oldest, ..asking.current[state.moment] },
            torn: self.history.protocol() == Protocol::TornRanges,
            alone,
            may_retry: (disturbed || empty && self.empty_attempts) && !alone && !progress.quiet,
        };
        asking.check(answer, &run).map_err(Violation::new)?;
        let mut tally =
            self.visit(State { reader: state.reader + 1, progress: Progress::default(), ..state })?;
        match answer {
            Answer::Decided(Verdict::Retry) => tally.unsettled += tally.schedules,
            Answer::Rebound(None) => tally.ended += tally.schedules,
            _ => {}
        }
        Ok(tally)
    }
}

fn bits(chain: &[usize]) -> u16 {
    chain.iter().fold(0, |bits, element| bits | 1 << element)
}
