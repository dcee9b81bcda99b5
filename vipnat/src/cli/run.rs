//! `vipnat run`: `apply` in a loop over what changes.

mod follower;

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self, Sender},
    thread,
};

use anyhow::{Context as _, Error, Result};
use sd_notify::NotifyState;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use self::follower::{Follower, notify_manager};
use super::InvalidInput;
use crate::{
    running::Running,
    source::{FileSource, Notice, Watch},
};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The table to follow: a file, TOML or JSON.
    source: PathBuf,
    /// Remove everything when it is stopped; without this, translation goes on as it is.
    #[arg(long)]
    flush_on_exit: bool,
}

pub(super) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let Args { source, flush_on_exit } = args;
    if let Some(scheme) = source.to_str().and_then(|source| source.split_once("://")) {
        return Err(InvalidInput(format!("{}: sources are files; name one", scheme.0)).into());
    }
    if source == Path::new("-") {
        let what = "standard input can't be followed; name a file, or use `vipnat apply -`";
        return Err(InvalidInput(what.to_owned()).into());
    }
    let source = FileSource::new(source).context("cannot tell the current directory")?;
    let shown = source.path().display().to_string();
    let _running = Running::claim(bpffs, &shown)
        .context("cannot claim the state")?
        .map_err(|who| Error::msg(format!("{} is kept by {who} already", bpffs.display())))?;

    super::survive_closed_output();
    let (sender, events) = mpsc::channel();
    listen_to_signals(sender.clone()).context("cannot listen to signals")?;
    let watch = Watch::new(move |notice| sender.send(Event::Notice(notice)).unwrap_or(()))
        .context("cannot watch files (inotify)")?;
    let datapath = super::datapath(bpffs)?;
    Follower::new(source, datapath, watch).follow(&events)?;

    notify_manager(&[NotifyState::Stopping]);
    if *flush_on_exit {
        super::datapath(bpffs)?.flush()?;
    }
    Ok(())
}

/// What wakes it.
enum Event {
    /// Something happened to files or cgroups.
    Notice(Notice),
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
}

fn listen_to_signals(sender: Sender<Event>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::spawn(move || {
        for signal in &mut signals {
            let event = if signal == SIGHUP { Event::Reload } else { Event::Stop };
            // Nobody listens any more when it ends anyway.
            let _ = sender.send(event);
        }
    });
    Ok(())
}
