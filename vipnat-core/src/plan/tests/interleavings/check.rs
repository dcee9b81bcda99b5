//! Checks an answer against the tables that were current while the reader found it.

use vipnat_common::{Destination, Target, Verdict, VipKey};

use super::{
    history::{Current, History},
    reader::{Access, Answer, Question, Reader, Told},
    scenario::Scenario,
};
use crate::{
    model::Mapping,
    plan::tests::tables::{Seen, allowed},
};

/// A reader, and the answers that each table allows.
pub(super) struct Asking {
    pub(super) reader: Reader,
    pub(super) to: Destination,
    pub(super) head: VipKey,
    /// The tables that are current, for each moment.
    pub(super) current: Vec<Current>,
    /// The answers that each table allows.
    allowed: Vec<Vec<Seen>>,
    /// The backends that each table has for the VIP, on any port.
    backends: Vec<Vec<[u8; 4]>>,
}

/// How a reader came to its answer.
pub(super) struct Run {
    pub(super) told: Vec<(Access, Told)>,
    /// `remembered` and `oldest` are those of its begin, the others those of its end.
    pub(super) current: Current,
    /// Ranges are read in pieces. A count may then be that of another list: turns may be lost, or lead to
    /// another backend of the list.
    pub(super) torn: bool,
    /// The writer took no step while the reader ran.
    pub(super) alone: bool,
    /// The writer took a step in each attempt. [`Scenario::empty_attempts`] is the exception.
    pub(super) may_retry: bool,
}

impl Asking {
    pub(super) fn new(scenario: &Scenario, history: &History, question: Question) -> Self {
        let (Question::Decide(to) | Question::Rebind(to, _)) = question;
        let backends = |table: &Vec<Mapping>| {
            let own = table
                .iter()
                .filter(|mapping| mapping.app_id == to.app && mapping.vip.octets() == to.ip);
            own.flat_map(|mapping| &*mapping.turns).map(|turn| turn.ip.octets()).collect()
        };
        let mut current = history.current((to.app, to.ip));
        if scenario.moves {
            // The new table has other VIPs for the cgroup, but none in this app.
            current.iter_mut().for_each(|current| (current.oldest, current.newest) = (0, 0));
        }
        Self {
            reader: Reader::new(question, scenario.ignore_owner),
            to,
            head: VipKey::head(to.app, to.ip),
            current,
            allowed: scenario.tables.iter().map(|table| allowed(table, &to)).collect(),
            backends: scenario.tables.iter().map(backends).collect(),
        }
    }

    /// Explains why an answer is wrong, if it is.
    pub(super) fn check(&self, answer: Answer, run: &Run) -> Result<(), String> {
        let Current { remembered, oldest, newest, coming } = run.current;
        let (right, tables) = match (answer, self.reader.question) {
            (Answer::Decided(verdict), _) => {
                let tables = &self.allowed[oldest..=newest];
                (is_verdict_right(verdict, run, tables), tables)
            }
            (Answer::Rebound(target), Question::Rebind(_, had)) => {
                let tables = remembered..=coming;
                let backends = &self.backends[tables.clone()];
                let tables = &self.allowed[tables];
                (is_target_right(target, &had, run, tables, backends), tables)
            }
            _ => unreachable!("a question of one kind has an answer of the same"),
        };
        if right { Ok(()) } else { Err(format!("{answer:?} is in none of {tables:?}")) }
    }
}

/// A verdict must be one that a current table allows. A redirect takes one turn, and goes to the backend of
/// that turn. [`Verdict::Retry`] is right only if the reader had no quiet attempt.
fn is_verdict_right(verdict: Verdict, run: &Run, tables: &[Vec<Seen>]) -> bool {
    let turns = run.told.iter().filter_map(|(_, told)| match told {
        Told::Turn(turn) => Some(*turn as usize),
        _ => None,
    });
    let turns: Vec<_> = turns.collect();
    let due = usize::from(matches!(verdict, Verdict::Redirect(_)));
    match (verdict, &turns[..]) {
        _ if turns.len() != due && !run.torn => false,
        (Verdict::Redirect(_), [.., turn]) => {
            let is_turn = |seen: &[Seen]| seen[turn % seen.len()] == verdict.into();
            let is_one = |seen: &[Seen]| run.torn && seen.contains(&verdict.into());
            tables.iter().any(|seen| is_turn(seen) || is_one(seen))
        }
        (Verdict::Redirect(_), []) => false,
        (Verdict::Retry, _) => run.may_retry,
        (Verdict::Pass | Verdict::Unreachable, _) => {
            tables.iter().any(|table| table.contains(&verdict.into()))
        }
    }
}

/// A flow goes on to its own backend, as long as there may be slots of a table that has it. It ends
/// only if a current table does not have it, or if something changed.
///
/// While the writer frees a slot of a limited VIP, word by word, the slot may look like one for any port and
/// protocol. A flow that the limit excludes then goes on too, if the slot names its backend.
fn is_target_right(
    target: Option<Target>,
    had: &Target,
    run: &Run,
    tables: &[Vec<Seen>],
    backends: &[Vec<[u8; 4]>],
) -> bool {
    let own = Seen::Redirect(had.ip, had.port);
    let has_it = |table: &Vec<Seen>| table.contains(&own);
    match target {
        Some(target) => {
            let strict = had.is_strict();
            let freed = !run.alone && backends.iter().any(|table| table.contains(&had.ip));
            Seen::from(Verdict::Redirect(target)) == own
                && (strict || freed || tables.iter().any(has_it))
        }
        None => !had.is_strict() && (!run.alone || !tables.iter().all(has_it)),
    }
}
