//! `vipnat run`: `apply` in a loop over what changes.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Error, Result};
use sd_notify::NotifyState;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use vipnat_core::text::shown;

use super::{
    apply::{describe_applied, describe_ended, line},
    output,
};
use crate::{
    follow::{
        CgroupWatch, FileSource, Follower, Inbox, InvalidInput, Report, Watch, WatchEvent,
        notify_manager,
    },
    kernel::worker::{Worker, within},
    reconcile::{Applied, Connections},
    state::{run_dir, run_lock::RunLock},
};

/// How long something may hang that is to end.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same for the removal of everything, which another command may be in the way of.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The table to follow: a file, TOML or JSON.
    source: PathBuf,
    /// Remove everything when it is stopped; without this, translation goes on as it is.
    #[arg(long)]
    flush_on_exit: bool,
    #[command(flatten)]
    inherited: super::Inherited,
}

pub(crate) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let Args { source, flush_on_exit, inherited } = args;
    if let Some((scheme, _)) = source.to_string_lossy().split_once("://") {
        let what =
            format!("{}://…: `vipnat run` follows local files only; name one", shown(scheme));
        return Err(InvalidInput(what).into());
    }
    if source == Path::new("-") {
        let what = "standard input can't be followed; name a file, or use `vipnat apply -`";
        return Err(InvalidInput(what.to_owned()).into());
    }
    let source = FileSource::new(source).context("cannot tell the current directory")?;
    let shown = source.path().display().to_string();
    let claimed = RunLock::claim(bpffs, &shown).map(|claimed| {
        claimed.map_err(|who| Error::msg(format!("{} is kept by {who} already", bpffs.display())))
    });
    // Containers need their VIPs more than this.
    let _running = match claimed {
        Ok(claimed) => Some(claimed?),
        Err(error) => {
            output::warn(&format!(
                "cannot note in {} that this process keeps {} ({error}); other commands can change it \
                 meanwhile",
                run_dir::DIRECTORY,
                bpffs.display()
            ));
            None
        }
    };

    super::survive_closed_output();
    let inbox: Arc<Inbox> = Arc::default();
    let (stop, stopped) = mpsc::channel();
    listen_to_signals(&inbox, stop.clone()).context("cannot listen to signals")?;
    let no_inotify = "cannot watch files (inotify)";
    let told = Arc::clone(&inbox);
    let files = Watch::new(move |notice| {
        told.tell(|news| match notice {
            WatchEvent::FileBeingWritten => news.written = true,
            WatchEvent::FileChanged | WatchEvent::Unsure => news.changed = true,
        });
    });
    let told = Arc::clone(&inbox);
    let cgroups = CgroupWatch::new(move || told.tell(|news| news.cgroups = true));
    let (files, cgroups) = (files.context(no_inotify)?, cgroups.context(no_inotify)?);
    let datapath = inherited.apply_to(super::datapath(bpffs));
    let follower = Follower::new(source, datapath, Box::new(Terminal), inbox, files, cgroups);
    // Nothing that may hang is done on this thread.
    let ended = move || stop.send(()).unwrap_or(());
    let follower = Worker::start(move || follower.follow(), ended);
    let _ = stopped.recv();
    match follower.end(PATIENCE) {
        Ok(followed) => followed?,
        Err(what) => within(PATIENCE, move || {
            output::warn(&format!("stopped while waiting for {what}"));
        }),
    }

    within(PATIENCE, || notify_manager(&[NotifyState::Stopping]));
    if *flush_on_exit {
        let datapath = super::datapath(bpffs);
        let flush = Worker::start(move || datapath.flush(), || {});
        let hangs = |what| {
            let flush = "vipnat flush";
            Error::msg(format!("cannot remove everything: waiting for {what}; run `{flush}` later"))
        };
        let flushed = flush.end(FLUSH_PATIENCE).map_err(hangs)??;
        flushed.warnings.iter().for_each(|warning| output::warn(warning));
    }
    Ok(())
}

/// Standard output and standard error. A journal that is gone is no reason to stop.
struct Terminal;

impl Report for Terminal {
    fn following(&self, file: &Path) {
        let _ = output::print(&line(&format!("following {}", file.display())));
    }

    fn applied(&self, applied: &Applied) {
        let _ = output::print(&describe_applied(applied));
    }

    fn ended(&self, ended: &[Connections]) {
        let lines: String = ended.iter().map(|of| line(&describe_ended(of))).collect();
        let _ = output::print(&lines);
    }

    fn warning(&self, text: &str) {
        output::warn(text);
    }

    fn problem(&self, text: &str) {
        output::complain(text);
    }
}

/// `stop` is told as well when it is to stop: the loop may hang.
fn listen_to_signals(inbox: &Arc<Inbox>, stop: Sender<()>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let inbox = Arc::clone(inbox);
    thread::spawn(move || {
        for signal in &mut signals {
            inbox.tell(|news| match signal {
                SIGHUP => news.reload = true,
                _ => news.stop = true,
            });
            if signal != SIGHUP {
                // Nobody listens any more when it ends anyway.
                let _ = stop.send(());
            }
        }
    });
    Ok(())
}
