//! The demonstration: an application that follows its service from one address to another.

use anyhow::{Result, bail};

/// Runs the demonstration to its end.
pub(crate) fn run() -> Result<()> {
    bail!("not here yet")
}
