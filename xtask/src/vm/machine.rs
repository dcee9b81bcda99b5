//! One virtual machine, from its start to its verdict.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use vipnat_testkit::vm::{ALIVE_EVERY, EMULATED, Event, JOB, Job};
use xshell::cmd;

use super::{image, kernel::Files, tools::Tools};
use crate::{
    command::{CmdExt as _, shell, shell_words},
    progress::say,
};

/// Time limit for the boot. In emulation, an idle host needs ten seconds.
const BOOT: Duration = Duration::from_secs(180);

/// Longest silence. A healthy machine reports every few seconds.
const SILENCE: Duration = Duration::from_secs(24 * ALIVE_EVERY);

/// The longest time that the machine may run without the server of its files.
const LAST: Duration = Duration::from_secs(10);

/// Number of starts, if the tests do not begin.
const BOOTS: usize = 3;

/// The interval between checks of the machine.
const PAUSE: Duration = Duration::from_millis(100);

/// The number of console lines that are shown, from the end.
const TAIL: usize = 40;

/// The memory of a machine.
const MEMORY: &str = "3G";

/// QEMU's message when KVM does not work.
const KVM_BROKE: &str = "KVM internal error";

/// With other processor models, 6.12 panics now and then in emulation. QEMU emulates `rep movsb` byte by
/// byte, so the kernel must not take that for the fast way to copy (ERMS).
const EMULATION: [&str; 4] = ["-accel", "tcg,thread=multi", "-cpu", "Haswell-noTSX,-erms"];

const KVM: [&str; 4] = ["-accel", "kvm", "-cpu", "host"];

/// The way to run the machine's processor: KVM or emulation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Accelerator {
    Kvm,
    Emulation,
}

impl Accelerator {
    /// The accelerator to try first.
    pub(super) fn likely() -> Self {
        let kvm = File::options().read(true).write(true).open("/dev/kvm");
        if kvm.is_ok() { Self::Kvm } else { Self::Emulation }
    }
}

/// The outcome of a machine.
#[derive(Default)]
pub(super) struct Ran {
    pub(super) events: Vec<Event>,
    /// A problem of the machine itself.
    pub(super) problem: Option<String>,
    /// Problems of earlier machines whose tests did not begin.
    pub(super) failed_starts: Vec<String>,
    pub(super) seconds: f64,
}

/// Runs a job. Once KVM fails, this and later jobs run in emulation.
pub(super) fn run(
    files: &Files,
    job: &mut Job,
    tools: &Tools,
    programs: &Path,
    accelerator: &mut Accelerator,
    mut on_event: impl FnMut(&Event),
) -> Result<Ran> {
    let begun = Instant::now();
    let mut failed_starts = Vec::new();
    loop {
        let emulated = *accelerator == Accelerator::Emulation;
        job.environment.retain(|(name, _)| name != EMULATED);
        if emulated {
            job.environment.push((EMULATED.to_owned(), "1".to_owned()));
        }
        let mut machine = Machine::start(files, job, tools, programs, *accelerator)?;
        let mut events = Vec::new();
        let problem = machine.watch(job, |event| {
            on_event(&event);
            events.push(event);
        })?;
        let broke = problem.as_deref() == Some(KVM_BROKE);
        if let (false, true, Some(problem)) = (emulated, broke || events.is_empty(), &problem) {
            say(
                "vm",
                &format!("KVM is here, but it is no good ({problem}); with emulation instead"),
            );
            *accelerator = Accelerator::Emulation;
            continue;
        }
        let problem = problem.map(|problem| format!("{problem}\n{}", machine.last_words()));
        if let Some(problem) = &problem
            && events.is_empty()
            && failed_starts.len() + 1 < BOOTS
        {
            say("vm", &format!("{} did not start; once more: {problem}", files.release));
            failed_starts.push(problem.clone());
            continue;
        }
        let seconds = begun.elapsed().as_secs_f64();
        return Ok(Ran { events, problem, failed_starts, seconds });
    }
}

