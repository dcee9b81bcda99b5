//! A container whose root user has no rights outside.

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io,
    net::Ipv4Addr,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use tempfile::TempDir;

use crate::{
    app::App, cgroup::Cgroup, command::CommandExt as _, leftovers, netns::NetNs, network::Network,
    programs::copy_program,
};

/// The user id of the container's root outside.
const ROOT: u32 = 100_000;

/// An app in its own user, mount, cgroup and network namespaces, as LXC and rootless runtimes make them.
///
/// Its root has every capability inside, owns the network namespace, and may make cgroups below its own.
/// Unlike in a real container, the machine's files stay visible. `Drop` ends it.
#[derive(Debug)]
pub struct Jail {
    init: Child,
    files: TempDir,
    app: App,
}

impl Jail {
    /// Starts a container with `address` on the network.
    pub fn new(network: &Network, address: Ipv4Addr) -> Self {
        let cgroup = Cgroup::new();
        // systemd also gives these files to a user to whom it delegates a cgroup.
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(cgroup.path().join(file), Some(ROOT), Some(ROOT)).expect("delegate a cgroup");
        }
        let mut init = Command::new("cat");
        // `cat` ends with its input, and the input ends with this process.
        init.in_cgroup(&cgroup).stdin(Stdio::piped()).stdout(Stdio::null());
        let namespaces = CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWNET;
        // SAFETY: unshare(2) is only a system call, and nothing here allocates.
        unsafe { init.pre_exec(move || Ok(unshare(namespaces)?)) };
        let init = init.spawn().expect("start a container");
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", init.id()), format!("0 {ROOT} 65536"))
                .unwrap_or_else(|error| panic!("write {map}: {error}"));
        }
        let host = NetNs::of(init.id());
        network.connect(&host, address);
        let files = tempfile::Builder::new()
            .prefix(&leftovers::test_name())
            .rand_bytes(0)
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .expect("make a directory");
        Self { init, files, app: App { host, cgroup } }
    }

    /// The container's host and cgroup, as its machine sees them.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Copies a program to a directory where the container can run it. Everything in the directory is public.
    pub fn install(&self, program: &Path) -> PathBuf {
        let copy = self.files.path().join(program.file_name().expect("a program has a name"));
        if !copy.exists() {
            copy_program(program, &copy);
        }
        copy
    }

    /// Makes an empty directory for a mount.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.files.path().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("make {path:?}: {error}"));
        path
    }

    /// A command that runs as the container's root.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.in_cgroup(&self.app.cgroup);
        // The user namespace comes first: it gives the right to enter the others.
        let namespaces = [
            ("user", CloneFlags::CLONE_NEWUSER),
            ("mnt", CloneFlags::CLONE_NEWNS),
            ("cgroup", CloneFlags::CLONE_NEWCGROUP),
            ("net", CloneFlags::CLONE_NEWNET),
        ]
        .map(|(name, kind)| {
            let path = format!("/proc/{}/ns/{name}", self.init.id());
            (File::open(&path).unwrap_or_else(|error| panic!("open {path}: {error}")), kind)
        });
        let enter = move || -> io::Result<()> {
            for (namespace, kind) in &namespaces {
                setns(namespace, *kind)?;
            }
            setgroups(&[])?;
            let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
            setresgid(group, group, group)?;
            Ok(setresuid(user, user, user)?)
        };
        // SAFETY: the process has one thread, and only makes system calls. Nothing here allocates.
        unsafe { command.pre_exec(enter) };
        command
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}
