//! Crashes in `flush` and `flush --app`.

use std::time::Instant;

use super::{
    points::{operations, points, sample, strike},
    stage::{NOTHING, Stage, Table, same},
};
use crate::scene::list;

/// The faults of each operation of `flush`. A second `flush` follows, or an `apply`.
fn flush(apps: usize, kill: bool, again: bool) {
    let began = Instant::now();
    let stage = Stage::new(apps);
    let nothing = Table { text: String::new(), sees: vec![NOTHING; apps] };
    let all = [("a", 0, list([0, 1]), ""), ("b", 1, list([2]), "port = 5432")];
    let table = stage.table(&all[..apps], &["0 0 1 1", "2 2 2 2"][..apps]);
    let fresh = stage.fresh(&table);
    let flush = stage.scene.vipnat.command(["flush"]);
    stage.apply(&table);
    let operations = operations(&flush);
    let points = sample(points(&operations, kill));
    stage.apply(&table);
    for (at, fault) in &points {
        let context = strike(&flush, &operations, *at, *fault);
        stage.works(&[&table, &nothing], &[], &context);
        if again {
            stage.scene.vipnat.ok(["flush"]);
            same(&stage.dump(), "", &context);
            stage.apply(&table);
        } else {
            stage.is_repaired(&table, &fresh, &context);
        }
    }
    println!("{} points in {:?}", points.len(), began.elapsed());
}

/// A kill before the last call once left an empty directory that no flush removed.
#[test]
fn killed_in_flush_and_flushed_again() {
    flush(1, true, true);
}

#[test]
fn killed_in_flush_and_applied_again() {
    flush(2, true, false);
}

#[test]
fn failed_in_flush_and_flushed_again() {
    flush(1, false, true);
}

/// The faults of each operation of `flush --app`, which runs twice. The other app keeps its state.
fn flush_app(kill: bool) {
    let began = Instant::now();
    let stage = Stage::new(2);
    let other = ("a", 0, list([0, 1]), "");
    let table = stage
        .table(&[other.clone(), ("b", 1, list([2, 3]), "port = 5432")], &["0 0 1 1", "2 2 3 3"]);
    let rest = stage.table(&[other], &["0 0 1 1", NOTHING]);
    let (all, fresh) = (stage.fresh(&table), stage.fresh(&rest));
    let vipnat = &stage.scene.vipnat;
    let flush = vipnat.command(["flush", "--app", "b"]);
    stage.apply(&table);
    let operations = operations(&flush);
    let points = sample(points(&operations, kill));
    for (at, fault) in &points {
        stage.apply(&table);
        same(&stage.dump(), &all, "apply after flush --app");
        let context = strike(&flush, &operations, *at, *fault);
        stage.works(&[&table, &rest], &[], &context);
        let again = vipnat.run(["flush", "--app", "b"]);
        let done = again.code() == Some(1) && again.stderr.contains("no app \"b\"");
        assert!(again.code() == Some(0) || done, "{context}: {again}");
        same(&stage.dump(), &fresh, &context);
    }
    println!("{} points in {:?}", points.len(), began.elapsed());
}

#[test]
fn killed_in_flush_of_an_app() {
    flush_app(true);
}

#[test]
fn failed_in_flush_of_an_app() {
    flush_app(false);
}
