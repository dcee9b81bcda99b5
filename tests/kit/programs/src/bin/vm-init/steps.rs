//! Runs the steps of a job, and reports their events on a separate serial line.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use vipnat_testkit::vm::{ALIVE_EVERY, End, Event, Job, Step};

/// A serial line to which the kernel does not write.
const LINE: &str = "/dev/ttyS1";

/// Pause between two checks of the child processes.
const PAUSE: Duration = Duration::from_millis(10);

/// Time limit for reading the last lines of a step from its pipes.
const DRAIN: Duration = Duration::from_secs(5);

/// Writes events to the serial line, in order.
#[derive(Clone)]
struct Teller(Arc<Mutex<File>>);

impl Teller {
    fn tell(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).expect("an event is JSON");
        line.push(b'\n');
        let mut file = self.0.lock().expect("no writer panicked");
        // If this fails, the host reports the missing event.
        let _ = file.write_all(&line);
    }

    /// Starts a thread that reports each line it reads.
    fn tell_lines(
        &self,
        from: impl Read + Send + 'static,
        event: fn(String) -> Event,
    ) -> JoinHandle<()> {
        let teller = self.clone();
        thread::spawn(move || {
            let mut lines = BufReader::new(from);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                teller.tell(&event(String::from_utf8_lossy(&line).trim_end().to_owned()));
                line.clear();
            }
        })
    }
}

pub(crate) fn run(job: &Job) -> Result<()> {
    let line = OpenOptions::new().write(true).open(LINE).context("opening the serial line")?;
    let teller = Teller(Arc::new(Mutex::new(line)));
    let alive = teller.clone();
    thread::spawn(move || {
        loop {
            alive.tell(&Event::Alive);
            sleep(Duration::from_secs(ALIVE_EVERY));
        }
    });
    for step in &job.steps {
        teller.tell(&Event::Begins(step.name.clone()));
        let begun = Instant::now();
        let end = run_step(step, &teller);
        teller.tell(&Event::Ends { end, seconds: begun.elapsed().as_secs_f64() });
        // Kills all processes that the step left. From the first process, -1 means all others.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
    let tainted = fs::read_to_string("/proc/sys/kernel/tainted").context("reading tainted")?;
    let tainted = tainted.trim().parse().context("reading tainted")?;
    let complaints = if tainted == 0 { Vec::new() } else { complaints()? };
    teller.tell(&Event::Done { tainted, complaints });
    Ok(())
}

/// The last warnings and errors in the kernel's log.
fn complaints() -> Result<Vec<String>> {
    const MOST: usize = 60;
    let mut dmesg = Command::new("dmesg");
    dmesg.args(["--notime", "--level=emerg,alert,crit,err,warn"]);
    let output = dmesg.output().context("starting dmesg")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    Ok(lines[lines.len().saturating_sub(MOST)..].to_vec())
}

fn run_step(step: &Step, teller: &Teller) -> End {
    let mut command = Command::new(&step.program);
    command.args(&step.arguments).current_dir(&step.folder).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            teller.tell(&Event::Error(format!("start {}: {error}", step.program.display())));
            return End::NotStarted;
        }
    };
    let readers = [
        teller.tell_lines(child.stdout.take().expect("it is a pipe"), Event::Output),
        teller.tell_lines(child.stderr.take().expect("it is a pipe"), Event::Error),
    ];
    let pid = i32::try_from(child.id()).expect("process numbers are small");
    let end = wait_for(Pid::from_raw(pid), Duration::from_secs(step.seconds));
    // A process that the step left may still hold the pipes.
    let begun = Instant::now();
    while !readers.iter().all(JoinHandle::is_finished) && begun.elapsed() < DRAIN {
        sleep(PAUSE);
    }
    end
}

/// Waits for a child. Also reaps all other children, as a first process must.
fn wait_for(child: Pid, limit: Duration) -> End {
    let begun = Instant::now();
    let mut timed_out = false;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child && !timed_out => {
                return End::Exited(code);
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child && !timed_out => {
                return End::Killed(signal as i32);
            }
            Ok(status) if status.pid() == Some(child) => return End::TimedOut,
            Ok(WaitStatus::StillAlive) => sleep(PAUSE),
            Err(Errno::ECHILD) => return End::NotStarted,
            _ => {}
        }
        if !timed_out && begun.elapsed() > limit {
            timed_out = true;
            let _ = kill(Pid::from_raw(-child.as_raw()), Signal::SIGKILL);
        }
    }
}
