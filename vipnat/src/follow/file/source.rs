//! The thread that watches and reads the table's file. It may hang; the loop of `vipnat run` goes on.

use std::{io, path::Path, sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result};
use vipnat_core::table::Table;

use super::{
    path::TablePath,
    reader::FileReader,
    schedule::ReadSchedule,
    watch::{FileWatch, WatchEvent},
};
use crate::follow::{
    inbox::{Inbox, News},
    reading::Ask,
    source::Source,
};
use crate::input::display_name;

/// The wait for the end of the work on the last reading. [`Source::go_on`] ends it.
const BUSY: Duration = Duration::from_secs(3600);

/// A file that has a table.
pub(crate) struct FileSource {
    path: TablePath,
    events: Arc<Inbox<Events>>,
}

/// The events for the thread.
#[derive(Debug, Default)]
struct Events {
    /// The file changed, or events about it were lost.
    changed: bool,
    /// A writer has the file open.
    written: bool,
    ask: Ask,
    /// The last reading was worked on, and this table is in force.
    in_force: Option<Option<Arc<Table>>>,
}

impl FileSource {
    /// The file need not exist yet.
    ///
    /// # Errors
    ///
    /// If the path is relative and there is no current directory.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: TablePath::new(path)?, events: Arc::default() })
    }
}

impl Source for FileSource {
    fn name(&self) -> String {
        self.path.path().display().to_string()
    }

    fn slow(&self) -> String {
        let file = display_name(self.path.path());
        format!("{file}: opening or reading it takes long; is its file system there?")
    }

    fn start(&mut self, inbox: &Arc<Inbox<News>>) -> Result<()> {
        let told = Arc::clone(&self.events);
        let watch = FileWatch::new(move |event| {
            told.tell(|events| match event {
                WatchEvent::FileBeingWritten => events.written = true,
                WatchEvent::FileChanged | WatchEvent::Unsure => events.changed = true,
            });
        });
        let watch = watch.context("cannot watch files (inotify)")?;
        let reader = FileReader::new(self.path.clone(), watch);
        let (events, inbox) = (Arc::clone(&self.events), Arc::clone(inbox));
        thread::spawn(move || follow(reader, &events, &inbox));
        Ok(())
    }

    fn read(&self, ask: Ask) {
        self.events.tell(|events| {
            events.ask.review |= ask.review;
            events.ask.reload |= ask.reload;
        });
    }

    fn go_on(&self, in_force: Option<&Arc<Table>>) {
        let in_force = in_force.map(Arc::clone);
        self.events.tell(|events| events.in_force = Some(in_force));
    }
}

/// Reads the file at once, and then whenever it changed or somebody asks.
fn follow(mut reader: FileReader, events: &Inbox<Events>, inbox: &Inbox<News>) -> ! {
    let mut schedule = ReadSchedule::default();
    let mut asked = Ask::default();
    // Whether the last reading is still worked on.
    let mut busy = false;
    schedule.now();
    loop {
        let pause = if busy { BUSY } else { schedule.pause() };
        let Events { changed, written, ask, in_force } = events.wait(pause);
        if written {
            schedule.after_writes();
        }
        if changed {
            schedule.soon();
        }
        asked.review |= ask.review;
        asked.reload |= ask.reload;
        if ask.reload {
            schedule.now();
        } else if ask.review {
            schedule.now_or_as_scheduled();
        }
        if let Some(in_force) = in_force {
            reader.set_in_force(in_force);
            busy = false;
        }
        if !busy && schedule.is_due() {
            schedule.cancel();
            let reading = reader.read(std::mem::take(&mut asked));
            inbox.tell(|news| news.reading = Some(reading));
            busy = true;
        }
    }
}

#[cfg(test)]
mod tests;
