//! `cargo xtask vm`: chooses kernels, runs the tests on each, and reports.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::unistd::Uid;
use tempfile::TempDir;
use vipnat_testkit::vm::{End, Event, Job, Step};

use super::{
    kernel::{self, Files, Kernel},
    machine::{self, Accelerator, Ran},
    packages::OutOfReach,
    report::{Group, KernelReport, NotRun, Report},
    suite::{self, Refusal, Suite},
    tools::Tools,
};
use crate::{
    build,
    command::{root, search_path, shell, shell_words},
    progress::{say, stage},
    setup,
};

#[derive(Args)]
pub(crate) struct Vm {
    /// 6.1, 6.12, latest, 5.10 (which vipnat must refuse), or a path: of a kernel, or of a folder like an
    /// unpacked kernel package. May be repeated; without it, the first four.
    #[arg(long = "kernel", value_name = "KERNEL", value_parser = Kernel::parse)]
    kernels: Vec<Kernel>,
    /// If files are missing and there is no network, report the kernels that did not run, and succeed.
    #[arg(long)]
    if_available: bool,
    /// Write the results to this file, as JSON, besides showing them.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run only tests whose name contains one of these, or groups: GROUP::
    #[arg(value_name = "TEST-FILTER")]
    filters: Vec<String>,
}

impl Vm {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(
            Uid::effective().is_root(),
            "the virtual machines have the files of this machine, which takes root to serve them all"
        );
        stage("setup");
        setup::run()?;
        stage("build: vipnat and the tests");
        build::test_programs()?;
        let programs = programs()?;
        let suites = suite::list(programs.path(), &self.filters)?;
        stage("kernels");
        let cache = cache()?;
        let mut report = Report { kernels: Vec::new(), not_run: Vec::new() };
        // A file that can't be written must fail now, not after the tests.
        self.write(&report)?;
        let tools = self.if_in_reach(Tools::get(&cache))?;
        let mut runner = tools.map(|tools| Runner {
            tools,
            accelerator: Accelerator::likely(),
            programs: programs.path().to_owned(),
            suites,
        });
        for kernel in self.chosen() {
            let name = kernel.name();
            let not_run = match &mut runner {
                Err(why) => Some(why.clone()),
                Ok(runner) => match self.if_in_reach(kernel.files(&cache, &runner.tools))? {
                    Err(why) => Some(why),
                    Ok(files) => {
                        let ran = runner.run(&kernel, &files);
                        print!("{}", ran.failures());
                        report.kernels.push(ran);
                        None
                    }
                },
            };
            report.not_run.extend(not_run.map(|why| NotRun { kernel: name, why }));
            // Keeps the results so far, even if a later kernel fails.
            self.write(&report)?;
        }
        println!("\n{}", report.table());
        ensure!(report.is_good(), "some tests failed");
        Ok(())
    }

    /// With `--if-available`, the lack of a network is no error.
    fn if_in_reach<T>(&self, files: Result<T>) -> Result<Result<T, String>> {
        match files {
            Err(error) if self.if_available && error.is::<OutOfReach>() => {
                say("vm", &format!("{error:#}"));
                Ok(Err(format!("{error}: {OutOfReach}")))
            }
            files => files.map(Ok),
        }
    }

    /// The kernels that the options choose.
    fn chosen(&self) -> Vec<Kernel> {
        if self.kernels.is_empty() {
            let all = kernel::SUPPORTED.iter().chain([&kernel::TOO_OLD]);
            return all.map(Kernel::Debian).collect();
        }
        self.kernels.clone()
    }

    fn write(&self, report: &Report) -> Result<()> {
        if let Some(file) = &self.json {
            let json = serde_json::to_string_pretty(report)?;
            fs::write(file, json).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }
}

struct Runner {
    tools: Tools,
    accelerator: Accelerator,
    /// The folder with the programs.
    programs: PathBuf,
    suites: Vec<Suite>,
}

