//! Progress messages while measuring.

use std::{
    io::{Write as _, stdout},
    time::Instant,
};

use anyhow::Result;

/// Announces a measurement, and then its duration.
pub(super) fn stage(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    print!("{name} … ");
    stdout().flush()?;
    let begun = Instant::now();
    work()?;
    println!("{} s", begun.elapsed().as_secs());
    Ok(())
}
