//! `vipnat run`: `apply` in a loop over what changes.

mod follower;

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self, Sender},
    thread,
    time::Duration,
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
    waits::{Worker, within},
};

/// How long something may hang that is to end.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same for the removal of everything, which another command may be in the way of.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

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
    let (stop, stopped) = mpsc::channel();
    listen_to_signals(sender.clone(), stop.clone()).context("cannot listen to signals")?;
    let watch = Watch::new(move |notice| sender.send(Event::Notice(notice)).unwrap_or(()))
        .context("cannot watch files (inotify)")?;
    let follower = Follower::new(source, super::datapath(bpffs)?, watch);
    // Nothing that may hang is done on this thread.
    let ended = move || stop.send(()).unwrap_or(());
    let follower = Worker::start(move || follower.follow(&events), ended);
    let _ = stopped.recv();
    match follower.end(PATIENCE) {
        Ok(followed) => followed?,
        Err(what) => within(PATIENCE, move || {
            super::complain(&format!("stopped while waiting for {what}"));
        }),
    }

    within(PATIENCE, || notify_manager(&[NotifyState::Stopping]));
    if *flush_on_exit {
        let datapath = super::datapath(bpffs)?;
        let flush = Worker::start(move || datapath.flush(), || {});
        let hangs = |what| {
            let flush = "vipnat flush";
            Error::msg(format!("cannot remove everything: waiting for {what}; run `{flush}` later"))
        };
        flush.end(FLUSH_PATIENCE).map_err(hangs)??;
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

/// `stop` is told as well when it is to stop: the loop may hang.
fn listen_to_signals(sender: Sender<Event>, stop: Sender<()>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::spawn(move || {
        for signal in &mut signals {
            // Nobody listens any more when it ends anyway.
            if signal == SIGHUP {
                let _ = sender.send(Event::Reload);
            } else {
                let _ = (sender.send(Event::Stop), stop.send(()));
            }
        }
    });
    Ok(())
}
