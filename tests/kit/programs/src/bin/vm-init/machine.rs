//! Mounts file systems and sets the machine up, as an operating system does at its start.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        resource::{Resource, setrlimit},
        utsname::uname,
    },
    unistd::sethostname,
};
use vipnat_testkit::{set_lo_up, vm::Job};

/// File systems to mount: type, place, options.
///
/// All other places are writable already. This very program may be in /tmp, so there must be no mount on it.
const MOUNTS: [(&str, &str, &str); 9] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", "mode=0755"),
    ("devpts", "/dev/pts", "mode=0620,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("tmpfs", "/run", "mode=0755"),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("bpf", "/sys/fs/bpf", "mode=0700"),
    ("tracefs", "/sys/kernel/tracing", ""),
];

/// Links that devtmpfs does not make.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// The program by which the kernel loads modules.
const MODPROBE: &str = "/run/modprobe";

pub(crate) fn mount_all() -> Result<()> {
    for (kind, place, options) in MOUNTS {
        // Directories in sysfs exist already, or can't be made.
        if !Path::new(place).exists() {
            fs::create_dir_all(place).with_context(|| format!("making {place}"))?;
        }
        mount(Some(kind), place, Some(kind), MsFlags::empty(), Some(options))
            .with_context(|| format!("mounting a {kind} at {place}"))?;
    }
    for (target, link) in LINKS {
        symlink(target, link).with_context(|| format!("making {link}"))?;
    }
    Ok(())
}

pub(crate) fn set_up(job: &Job) -> Result<()> {
    let set = |setting: &str, value: &str| {
        fs::write(Path::new("/proc/sys").join(setting), value)
            .with_context(|| format!("setting {setting} to {value}"))
    };
    // A script, because the kernel runs modprobe without an environment. Some programs also read the path
    // from this setting.
    fs::write(MODPROBE, format!("#!/bin/sh\nexec {} \"$@\"\n", job.modprobe))
        .and_then(|()| fs::set_permissions(MODPROBE, fs::Permissions::from_mode(0o755)))
        .context("writing a modprobe")?;
    set("kernel/modprobe", MODPROBE)?;
    // A bug in the kernel has to end the machine, not only a thread.
    set("kernel/panic_on_oops", "1")?;
    if let Some(modules) = &job.modules {
        let place = Path::new("/lib/modules").join(uname()?.release());
        fs::create_dir_all("/lib/modules").context("making /lib/modules")?;
        match symlink(modules, &place) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("making {}", place.display()));
            }
            _ => {}
        }
    }
    sethostname("vipnat-vm")?;
    setrlimit(Resource::RLIMIT_NOFILE, 1024, 1 << 19)?;
    set_lo_up().context("setting lo up")
}
