//! A connection that a client keeps.

use crate::{app::App, probe::Report, programs::program, session::Session};

/// `probe hold`, which is connected and stays so until this is dropped.
#[derive(Debug)]
pub struct Held {
    session: Session,
    /// What it saw when it connected.
    pub connected: Report,
}

impl App {
    /// Connects as `probe hold` does with these arguments, separated by spaces; no sooner there than
    /// connected.
    pub fn hold(&self, arguments: &str) -> Held {
        let mut probe = self.command(program("probe"));
        probe.arg("hold").args(arguments.split_ascii_whitespace());
        let mut session = Session::open(probe).expect("start the probe");
        let connected = Report::parse(&session.hear().expect("the probe says what it sees"));
        assert!(connected.ok, "probe hold {arguments}: {connected:?}");
        Held { session, connected }
    }
}

impl Held {
    /// What it sees now, the server's answer to a question included.
    pub fn ask(&mut self) -> Report {
        Report::parse(&self.session.ask("").expect("the probe says what it sees"))
    }

    /// Ends the connection as a client does that has nothing more to ask.
    pub fn close(self) {
        self.session.close().expect("the probe ends");
    }
}
