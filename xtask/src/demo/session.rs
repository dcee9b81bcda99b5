//! A psql session that stays open.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// An open session. Dropping it ends the client.
pub(super) struct Session {
    client: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Session {
    /// Starts a psql that prints bare values.
    pub(super) fn open(mut psql: Command) -> Result<Self> {
        let mut client = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start psql")?;
        let questions = client.stdin.take();
        let answers = BufReader::new(client.stdout.take().context("no output")?);
        Ok(Self { client, questions, answers })
    }

    /// Asks for one value, and waits for it.
    pub(super) fn ask(&mut self, query: &str) -> Result<String> {
        let questions = self.questions.as_mut().context("the session is closed")?;
        writeln!(questions, "{query};").context("the session has ended")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).context("the session has ended")?;
        ensure!(!answer.is_empty(), "the session has ended");
        Ok(answer.trim_end().to_owned())
    }

    /// Ends the session as a user would.
    pub(super) fn close(mut self) -> Result<()> {
        self.questions = None;
        let status = self.client.wait().context("psql")?;
        ensure!(status.success(), "psql ended with {status}");
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
