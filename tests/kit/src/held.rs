//! A client's connection that stays open.

use crate::{app::App, probe::Report, programs::program, session::Session};

/// A running `probe hold`, which stays connected until dropped.
#[derive(Debug)]
pub struct Held {
    session: Session,
    /// The report of its connect.
    pub connected: Report,
}

impl App {
    /// Starts `probe hold` with these arguments, separated by spaces. Returns once it is connected.
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
    /// Asks the server a question. The report has the answer, and the addresses of the socket now.
    pub fn ask(&mut self) -> Report {
        Report::parse(&self.session.ask("").expect("the probe says what it sees"))
    }

    /// Ends the connection normally, by closing the client's input.
    pub fn close(self) {
        self.session.close().expect("the probe ends");
    }
}
