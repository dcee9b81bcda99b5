//! The points at which a command can fail, and a run that fails at one of them.

use std::{io, os::unix::process::ExitStatusExt as _, path::Path, process::Command, time::Instant};

use nix::{
    errno::Errno,
    sys::{signal::Signal, utsname::uname},
};
use vipnat_testkit::{
    Outcome, emulated,
    faults::{self, Operation, Traced},
    left_out,
};

use super::stage::{Stage, Table};

/// The operations of a command that runs to its end.
pub(super) fn operations(command: &Command) -> Vec<Operation> {
    let Traced { outcome, operations, struck: _ } = faults::traced(command);
    assert!(outcome.status.success(), "{outcome}");
    operations
}

/// Whether it is one of the calls by which aya detects features of the kernel. They leave nothing behind. If
/// one fails, aya takes the feature for missing, and does without it, or fails later.
pub(super) fn asks_the_kernel(operation: &Operation) -> bool {
    let Operation { what, object, .. } = operation;
    let load = ["bpf BPF_BTF_LOAD", "bpf BPF_PROG_LOAD"].contains(&what.as_str());
    load && object.is_empty() || object.starts_with("aya_")
}

/// A fault at an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Kill,
    Error(Errno),
}

/// The errors that an operation may return.
pub(super) fn errors(operation: &Operation) -> Vec<Errno> {
    let Operation { what, object, .. } = operation;
    match what.as_str() {
        // This call can't fail: unlocking needs no memory (`flock_lock_inode` in fs/locks.c).
        "flock LOCK_UN" => vec![],
        "flock LOCK_EX|LOCK_NB" => vec![Errno::ENOLCK],
        "openat" | "write" => vec![Errno::ENOSPC],
        "bpf BPF_MAP_UPDATE_ELEM" if object == "vips" => vec![Errno::ENOMEM, Errno::E2BIG],
        _ => vec![Errno::ENOMEM],
    }
}

/// Every operation with each of its faults.
pub(super) fn points(operations: &[Operation], kill: bool) -> Vec<(usize, Fault)> {
    let faults = |operation: &Operation| match kill {
        true => vec![Fault::Kill],
        false => errors(operation).into_iter().map(Fault::Error).collect(),
    };
    let points = operations.iter().enumerate();
    points.flat_map(|(i, operation)| faults(operation).into_iter().map(move |it| (i, it))).collect()
}

/// All points. In emulation, where each takes seconds, only one in 40 of them; others on another kernel.
pub(super) fn sample<T>(points: impl IntoIterator<Item = T>) -> Vec<T> {
    const ONE_IN: usize = 40;

    let all: Vec<_> = points.into_iter().collect();
    if !emulated() || all.is_empty() {
        return all;
    }
    let count = all.len();
    let release = uname().unwrap().release().to_string_lossy().into_owned();
    let first = release.bytes().map(usize::from).sum::<usize>() % count.min(ONE_IN);
    let some: Vec<_> = all.into_iter().skip(first).step_by(ONE_IN).collect();
    left_out(&format!("too slow in emulation: {} of {count} points", count - some.len()));
    some
}

/// Runs a command with a fault at one of its operations.
#[track_caller]
pub(super) fn strike(
    command: &Command,
    operations: &[Operation],
    at: usize,
    fault: Fault,
) -> String {
    let Traced { outcome, operations: done, struck } = match fault {
        Fault::Kill => faults::killed(command, &operations[at]),
        // To get the verifier's message, aya loads a program again, ten times.
        Fault::Error(errno) if operations[at].what == "bpf BPF_PROG_LOAD" => {
            faults::failed_from(command, &operations[at], &format!("{errno:?}"))
        }
        Fault::Error(errno) => faults::failed(command, &operations[at], &format!("{errno:?}")),
    };
    let struck = struck.unwrap_or_else(|| panic!("nothing came to {}: {outcome}", operations[at]));
    let context = format!("{fault:?} at {at}, {struck}");
    match fault {
        Fault::Kill => {
            let signal = outcome.status.signal();
            assert_eq!(signal, Some(Signal::SIGKILL as i32), "{context}: {outcome}");
            assert_eq!(done.len(), at, "{context}: {done:#?}, before {operations:#?}");
        }
        Fault::Error(errno) => is_reported(&outcome, &struck, errno, &context),
    }
    context
}

