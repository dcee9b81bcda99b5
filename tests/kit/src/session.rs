//! A client that keeps its session open.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// An open session with a client that answers each line with a line, as psql and redis-cli do. Dropping it
/// ends the client.
#[derive(Debug)]
pub struct Session {
    client: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Session {
    /// Starts a client.
    pub fn open(mut command: Command) -> Result<Self> {
        let mut client = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let questions = client.stdin.take();
        let answers = BufReader::new(client.stdout.take().context("no output")?);
        Ok(Self { client, questions, answers })
    }

    /// Writes a question, and waits for its answer of one line.
    pub fn ask(&mut self, question: &str) -> Result<String> {
        let questions = self.questions.as_mut().context("the session is closed")?;
        writeln!(questions, "{question}").context("the session has ended")?;
        self.hear()
    }

    /// Waits for a line.
    pub fn hear(&mut self) -> Result<String> {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).context("the session has ended")?;
        ensure!(!answer.is_empty(), "the session has ended");
        Ok(answer.trim_end().to_owned())
    }

    /// Ends the session as a user would, by closing its input.
    pub fn close(mut self) -> Result<()> {
        self.questions = None;
        let status = self.client.wait().context("wait for the client")?;
        ensure!(status.success(), "the client ended with {status}");
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
