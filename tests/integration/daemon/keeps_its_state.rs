//! After any sequence of changes, `vipnat run` leaves the state that a fresh `apply` of the last table leaves.

use std::{env, thread, time::Duration};

use nix::sys::signal::Signal;
use vipnat_testkit::{NetNs, emulated, left_out};

use super::{follow::QUIET, followed::Followed, random_table::RandomTable};
use crate::{choice::Choice, scene::too_much};

/// The environment variable with the seed of other steps.
const SEED: &str = "VIPNAT_SEED";

/// A table that changes at random, and the state that it should leave.
struct Walk {
    followed: Followed,
    table: RandomTable,
    expected: String,
    seed: u64,
    /// The steps so far, printed when the test fails.
    steps: Vec<String>,
}

impl Walk {
    fn start(seed: u64, choice: &mut Choice) -> Self {
        let table = RandomTable::new(choice);
        let followed = Followed::start(&NetNs::new(), &table.cgroups, &table.text());
        let expected = followed.fresh(&table.text_of_existing());
        followed.becomes(&expected, "the first table");
        Self { followed, table, expected, seed, steps: Vec::new() }
    }

    /// Checks that `run` keeps the last table, although its file has another one now.
    fn is_refused(&mut self, text: &str, reason: Option<&str>) {
        self.followed.becomes(&self.expected, "the table before");
        self.followed.change(text);
        match reason {
            Some(reason) => {
                self.followed.run.wait_for(|line| line.contains(reason));
                self.followed.run.wait_for(|line| line.contains("the previous table stays"));
            }
            // It reports a reason only once, so the report may have come before.
            None => thread::sleep(Duration::from_millis(20)),
        }
        self.followed.becomes(&self.expected, "a table that is refused");
    }

    /// Writes a table with a mistake, or one that is too large. Each has a reason of its own.
    fn refuse(&mut self, choice: &mut Choice) {
        let number = self.steps.len();
        let text = self.table.text();
        if choice.one_in(2) {
            self.steps.push("a mistake".to_owned());
            self.is_refused(&format!("{text}nonsense{number} = 1\n"), Some("table.toml:"));
        } else {
            self.steps.push("too large".to_owned());
            let mut text = text + "[apps.large]\n" + &too_much("large");
            for more in 0..number {
                text += &format!("[apps.large.relationships.more{more}]\nservice = \"large\"\n");
            }
            self.is_refused(&text, Some("map `backends`"));
        }
    }

    /// Makes a step. Waits for its end if `waits`. Compares with a state that had none before if `fresh`.
    fn step(&mut self, choice: &mut Choice, waits: bool, fresh: bool) {
        let mut next = self.table.clone();
        if choice.one_in(5) {
            let cgroup = next.change_cgroups(choice);
            let comes = next.cgroups.contains(&cgroup);
            self.steps.push(format!("{cgroup} {}", if comes { "comes" } else { "goes" }));
            if comes { self.followed.make(cgroup) } else { self.followed.remove(cgroup) }
        } else {
            self.steps.push(next.step(choice));
        }
        let text = next.text_of_existing();
        let applied = self.followed.other.apply(&text);
        if applied.code() == Some(2) {
            // For example, two relationships on one VIP differ.
            self.steps.push("which is refused".to_owned());
            return self.is_refused(&next.text(), None);
        }
        assert_eq!(applied.code(), Some(0), "{applied}");
        self.table = next;
        self.followed.change(&self.table.text());
        self.expected = if fresh { self.followed.fresh(&text) } else { self.followed.other.dump() };
        if waits {
            self.followed.becomes(&self.expected, "the last step");
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { followed: _, table, expected: _, seed, steps } = self;
            eprintln!("seed {seed}, step {}: {steps:?}\n{}", steps.len(), table.text());
        }
    }
}

/// Follows a table through random steps, and compares the state with that of `apply` after nearly each.
fn walk(seed: u64, steps: usize) {
    let mut choice = Choice::new(seed);
    let mut walk = Walk::start(seed, &mut choice);
    for number in 0..steps {
        if choice.one_in(15) {
            walk.refuse(&mut choice);
        }
        // `run` reads some changes together.
        let waits = !choice.one_in(4);
        walk.step(&mut choice, waits, number % 10 == 0);
    }
    let Walk { followed, table, .. } = &mut walk;
    // The file has the last valid table again.
    followed.follows(&table.text_of_existing(), "the last table");
    let said = followed.run.says_meanwhile(QUIET);
    followed.run.signal(Signal::SIGHUP);
    assert_eq!(followed.run.says_meanwhile(QUIET), [""; 0], "nothing was left to do");
    // `run` did not take its own work for that of others.
    let repairs = |line: &str| line.contains("another program changed the state");
    assert!(!said.iter().any(|line| repairs(line)) && !followed.run.has_said(repairs), "{said:#?}");
}

#[test]
fn any_sequence_of_changes_leaves_what_a_fresh_apply_leaves() {
    let steps = if emulated() { 15 } else { 150 };
    if emulated() {
        left_out("too slow in emulation: nine of ten steps");
    }
    let seed = env::var(SEED).map_or(1, |seed| seed.parse().expect("a seed is a number"));
    walk(seed, steps);
}
