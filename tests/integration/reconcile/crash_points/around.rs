//! Faults outside a command: file systems and cgroups that disappear, full maps, failing reads.

use std::{process::Command, time::Instant};

use vipnat_testkit::{
    Cgroup, Vipnat,
    faults::{Operation, Stopped},
    outcome, state,
};

use super::{
    points::{asks_the_kernel, operations, sample},
    stage::{NOTHING, Stage, Table, same},
};
use crate::scene::{list, strace, table, too_much};

/// Every operation of a command after it has locked the state directory.
fn once_locked(operations: &[Operation]) -> impl Iterator<Item = &Operation> {
    operations.iter().skip_while(|operation| !operation.what.starts_with("flock"))
}

/// The file system with the state is unmounted, in a mount namespace of the command's own. Other processes
/// still see it.
#[test]
fn bpffs_is_lost_on_the_way() {
    let began = Instant::now();
    let stage = Stage::new(3);
    let before = stage.table(
        &[("a", 0, list([0, 1]), ""), ("b", 1, list([2]), "")],
        &["0 0 1 1", "2 2 2 2", NOTHING],
    );
    let after = stage.table(
        &[("a", 0, list([1]), ""), ("c", 2, list([3]), "")],
        &["1 1 1 1", NOTHING, "3 3 3 3"],
    );
    let fresh = stage.fresh(&after);
    let command = || {
        let apply = stage.apply_command(&after);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--"]).arg(apply.get_program()).args(apply.get_args());
        command
    };
    stage.apply(&before);
    let operations = operations(&command());
    // After it has the lock, the command checks that the directory is still there. If not, it begins again,
    // in a new bpffs.
    let points = once_locked(&operations).skip(1).filter(|operation| !asks_the_kernel(operation));
    let mut count = 0;
    for operation in sample(points) {
        stage.apply(&before);
        let stopped = Stopped::after(&command(), operation);
        let mut umount = Command::new("nsenter");
        umount.args(["--mount", "--target", &stopped.process().to_string()]);
        umount.args(["umount", "--lazy", "/sys/fs/bpf"]);
        let umounted = outcome(&mut umount);
        assert!(umounted.status.success(), "{umounted}");
        let outcome = stopped.resume();
        let context = format!("lost after {operation}");
        println!("{context}: {}", outcome.stderr.trim_end());
        stage.works(&[&before, &after], &[], &context);
        if outcome.code() == Some(0) {
            same(&stage.dump(), &fresh, &context);
        } else {
            assert_eq!(outcome.code(), Some(1), "{context}: {outcome}");
            let directory = stage.scene.vipnat.bpffs().display().to_string();
            assert!(outcome.stderr.contains(&directory), "{context}: {outcome}");
        }
        stage.is_repaired(&after, &fresh, &context);
        count += 1;
    }
    println!("{count} points in {:?}", began.elapsed());
}

/// The cgroup of an app is removed after each operation of the apply that attaches it.
#[test]
fn a_cgroup_is_removed_on_the_way() {
    let began = Instant::now();
    let stage = Stage::new(1);
    let container = || stage.scene.app.cgroup.child("container");
    let other = ("a", stage.scene.app.cgroup.relative(), list([0, 1]), "");
    let new = container();
    let relative = new.relative().to_owned();
    let before = Table { text: table(&[("a", other.1, &list([2]), "")]), sees: vec!["2 2 2 2"] };
    let text = table(&[("a", other.1, &other.2, ""), ("b", &relative, &list([3]), "")]);
    let after = Table { text, sees: vec!["0 0 1 1"] };
    let dump = |container: &Cgroup| {
        state::dump(&stage.scene.vipnat, &[&stage.scene.app.cgroup, container])
    };
    let fresh = {
        let vipnat = Vipnat::new();
        vipnat.apply(&after.text);
        state::dump(&vipnat, &[&stage.scene.app.cgroup, &new])
    };
    stage.apply(&before);
    let operations = operations(&stage.apply_command(&after));
    let points = once_locked(&operations).filter(|operation| !asks_the_kernel(operation));
    let mut count = 0;
    drop(new);
    for operation in sample(points) {
        stage.apply(&before);
        let gone = container();
        let stopped = Stopped::after(&stage.apply_command(&after), operation);
        drop(gone);
        let outcome = stopped.resume();
        let context = format!("removed after {operation}");
        println!("{context}: {}", outcome.stderr.trim_end());
        stage.works(&[&before, &after], &[], &context);
        if outcome.code() != Some(0) {
            assert_eq!(outcome.code(), Some(1), "{context}: {outcome}");
            assert!(outcome.stderr.contains(&relative), "{context}: {outcome}");
        }
        // The table cannot be applied without the cgroup.
        let absent = stage.dump();
        let error = stage.scene.vipnat.apply_fails(&after.text, 1);
        assert!(error.contains("does not exist"), "{context}: {error}");
        same(&stage.dump(), &absent, &context);
        let again = container();
        stage.apply(&after);
        same(&dump(&again), &fresh, &context);
        assert_eq!(stage.apply(&after), "nothing to change\n", "{context}");
        count += 1;
    }
    println!("{count} points in {:?}", began.elapsed());
}

/// New lists need room besides the old ones.
#[test]
fn a_table_for_which_no_map_is_large_enough_changes_nothing() {
    let stage = Stage::new(1);
    let small = stage.table(&[("a", 0, list([0, 1]), "")], &[]).text;
    let vipnat = &stage.scene.vipnat;
    vipnat.apply(&small);
    let before = stage.dump();
    let error = vipnat.apply_fails(&(small.clone() + &too_much("a")), 1);
    assert!(error.contains("map `backends`"), "{error}");
    same(&stage.dump(), &before, "no map is large enough");
    assert_eq!(stage.sees(), ["0 0 1 1"]);
    assert_eq!(vipnat.apply(&small), "nothing to change\n");
}

/// Such an error once made an apply take the state for another layout, and make everything anew.
#[test]
fn what_cannot_be_read_is_not_taken_for_another_layout() {
    let stage = Stage::new(1);
    let table = stage.table(&[("a", 0, list([0, 1]), "")], &[]);
    stage.apply(&table);
    let before = stage.dump();
    let mut failed = 0;
    for nth in 1.. {
        let inject = format!("inject=bpf:error=ENOMEM:when={nth}");
        let apply = stage.apply_command(&table);
        let applied = outcome(&mut strace(&apply, &["-e", "trace=bpf", "-e", &inject]));
        assert!(!applied.stdout.contains('~'), "{nth}: {applied}");
        if applied.status.success() && !applied.stderr.contains("(INJECTED)") {
            break;
        }
        failed += usize::from(applied.code() == Some(1));
    }
    assert!(failed > 20, "{failed}");
    same(&stage.dump(), &before, "nothing was to be changed");
}
