//! `cargo xtask vm`: the integration tests in virtual machines, kernel by kernel.

mod image;
mod kernel;
mod machine;
mod packages;
mod report;
mod suite;
mod tools;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::unistd::Uid;
use vipnat_tests::vm::{Event, Job, Step};

use self::{
    kernel::{Files, Kernel},
    machine::{Accelerator, Ran},
    report::{Group, KernelReport, Report},
    suite::{Refusal, Suite},
    tools::Tools,
};
use crate::{build, command::root, setup, stage};

#[derive(Args)]
pub(crate) struct Vm {
    /// 6.1, 6.12, latest, or a path: of a kernel, or of a folder like an unpacked kernel package.
    /// May be repeated; without it, the first three, and an older one that must be refused.
    #[arg(long = "kernel", value_name = "KERNEL", value_parser = Kernel::parse)]
    kernels: Vec<Kernel>,
    /// If kernels can't be had, say so and succeed.
    #[arg(long)]
    if_available: bool,
    /// Write the results to this file, as JSON, besides showing them.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run only tests whose GROUP::NAME contains one of these.
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
        let suites = suite::list(&self.filters)?;
        stage("kernels");
        let cache = cache()?;
        let mut report = Report { kernels: Vec::new() };
        let mut left_out = Vec::new();
        match Tools::get(&cache) {
            Ok(tools) => {
                let mut runner = Runner { tools, accelerator: Accelerator::likely(), suites };
                for kernel in self.chosen() {
                    match kernel.files(&cache, &runner.tools) {
                        Ok(files) => {
                            report.kernels.push(runner.run(&kernel, &files)?);
                        }
                        Err(error) => left_out.push(format!("{error:#}")),
                    }
                }
            }
            Err(error) => left_out.push(format!("{error:#}")),
        }
        self.tell(&report)?;
        for what in &left_out {
            println!("NOT RUN: {what}");
        }
        ensure!(left_out.is_empty() || self.if_available, "not all of it could be had");
        ensure!(report.is_good(), "some tests failed");
        Ok(())
    }

    /// The kernels that were asked for.
    fn chosen(&self) -> Vec<Kernel> {
        if self.kernels.is_empty() {
            let all = kernel::SUPPORTED.iter().chain([&kernel::TOO_OLD]);
            return all.map(Kernel::Debian).collect();
        }
        self.kernels.clone()
    }

    fn tell(&self, report: &Report) -> Result<()> {
        if !report.kernels.is_empty() {
            println!("{}\n{}", report.failures(), report.table());
        }
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
    suites: Vec<Suite>,
}

impl Runner {
    /// Runs the tests on a kernel; on one that vipnat refuses, whether it does.
    fn run(&mut self, kernel: &Kernel, files: &Files) -> Result<KernelReport> {
        stage(&format!("kernel {}", files.release));
        let refusal = refusal(kernel, files);
        let suites: &[Suite] =
            if *kernel == Kernel::Debian(&kernel::TOO_OLD) { &[] } else { &self.suites };
        let steps: Vec<Step> =
            [refusal.step()].into_iter().chain(suites.iter().map(Suite::step)).collect();
        let mut job = Job {
            steps,
            environment: vec![
                ("PATH".to_owned(), crate::command::search_path([]).to_string_lossy().into_owned()),
                ("HOME".to_owned(), env::var("HOME").unwrap_or_else(|_| "/root".to_owned())),
                ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ],
            modules: files.modules.clone(),
            modprobe: self.tools.kmod("modprobe").to_string(),
        };
        let init = build::program("vm-init")?;
        let mut current = String::new();
        let ran = machine::run(files, &mut job, &self.tools, &init, &mut self.accelerator, |event| {
            match event {
                Event::Begins(name) => current.clone_from(name),
                Event::Ends { end, seconds } => say(&format!("{current}: {end:?}, {seconds:.0} s")),
                Event::Output(_) | Event::Error(_) => {}
            }
        })?;
        let Ran { events, problem, boots, seconds } = ran;
        let groups: Vec<Group> = [refusal.results(&events)]
            .into_iter()
            .chain(suites.iter().map(|suite| suite.results(&events)))
            .collect();
        let by = match self.accelerator {
            Accelerator::Kvm => "KVM",
            Accelerator::Emulation => "emulation",
        };
        Ok(KernelReport {
            kernel: kernel.name(),
            release: files.release.clone(),
            by: by.to_owned(),
            boots,
            seconds,
            groups,
            problem,
        })
    }
}

/// What vipnat must refuse on this kernel: to run at all, or to run without BTF, which is then hidden.
fn refusal(kernel: &Kernel, files: &Files) -> Refusal {
    let vipnat = build::program("vipnat").unwrap_or_else(|_| Path::new("vipnat").to_owned());
    let apply = format!("exec {} apply {}/examples/shop.toml", vipnat.display(), root().display());
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
        says: "vipnat: this kernel has no BTF (/sys/kernel/btf/vmlinux is missing); vipnat needs one \
               built with CONFIG_DEBUG_INFO_BTF=y, as every distribution's is"
            .to_owned(),
    }
}

/// Where what was fetched is kept, from one checkout to the next.
fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let cache = base.join("vipnat/vm");
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    cache.canonicalize().with_context(|| format!("finding {}", cache.display()))
}

fn say(what: &str) {
    println!("vm: {what}");
}
