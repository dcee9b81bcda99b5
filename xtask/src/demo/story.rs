//! The output of the demonstration: chapters, prompts and progress. It also handles interruption by a signal.

use std::{
    cell::Cell,
    io::{IsTerminal as _, Write as _, stdout},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Set by a signal. The story checks it between steps and ends as after a failure, so that everything
/// is removed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The story so far.
pub(super) struct Story {
    begun: Instant,
    chapters: Cell<usize>,
    bold: (&'static str, &'static str),
}

impl Story {
    /// Begins the story. From now on, a signal ends it.
    pub(super) fn begin() -> Result<Self> {
        ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
            .context("cannot catch signals")?;
        let bold = if stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        Ok(Self { begun: Instant::now(), chapters: Cell::new(0), bold })
    }

    /// Begins a chapter.
    pub(super) fn chapter(&self, title: &str) -> Result<()> {
        self.check()?;
        self.chapters.set(self.chapters.get() + 1);
        let (on, off) = self.bold;
        println!("\n{on}{}. {title}{off}\n", self.chapters.get());
        Ok(())
    }

    /// Fails if a signal has arrived.
    pub(super) fn check(&self) -> Result<()> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted; everything is removed");
        }
        Ok(())
    }

    /// Prints a text.
    pub(super) fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Shows a command as a user would type it.
    pub(super) fn prompt(&self, command: &str) {
        let (on, off) = self.bold;
        println!("  {on}$ {command}{off}");
    }

    /// Shows the output of a command.
    pub(super) fn output(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("    {line}");
        }
    }

    /// Announces a step of several seconds.
    pub(super) fn progress(&self, what: &str) -> Progress {
        print!("  {what} … ");
        let _ = stdout().flush();
        Progress { begun: Instant::now(), done: false }
    }

    /// Prints the last line.
    pub(super) fn end(&self) {
        let took = seconds(self.begun.elapsed());
        println!("\nEverything went as told, in {took}; all of it is removed again.");
    }
}

/// A step of several seconds. If it fails, only the line ends.
pub(super) struct Progress {
    begun: Instant,
    done: bool,
}

impl Progress {
    /// Prints the duration of the step.
    pub(super) fn done(mut self) {
        self.done = true;
        println!("done in {}", seconds(self.begun.elapsed()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.done {
            println!();
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
