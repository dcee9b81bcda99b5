//! Crashes of `vipnat run` while it makes a change of its file. It is killed, or fails, at each operation of
//! the change. `run` or `apply` completes it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use vipnat_testkit::{
    Following,
    faults::{Attached, Operation, Thread},
    patient,
};

use super::{
    points::{errors, sample},
    stage::{NOTHING, Stage, Table},
};
use crate::{
    scene::list,
    settle::{self, PAUSE},
};

/// The time for which `run` must do nothing more after a change.
const QUIET: Duration = Duration::from_millis(100);

/// Apps that `run` follows from one table to another, and back.
struct Shuttle {
    stage: Stage,
    tables: [Table; 2],
    /// The states that fresh applies of the tables leave.
    fresh: [String; 2],
}

impl Shuttle {
    fn new(stage: Stage, tables: [Table; 2]) -> Self {
        let fresh = [0, 1].map(|table| stage.fresh(&tables[table]));
        Self { stage, tables, fresh }
    }

    fn follow(&self, table: usize) -> Following {
        let run = self.stage.scene.vipnat.follow(&self.tables[table].text, &[]);
        self.becomes(table, "run was started");
        run
    }

    #[track_caller]
    fn becomes(&self, table: usize, context: &str) {
        settle::becomes(|| self.state(), &self.fresh[table], settle::CHANGE, context);
    }

    fn state(&self) -> String {
        self.stage.dump_beside_run()
    }

    fn change_to(&self, table: usize) {
        self.stage.scene.vipnat.replace_table(&self.tables[table].text);
    }

    /// The operations by which `run` changes to a table.
    fn operations(&self, run: &Following, to: usize) -> Vec<(Thread, Operation)> {
        let recording = Attached::recording(run.pid(), self.stage.scene.vipnat.bpffs());
        self.change_to(to);
        self.becomes(to, "without a fault");
        sleep(QUIET);
        recording.detach().operations
    }

    /// Changes to a table with a fault at an operation. Gives the operation that was hit, if any was.
    fn strike(
        &self,
        run: &Following,
        to: usize,
        at: &(Thread, Operation),
        fault: &str,
    ) -> Option<Operation> {
        let attached = Attached::striking(run.pid(), self.stage.scene.vipnat.bpffs(), at, fault);
        self.change_to(to);
        let deadline = Instant::now() + patient(settle::CHANGE);
        let mut done = 0;
        // The operation may not come: what `run` does besides a change differs.
        while attached.struck().is_none() && done < 10 {
            assert!(Instant::now() < deadline, "{to}: {at:?} does not come");
            sleep(PAUSE);
            done = if self.state() == self.fresh[to] { done + 1 } else { 0 };
        }
        attached.detach().struck
    }
}

/// One app gets other backends, one is removed, and one is added.
fn apps_come_and_go() -> Shuttle {
    let stage = Stage::new(3);
    let before = stage.table(
        &[("a", 0, list([0, 1]), ""), ("b", 1, list([2]), "")],
        &["0 0 1 1", "2 2 2 2", NOTHING],
    );
    let after = stage.table(
        &[("a", 0, list([1, 2]), ""), ("c", 2, list([3]), "protocol = \"tcp\"")],
        &["1 1 2 2", NOTHING, "3 3 3 3"],
    );
    Shuttle::new(stage, [before, after])
}

/// One service of two apps gets other backends, and one of the apps another limit.
fn backends_change() -> Shuttle {
    let stage = Stage::new(2);
    let before = stage
        .table(&[("a", 0, list([0, 1]), ""), ("b", 1, list([2]), "")], &["0 0 1 1", "2 2 2 2"]);
    let after = stage.table(
        &[("a", 0, list([3]), "port = 5432"), ("b", 1, list([2, 3]), "")],
        &["3 3 3 3", "2 2 3 3"],
    );
    Shuttle::new(stage, [before, after])
}

/// `run` is killed at each operation of a change. Then `run`, or `apply` before it, completes the change.
fn killed(shuttle: &Shuttle) {
    let began = Instant::now();
    let Shuttle { stage, tables, .. } = shuttle;
    let mut run = shuttle.follow(0);
    let operations = shuttle.operations(&run, 1);
    shuttle.change_to(0);
    shuttle.becomes(0, "back");
    let (mut from, mut hit) = (0, 0);
    for (number, at) in sample(&operations).into_iter().enumerate() {
        // The way back makes changes of the same kinds.
        let to = 1 - from;
        let Some(struck) = shuttle.strike(&run, to, at, "signal=KILL") else {
            from = to;
            continue;
        };
        hit += 1;
        let context = format!("killed at {struck}, to {to}");
        assert!(!run.ends().success(), "{context}");
        stage.works(&[&tables[0], &tables[1]], &[], &context);
        if number % 4 == 0 {
            stage.apply(&tables[to]);
            shuttle.becomes(to, &context);
        }
        drop(run);
        run = stage.scene.vipnat.follow(&tables[to].text, &[]);
        shuttle.becomes(to, &context);
        from = to;
    }
    println!("{hit} of {} operations in {:?}", operations.len(), began.elapsed());
    assert!(hit * 2 > operations.len(), "{hit} of {operations:#?}");
}

/// Each operation of a change fails once. `run` goes on, and completes the change.
fn failed(shuttle: &Shuttle) {
    let began = Instant::now();
    let Shuttle { stage, tables, .. } = shuttle;
    let mut run = shuttle.follow(0);
    let operations = shuttle.operations(&run, 1);
    shuttle.change_to(0);
    shuttle.becomes(0, "back");
    // The test locks the state too, so the number of attempts differs. The unlock can't fail.
    let lock = |at: &usize| operations[*at].1.what.starts_with("flock");
    let faults = |at: usize| errors(&operations[at].1).into_iter().map(move |error| (at, error));
    let (mut from, mut hit) = (0, 0);
    let faults = sample((0..operations.len()).filter(|at| !lock(at)).flat_map(faults));
    for (at, error) in &faults {
        let to = 1 - from;
        let fault = format!("error={error:?}");
        if let Some(struck) = shuttle.strike(&run, to, &operations[*at], &fault) {
            hit += 1;
            let context = format!("failed at {struck}, to {to}");
            stage.works(&[&tables[0], &tables[1]], &[], &context);
            // It would try again after a second.
            run.signal(Signal::SIGHUP);
            shuttle.becomes(to, &context);
        }
        from = to;
    }
    let said = run.says_meanwhile(QUIET);
    assert!(!said.iter().any(|line| line.contains("panicked")), "{said:#?}");
    println!("{hit} of {} faults in {:?}", faults.len(), began.elapsed());
    assert!(hit * 2 > faults.len(), "{hit} of {operations:#?}");
}

#[test]
fn killed_in_run_while_backends_change() {
    killed(&backends_change());
}

#[test]
fn failed_in_run_while_backends_change() {
    failed(&backends_change());
}

#[test]
fn killed_in_run_while_apps_come_and_go() {
    killed(&apps_come_and_go());
}

#[test]
fn failed_in_run_while_apps_come_and_go() {
    failed(&apps_come_and_go());
}
