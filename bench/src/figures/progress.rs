//! Prints progress messages while measuring.

use std::{
    io::{Write as _, stdout},
    time::Instant,
};

use anyhow::Result;

/// Prints the name of a measurement, and its duration afterwards.
pub(super) fn stage(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    print!("{name} … ");
    stdout().flush()?;
    let begun = Instant::now();
    work()?;
    println!("{} s", begun.elapsed().as_secs());
    Ok(())
}