/// A running machine. `Drop` ends it.
struct Machine {
    qemu: Child,
    files: Child,
    folder: TempDir,
}

impl Machine {
    fn start(
        files: &Files,
        job: &Job,
        tools: &Tools,
        programs: &Path,
        accelerator: Accelerator,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("machine-").tempdir_in(programs)?;
        let init = programs.join("vm-init");
        let path = |name: &str| folder.path().join(name);
        let (job_file, socket) = (path("job"), path("files.socket"));
        fs::write(&job_file, serde_json::to_vec(job)?)?;
        fs::write(path("initrd"), image::build(&tools.busybox(), &files.root_modules()?, &init)?)?;
        let mut served = serve_files(tools, &path("export"), &socket, &path("files.log"))?;
        let begun = Instant::now();
        while !socket.exists() {
            let log = || fs::read_to_string(path("files.log")).unwrap_or_default();
            ensure!(
                served.try_wait()?.is_none() && begun.elapsed() < BOOT,
                "the machine's files can't be served: {}",
                log()
            );
            sleep(PAUSE);
        }
        let more = match accelerator {
            Accelerator::Kvm => "",
            // An emulated processor has nothing to mitigate, and mitigations cost it more than a real one.
            // The host may also pause it for longer than the kernel allows a task.
            Accelerator::Emulation => "mitigations=off nosoftlockup",
        };
        let command_line =
            format!("console=ttyS0 quiet panic=-1 {more} {JOB}{}", job_file.display());
        let log = File::create(path("qemu.log"))?;
        let sh = shell();
        let qemu = tools
            .qemu(&sh)
            .args(match accelerator {
                Accelerator::Kvm => KVM,
                Accelerator::Emulation => EMULATION,
            })
            .args(["-M", "q35,memory-backend=memory", "-smp", "2", "-m", MEMORY])
            .arg("-object")
            .arg(format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"))
            .arg("-chardev")
            .arg(format!("socket,id=files,path={}", socket.display()))
            .arg("-device")
            .arg(format!("vhost-user-fs-pci,chardev=files,tag={}", image::TAG))
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(
                [("-serial", "console"), ("-serial", "events")]
                    .map(|(option, name)| {
                        [option.to_owned(), format!("file:{}", path(name).display())]
                    })
                    .concat(),
            )
            .arg("-kernel")
            .arg(&files.image)
            .arg("-initrd")
            .arg(path("initrd"))
            .arg("-append")
            .arg(command_line)
            .start(Stdio::null(), log.try_clone()?.into(), log.into())?;
        Ok(Self { qemu, files: served, folder })
    }

    /// Waits until the machine ends, or ends it at a limit. Returns the problem, if there was one.
    fn watch(&mut self, job: &Job, mut on_event: impl FnMut(Event)) -> Result<Option<String>> {
        // The machine holds each step to its own limit. It can't if the step's process does not die, so
        // this limit stands behind those.
        let longest = job.steps.iter().map(|step| step.seconds).max().unwrap_or(0);
        let limit = BOOT + Duration::from_secs(longest);
        let begun = Instant::now();
        let (mut last_step, mut last_word, mut served) = (begun, begun, begun);
        let mut events = None;
        let mut line = Vec::new();
        let mut ready = false;
        let mut done = None;
        loop {
            let ended = self.qemu.try_wait()?;
            if events.is_none() {
                events = File::open(self.path("events")).ok().map(BufReader::new);
            }
            if let Some(events) = &mut events {
                // A line may still be incomplete.
                while events.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
                    last_word = Instant::now();
                    match serde_json::from_slice(&line) {
                        Ok(Event::Alive) => ready = true,
                        Ok(Event::Done { tainted, complaints }) => {
                            done = Some((tainted, complaints));
                        }
                        Ok(event) => {
                            if matches!(event, Event::Begins(_)) {
                                last_step = Instant::now();
                            }
                            on_event(event);
                        }
                        // A line of the firmware, perhaps.
                        Err(_) => {}
                    }
                    line.clear();
                }
            }
            let broken = fs::read_to_string(self.path("qemu.log"));
            if broken.is_ok_and(|log| log.contains(KVM_BROKE)) {
                return Ok(Some(KVM_BROKE.to_owned()));
            }
            if ended.is_some() {
                return Ok(match done {
                    Some((tainted, log)) => kernel_complaint(tainted)
                        .map(|complaint| format!("{complaint}\n{}", log.join("\n"))),
                    None => Some("the machine ended without a verdict".to_owned()),
                });
            }
            if let Some(status) = self.files.try_wait()? {
                // This server is the first process to go when the machine ends.
                if served.elapsed() > LAST {
                    return Ok(Some(format!("the server of its files ended: {status}")));
                }
            } else {
                served = Instant::now();
            }
            if !ready {
                last_word = Instant::now();
                if begun.elapsed() > BOOT {
                    return Ok(Some(format!("no test began within {} s", BOOT.as_secs())));
                }
            }
            if last_word.elapsed() > SILENCE {
                return Ok(Some(format!("the machine hangs: nothing for {} s", SILENCE.as_secs())));
            }
            if last_step.elapsed() > limit {
                return Ok(Some("the machine can't end a group of tests".to_owned()));
            }
            sleep(PAUSE);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn console(&self) -> String {
        fs::read(self.path("console"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The end of the console, and the messages of QEMU and of the file server.
    fn last_words(&self) -> String {
        let read = |name| fs::read_to_string(self.path(name)).unwrap_or_default();
        let (qemu, files) = (read("qemu.log"), read("files.log"));
        let qemu = qemu.lines().filter(|line| !line.contains("TCG doesn't support"));
        let console = self.console();
        let lines: Vec<_> = console.lines().chain(qemu).chain(files.lines()).collect();
        let last = &lines[lines.len().saturating_sub(TAIL)..];
        last.iter().map(|line| format!("    {}\n", line.trim_end())).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in [&mut self.qemu, &mut self.files] {
            // This fails if the process has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Serves this machine's files, read-only, in separate namespaces.
fn serve_files(tools: &Tools, folder: &Path, socket: &Path, log: &Path) -> Result<Child> {
    fs::create_dir(folder)?;
    let sh = shell();
    let server = tools
        .virtiofsd(&sh)
        .arg(format!("--socket-path={}", socket.display()))
        .arg(format!("--shared-dir={}", folder.display()))
        .args(["--cache=always", "--sandbox=none", "--no-announce-submounts"]);
    let (server, folder) = (shell_words(server), folder.display());
    let script = format!(
        "mount --rbind / {folder} && mount --make-rprivate {folder} && \
         mount -o remount,bind,ro {folder} && exec {server}"
    );
    let log = File::create(log)?;
    cmd!(sh, "unshare")
        // virtiofsd forks, and its child must end with it.
        .args(["--pid", "--fork", "--kill-child", "--mount", "--propagation", "private"])
        .args(["sh", "-c", &script])
        .start(Stdio::null(), log.try_clone()?.into(), log.into())
        .context("serving the machine's files")
}

/// The kernel's complaints, by its taint flags (kernel/panic.c).
fn kernel_complaint(tainted: u32) -> Option<String> {
    const DIED: u32 = 1 << 7;
    const WARNED: u32 = 1 << 9;
    const LOCKED_UP: u32 = 1 << 14;
    let complaints = [(DIED, "an oops"), (WARNED, "a warning"), (LOCKED_UP, "a soft lockup")];
    let found: Vec<_> =
        complaints.iter().filter(|(bit, _)| tainted & bit != 0).map(|(_, what)| *what).collect();
    (!found.is_empty()).then(|| format!("the kernel's log has {}", found.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_warned_is_no_good_one() {
        assert_eq!(kernel_complaint(0), None);
        // Out-of-tree modules, and unsigned ones.
        assert_eq!(kernel_complaint((1 << 12) | (1 << 13)), None);
        assert_eq!(kernel_complaint(1 << 9).as_deref(), Some("the kernel's log has a warning"));
    }
}