/// Checks that the error names the failed operation and the reason, unless the fault did no harm.
#[track_caller]
fn is_reported(outcome: &Outcome, operation: &Operation, errno: Errno, context: &str) {
    assert!(!outcome.stderr.contains("panicked"), "{context}: {outcome}");
    if outcome.code() == Some(0) {
        println!("{context}: did no harm: {}", outcome.stderr.trim_end());
        return;
    }
    assert_eq!(outcome.code(), Some(1), "{context}: {outcome}");
    println!("{context}: {}", outcome.stderr.trim_end());
    let error = &outcome.stderr;
    assert!(error.starts_with("vipnat: cannot "), "{context}: {error}");
    // aya opens kept maps in any order, so the fault may hit another one. If aya can't open a pin, it tries
    // to make it, and reports that it exists.
    if asks_the_kernel(operation) || operation.what == "bpf BPF_OBJ_GET" {
        return;
    }
    assert!(error.contains(&io::Error::from(errno).to_string()), "{context}: {error}");
    let parts: Vec<_> = error.split(": ").collect();
    assert!(parts.windows(2).all(|pair| pair[0] != pair[1]), "{context}: says it once: {error}");
    // For one of many files, the name of their directory is enough. For the name index, its kind is enough.
    let object = Path::new(&operation.object);
    let named = |path: &Path| error.contains(&*path.to_string_lossy());
    let named = match object.is_absolute() {
        true if object.starts_with("/run/vipnat") => error.contains("names"),
        true => object.ancestors().take_while(|path| path.components().count() > 4).any(named),
        // This is a section of the object, which the kernel sees as a map.
        false if operation.object.starts_with('.') => error.contains("the eBPF object"),
        false => named(object),
    };
    assert!(named, "{context}: {} in {error}", operation.object);
}

/// The faults of each operation of `apply`, from the first table to the second. With `also_back`, those on
/// the way back as well.
pub(super) fn to_and_fro(
    stage: &Stage,
    tables: [&Table; 2],
    also_back: bool,
    exceptions: &[(usize, &str)],
    kill: bool,
) {
    let began = Instant::now();
    let fresh = tables.map(|table| stage.fresh(table));
    for (table, fresh) in tables.iter().zip(&fresh) {
        stage.is_repaired(table, fresh, "without a fault");
        assert_eq!(stage.sees(), table.sees);
    }
    stage.apply(tables[0]);
    // From now on the operations of each direction are alike every time.
    let operations = [1, 0].map(|to| operations(&stage.apply_command(tables[to])));
    let points = [0, 1].map(|from| {
        let mut points = points(&operations[from], kill);
        points.retain(|(at, _)| !asks_the_kernel(&operations[from][*at]));
        points.retain(|_| from == 0 || also_back);
        sample(points)
    });
    for step in 0..points[0].len().max(points[1].len()) {
        for (from, to) in [(0, 1), (1, 0)] {
            let Some((at, fault)) = points[from].get(step) else {
                stage.apply(tables[to]);
                continue;
            };
            stage.keep_rested_slots_few([tables[to], tables[from]]);
            let command = stage.apply_command(tables[to]);
            let context = strike(&command, &operations[from], *at, *fault);
            stage.works(&tables, exceptions, &context);
            stage.is_repaired(tables[to], &fresh[to], &context);
        }
    }
    let count = points[0].len() + points[1].len();
    println!("{count} points in {:?}", began.elapsed());
}
