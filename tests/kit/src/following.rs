//! `vipnat run` in the background.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::this_machine::patient;

/// Time limit for vipnat to notice and apply a change, far longer than it needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `vipnat run` and its output. Dropping it ends the process by SIGKILL.
#[derive(Debug)]
pub struct Following {
    process: Child,
    lines: Receiver<String>,
    /// The lines that were read so far.
    seen: Vec<String>,
}

impl Following {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        let (sender, lines) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(process.stdout.take().expect("stdout is piped")),
            Box::new(process.stderr.take().expect("stderr is piped")),
        ];
        for stream in streams {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { process, lines, seen: Vec::new() }
    }

    /// Waits until it prints such a line, on either stream.
    pub fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_for_many(1, wanted)
    }

    /// Waits until it has printed `count` such lines. Gives the last one.
    pub fn wait_for_many(&mut self, mut count: usize, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + patient(PATIENCE);
        loop {
            let line =
                match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(line) => line,
                    Err(RecvTimeoutError::Timeout) => panic!("not said in time: {self:?}"),
                    Err(RecvTimeoutError::Disconnected) => panic!("it ended: {self:?}"),
                };
            self.seen.push(line.clone());
            count -= usize::from(wanted(&line));
            if count == 0 {
                return line;
            }
        }
    }

    /// Whether it printed such a line before the last one that was waited for.
    ///
    /// Lines of two streams arrive in any order.
    pub fn has_said(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.seen.iter().any(|line| wanted(line))
    }

    /// Counts such lines, up to the last one that was waited for.
    pub fn count_said(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.seen.iter().filter(|line| wanted(line)).count()
    }

    /// The lines that it prints in the given time. There should be none.
    pub fn says_meanwhile(&mut self, time: Duration) -> Vec<String> {
        thread::sleep(time);
        self.lines.try_iter().collect()
    }

    /// Forgets the lines that were read, so that long runs don't fill the memory.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("signal vipnat run");
    }

    /// The id of its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    /// Waits until it ends after a signal.
    pub fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + patient(PATIENCE);
        loop {
            if let Some(status) = self.process.try_wait().expect("wait for vipnat run") {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on: {self:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            self.seen.extend(self.lines.try_iter());
            let last = self.seen.len().saturating_sub(20);
            eprintln!("vipnat run said, at last: {:#?}", &self.seen[last..]);
        }
    }
}