impl Runner {
    /// Runs the tests on a kernel. If vipnat must refuse the kernel, tests only the refusal.
    fn run(&mut self, kernel: &Kernel, files: &Files) -> KernelReport {
        stage(&format!("kernel {}", files.release));
        let refusal = refusal(kernel, files, &self.programs);
        let suites: &[Suite] =
            if *kernel == Kernel::Debian(&kernel::TOO_OLD) { &[] } else { &self.suites };
        let steps: Vec<Step> =
            [refusal.step()].into_iter().chain(suites.iter().map(Suite::step)).collect();
        // Debian's own tools come first: a developer's replacements may start slowly.
        let path = search_path(["/usr/sbin", "/usr/bin", "/sbin", "/bin"]);
        let path = path.to_string_lossy().into_owned();
        let mut job = Job {
            steps,
            environment: vec![
                ("PATH".to_owned(), path),
                ("HOME".to_owned(), env::var("HOME").unwrap_or_else(|_| "/root".to_owned())),
                ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ],
            modules: files.modules.clone(),
            modprobe: shell_words(self.tools.kmod(&shell(), "modprobe")),
        };
        let mut current = String::new();
        let tell = |event: &Event| match event {
            Event::Begins(name) => current.clone_from(name),
            Event::Ends { end: End::TimedOut, seconds } => {
                say("vm", &format!("{current}: not done after {seconds:.0} s"));
            }
            Event::Ends { end: End::Exited(0 | 1), seconds } => {
                say("vm", &format!("{current}: {seconds:.0} s"));
            }
            Event::Ends { end, seconds } => {
                say("vm", &format!("{current}: {end:?} after {seconds:.0} s"));
            }
            _ => {}
        };
        let Self { tools, accelerator, programs, .. } = self;
        let ran = machine::run(files, &mut job, tools, programs, accelerator, tell);
        let Ran { events, problem, failed_starts, seconds } = ran
            .unwrap_or_else(|error| Ran { problem: Some(format!("{error:#}")), ..Ran::default() });
        let groups: Vec<Group> = [refusal.results(&events)]
            .into_iter()
            .chain(suites.iter().map(|suite| suite.results(&events)))
            .collect();
        let by = match self.accelerator {
            Accelerator::Kvm => "KVM",
            Accelerator::Emulation => "emulation",
        };
        KernelReport {
            kernel: kernel.name(),
            release: files.release.clone(),
            by: by.to_owned(),
            failed_starts,
            seconds,
            groups,
            problem,
        }
    }
}

/// The command that vipnat must refuse on this kernel: any, or one while BTF is hidden.
fn refusal(kernel: &Kernel, files: &Files, programs: &Path) -> Refusal {
    let vipnat = programs.join("vipnat");
    // Uses standard input, since vipnat warns about readable files with passwords.
    let apply =
        format!("exec {} apply - < {}/examples/shop.toml", vipnat.display(), root().display());
    if *kernel == Kernel::Debian(&kernel::TOO_OLD) {
        return Refusal {
            test: "of_a_kernel_that_is_too_old",
            script: apply,
            says: format!(
                "vipnat: kernel {:?} is too old; vipnat needs Linux 6.1 or later",
                files.release
            ),
        };
    }
    let hide = "mount -t tmpfs none /sys/kernel/btf";
    Refusal {
        test: "of_a_kernel_without_btf",
        script: format!("unshare --mount sh -c '{hide} && {apply}'"),
        says:
            "vipnat: this kernel has no BTF (/sys/kernel/btf/vmlinux is missing); vipnat needs one \
               built with CONFIG_DEBUG_INFO_BTF=y, as every distribution's is"
                .to_owned(),
    }
}

/// A folder with a copy of the programs, for this run.
fn programs() -> Result<TempDir> {
    let all = build::target_directory()?.join("vm");
    fs::create_dir_all(&all).with_context(|| format!("making {}", all.display()))?;
    for entry in fs::read_dir(&all)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("run-").and_then(|rest| rest.split('-').next());
        // The folder of a run that was killed.
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let prefix = format!("run-{}-", process::id());
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(&all)?;
    // The path stands on the kernel's command line, and no mount of the machine may hide it.
    let path = folder.path().to_string_lossy();
    let hidden = ["/dev/", "/proc/", "/run/", "/sys/"].iter().any(|place| path.starts_with(place));
    ensure!(
        !hidden && !path.contains(char::is_whitespace),
        "virtual machines can't start from {path}: put the build elsewhere, with CARGO_TARGET_DIR, to a path \
         without spaces that is not in /dev, /proc, /run or /sys"
    );
    build::keep_programs(folder.path())?;
    Ok(folder)
}

/// The folder of fetched files, which all checkouts share.
fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let cache = base.join("vipnat/vm");
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    cache.canonicalize().with_context(|| format!("finding {}", cache.display()))
}
