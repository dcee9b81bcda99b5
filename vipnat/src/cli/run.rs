//! `vipnat run`: applies a table, and applies each later change of it.

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
    describe::{describe_all_ended, describe_applied},
    inherited::Inherited,
    output::{line, print, warn, warn_escaped},
};
use crate::{
    follow::{CgroupWatch, FileSource, Follower, Inbox, News, Report, Source as _, notify_manager},
    input::InvalidInput,
    kernel::{
        process::{ClosedOutput, on_closed_output},
        worker::{Worker, within},
    },
    reconcile::{Applied, Connections, Session},
    state::{run_dir, run_lock::RunLock},
};

/// The time for which the end of `vipnat run` waits for a call that hangs.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same for the removal of everything, which may wait for another command.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The table to follow: a file, TOML or JSON.
    source: PathBuf,
    /// Remove everything when vipnat stops. Without this option, translation continues.
    #[arg(long)]
    flush_on_exit: bool,
    #[command(flatten)]
    inherited: Inherited,
}

pub(crate) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let Args { source, flush_on_exit, inherited } = args;
    if let Some((scheme, _)) = source.to_string_lossy().split_once("://") {
        let what = format!("{}://…: `vipnat run` follows local files only", shown(scheme));
        return Err(InvalidInput(what).into());
    }
    if source == Path::new("-") {
        let what =
            "`vipnat run` cannot follow standard input; name a file, or use `vipnat apply -`";
        return Err(InvalidInput(what.to_owned()).into());
    }
    let source = FileSource::new(source).context("cannot tell the current directory")?;
    let shown = source.name();
    let claimed = RunLock::claim(bpffs, &shown).map(|claimed| {
        claimed.map_err(|who| {
            let state = bpffs.display();
            Error::msg(format!(
                "`vipnat run` ({who}) manages {state} already; stop that process first"
            ))
        })
    });
    // Containers need their VIPs, so a lock that cannot be written is only worth a warning.
    let _running = match claimed {
        Ok(claimed) => Some(claimed?),
        Err(error) => {
            warn(&format!(
                "cannot write to {} that this process manages {} ({error}); other commands may change \
                 that state meanwhile",
                run_dir::DIRECTORY,
                bpffs.display()
            ));
            None
        }
    };

    on_closed_output(ClosedOutput::Fails);
    let inbox: Arc<Inbox<News>> = Arc::default();
    let (stop, stopped) = mpsc::channel();
    listen_to_signals(&inbox, stop.clone()).context("cannot listen to signals")?;
    let told = Arc::clone(&inbox);
    let cgroups = CgroupWatch::new(move || told.tell(|news| news.cgroups = true));
    let cgroups = cgroups.context("cannot watch files (inotify)")?;
    let session = inherited.apply_to(Session::new(bpffs));
    let follower = Follower::new(Box::new(source), session, Box::new(Terminal), inbox, cgroups);
    // This thread never makes a call that may hang, so it always hears the signal to stop.
    let ended = move || stop.send(()).unwrap_or(());
    let follower = Worker::start(move || follower.follow(), ended);
    let _ = stopped.recv();
    match follower.end(PATIENCE) {
        Ok(followed) => followed?,
        Err(what) => within(PATIENCE, move || {
            warn(&format!("stopped while waiting for {what}"));
        }),
    }

    within(PATIENCE, || notify_manager(&[NotifyState::Stopping]));
    if *flush_on_exit {
        let session = Session::new(bpffs);
        let flush = Worker::start(move || session.flush(), || {});
        let hangs = |what| {
            let flush = "vipnat flush";
            Error::msg(format!("cannot remove everything: waiting for {what}; run `{flush}` later"))
        };
        let flushed = flush.end(FLUSH_PATIENCE).map_err(hangs)??;
        flushed.warnings.iter().for_each(|warning| warn(warning));
    }
    Ok(())
}

/// Reports to standard output and standard error. `vipnat run` goes on if their reader is gone.
struct Terminal;

impl Report for Terminal {
    fn following(&self, source: &str) {
        let _ = print(&line(&format!("following {source}")));
    }

    fn applied(&self, applied: &Applied) {
        let _ = print(&describe_applied(applied));
    }

    fn ended(&self, ended: &[Connections]) {
        let _ = print(&describe_all_ended(ended));
    }

    fn warning(&self, text: &str) {
        warn(text);
    }

    fn problem(&self, text: &str) {
        warn_escaped(text);
    }
}

/// Signals to stop also go to `stop`, since the loop behind the inbox may hang.
fn listen_to_signals(inbox: &Arc<Inbox<News>>, stop: Sender<()>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let inbox = Arc::clone(inbox);
    thread::spawn(move || {
        for signal in &mut signals {
            inbox.tell(|news| match signal {
                SIGHUP => news.reload = true,
                _ => news.stop = true,
            });
            if signal != SIGHUP {
                // The receiver is gone if the process is ending already.
                let _ = stop.send(());
            }
        }
    });
    Ok(())
}
