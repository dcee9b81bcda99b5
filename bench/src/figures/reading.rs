//! The part of following a file that does not depend on the change: reading the file.

use std::{fs, path::Path, time::Instant};

use anyhow::{Result, ensure};
use vipnat_core::table::{Difference, Table};

use super::{follow::FOLLOW, input::Input};
use crate::{
    modes::Mode,
    results::{Results, Row, Unit},
    rules,
    shape::Shape,
};

/// How often to read a file.
const TIMES: usize = 20;

/// Measures inside this process how long it takes to read a table, and to compare it with the one before.
pub(super) fn measure(table: &rules::Table, shape: Shape, results: &mut Results) -> Result<()> {
    let file = Input::new(&table.json())?;
    let read = || -> Result<Table> {
        let bytes = fs::read(file.path())?;
        // The paths of cgroups in the table are relative ones.
        Ok(Table::parse(&bytes, "the file", Path::new("/sys/fs/cgroup"))?)
    };
    let before = read()?;
    for _ in 0..TIMES {
        let begun = Instant::now();
        let table = read()?;
        let parsed = begun.elapsed();
        let begun = Instant::now();
        ensure!(Difference::between(&before, &table).is_empty(), "the file has changed");
        let compared = begun.elapsed();
        for (what, time) in [
            ("of that: reading the file and checking the table", parsed),
            ("of that: comparing it with the table before", compared),
        ] {
            let row = Row {
                figure: FOLLOW,
                what: what.to_owned(),
                metric: "p50",
                unit: Unit::Nanoseconds,
                shape,
                position: None,
            };
            results.add(&row, Mode::Vipnat, time.as_nanos() as f64);
        }
    }
    Ok(())
}
